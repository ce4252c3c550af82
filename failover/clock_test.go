package failover

import (
	"testing"
	"time"
	"unsafe"
)

// aheadBy is a time as it was read when the wall clock was ahead by d; it has
// been set back since.
func aheadBy(t time.Time, d time.Duration) time.Time {
	const monotonic, secondsAt = 1 << 63, 30 // as package time lays a Time out
	wall := (*uint64)(unsafe.Pointer(&t))
	if *wall&monotonic == 0 {
		panic("a time without a monotonic reading")
	}
	*wall += uint64(d/time.Second) << secondsAt
	return t
}

// A wall clock that is set back must not make a share that hangs one that has
// just answered.
func TestSilenceWhenTheClockIsSetBack(t *testing.T) {
	long := time.Now().Add(-time.Minute)
	jumped := aheadBy(long, time.Hour)
	if d := time.Since(jumped); d < time.Minute {
		t.Fatalf("the time is %v ago and not a minute: it can't stand for one that was read then", d)
	}
	f := New(Config{})
	defer f.Close()
	x := &File{f: f, health: f.healthOf("shared:/nas")}
	x.health.answered(jumped)
	if !x.silent(long) {
		t.Error("a share that has not answered for a minute is not silent")
	}
	x.health.answered(time.Now())
	if x.silent(long) {
		t.Error("a share that has just answered is silent")
	}
}
