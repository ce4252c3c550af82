package mountinfo

import (
	"testing"

	"modelfs/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
