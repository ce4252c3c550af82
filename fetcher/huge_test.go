package fetcher

import (
	"context"
	"testing"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// A listing may state any size. What no file can have is refused before memory
// is taken for what is here of it.
func TestASizeThatNoFileHasTakesNoMemory(t *testing.T) {
	r := newRig(t)
	v, file := r.one(hubtest.Pattern(3, mib))
	for _, size := range []int64{1 << 60, 1<<63 - 1} {
		file.Size = size
		if _, err := r.f.Open(context.Background(), v, file); !model.IsKind(err, model.NoSpace) {
			t.Errorf("open of a file of %d bytes: %v", size, err)
		}
	}
}
