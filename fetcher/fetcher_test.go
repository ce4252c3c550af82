package fetcher

import (
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/hubtest"
)

// TestReadWholeFile: no byte is sent twice but what is known to have been asked
// for twice; and in virtual time, where a busy machine makes no connection seem
// silent, nothing is.
func TestReadWholeFile(t *testing.T) {
	t.Run("loopback", func(t *testing.T) { readWholeFile(t) })
	t.Run("in memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			if again := readWholeFile(t, inMemory).Again; again != 0 {
				t.Errorf("%d bytes were asked for twice", again)
			}
		})
	})
}

// readWholeFile reads a file twice and compares what the origin sent with what
// it was asked for.
func readWholeFile(t *testing.T, opts ...rigOption) Stats {
	r := newRig(t, opts...)
	c := hubtest.Pattern(1, 64*mib+12345)
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
	stats := r.f.Stats()
	if sent := r.sent(); sent < c.Size() || sent > c.Size()+stats.Again {
		t.Errorf("%d bytes were sent for a file of %d, of which %d were asked for twice", sent, c.Size(), stats.Again)
	}
	return stats
}
