package fetcher

import (
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/hubtest"
)

// TestReadWholeFile: over TCP, and in virtual time, where a busy machine makes
// no connection seem silent: there nothing is fetched twice.
func TestReadWholeFile(t *testing.T) {
	t.Run("loopback", func(t *testing.T) { readWholeFile(t) })
	t.Run("in memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, sent := readWholeFile(t, inMemory)
			if most := c.Size() * 102 / 100; sent > most {
				t.Errorf("%d bytes were sent for a file of %d", sent, c.Size())
			}
		})
	})
}

// readWholeFile reads a file twice, and says how many bytes the origin sent.
func readWholeFile(t *testing.T, opts ...rigOption) (c *hubtest.PatternContent, sent int64) {
	r := newRig(t, opts...)
	c = hubtest.Pattern(1, 64*mib+12345)
	v, file := r.one(c)
	rd := r.open(v, file)
	readAll(t, rd, c, mib)
	within(t, 10*time.Second, "the fill completes", func() bool { return r.f.State(v.Model, file).Complete })
	must(t, rd.Close())
	rd = r.open(v, file)
	defer rd.Close()
	if rd.File() == nil {
		t.Fatal("a complete file has no descriptor for passthrough")
	}
	readAll(t, rd, c, mib)
	return c, r.sent()
}
