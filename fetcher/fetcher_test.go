package fetcher

import (
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

func TestReadWholeFile(t *testing.T) {
	r := newRig(t)
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
	if got, most := r.sent(), c.Size()*102/100; got > most {
		t.Errorf("%d bytes were sent for a file of %d", got, c.Size())
	}
}
