package fetcher

import (
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// aFill is a fill that is only a name: it can stand in lines and be poked.
func aFill() *fill { return &fill{board: newBoard(0), kick: make(chan struct{}, 1), running: true} }

func poked(l *fill) bool {
	select {
	case <-l.kick:
		return true
	default:
		return false
	}
}

func TestDemandSlots(t *testing.T) {
	s := newSlots()
	busy, first, second, idle := aFill(), aFill(), aFill(), aFill()
	for i := range mostDemand {
		if !s.takeDemand(busy, i) {
			t.Fatalf("no slot after %d", i)
		}
	}
	if s.busy() != mostDemand || s.crowded() {
		t.Fatalf("%d busy, crowded %v", s.busy(), s.crowded())
	}
	for _, l := range []*fill{busy, first, second} {
		holds := 0
		if l == busy {
			holds = mostDemand
		}
		for range 2 {
			if s.takeDemand(l, holds) {
				t.Fatal("a slot above the limit")
			}
		}
	}
	if !s.crowded() {
		t.Error("nobody is seen in line")
	}
	s.giveDemand()
	if !poked(first) || poked(busy) || poked(second) {
		t.Error("the slot is not offered to the first that holds none")
	}
	if s.takeDemand(second, 0) || s.takeDemand(idle, 0) {
		t.Error("a slot out of turn")
	}
	s.quitDemand(first)
	if !poked(second) {
		t.Error("who leaves the line leaves the slot unused")
	}
	if !s.takeDemand(second, 0) {
		t.Error("no slot in its turn")
	}
}

func TestLaneSlots(t *testing.T) {
	s := newSlots()
	a, b := aFill(), aFill()
	for range lanesPerHost {
		if !s.takeLane(a, "one", background) {
			t.Fatal("no lane below the limit")
		}
	}
	if s.takeLane(b, "one", ahead) {
		t.Fatal("a lane above the host's limit")
	}
	s.giveLane("one")
	if !poked(b) {
		t.Error("a free lane is not offered")
	}
	if s.takeLane(a, "one", background) {
		t.Error("the background goes before read-ahead")
	}
	if !s.takeLane(b, "one", ahead) {
		t.Error("read-ahead has no lane")
	}
	for range mostAllLanes - lanesPerHost {
		if !s.takeLane(b, "two", ahead) {
			t.Fatal("another host's lanes count against the limit of the first")
		}
	}
	if s.takeLane(b, "two", ahead) {
		t.Error("more lanes than there may be in all")
	}
	s.quitLane(b)
	s.quitLane(a)
	for range lanesPerHost {
		s.giveLane("one")
	}
	if len(s.lanes) != 1 {
		t.Errorf("hosts that nobody uses are remembered: %v", s.lanes)
	}
}

// TestMemoryIsBounded: the buffers of all transfers that there may be.
func TestMemoryIsBounded(t *testing.T) {
	if most := mostDemand*demandBuffer + mostAllLanes*laneBuffer; most > 48*mib {
		t.Errorf("%d bytes of buffers", most)
	}
}

func TestForgottenBytesAreFetchedAgain(t *testing.T) {
	r := newRig(t)
	c := hubtest.Pattern(5, 40*mib)
	v, file := r.one(c)
	rd := r.open(v, file)
	defer rd.Close()
	readAt(t, rd, c, 20*mib, mib)
	l := rd.(*fillReader).l
	l.mu.Lock()
	for i := range int64(16) { // the board believes in bytes that the part has not
		l.have.add(30*mib/blockSize + i)
	}
	l.mu.Unlock()
	readAt(t, rd, c, 30*mib, mib)
}

func TestStateOfUnknownFile(t *testing.T) {
	r := newRig(t)
	v, file := r.one(hubtest.Pattern(5, mib))
	if got, want := r.f.State(v.Model, file), (model.FileState{Size: mib}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A fill that wanted a lane, and whose origin then turned out to serve no
// ranges, must not be waited for: the background of all others would be.
func TestWhoNeedsNoLaneLeavesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(3, 20*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		s := r.f.slots
		s.mu.Lock()
		s.all = mostAllLanes // those of others
		s.mu.Unlock()
		r.hub.Fault(hubtest.Filter{Host: hubtest.AtCDN}, hubtest.Always(), hubtest.IgnoreRange())
		readAll(t, rd, c, mib)
		must(t, rd.Close())
		synctest.Wait()
		s.mu.Lock()
		want, line := len(s.want), len(s.line)
		s.all = 0
		s.mu.Unlock()
		if want > 0 || line > 0 {
			t.Errorf("%d fills want a lane and %d a slot, though nothing is read", want, line)
		}
		if !s.takeLane(aFill(), "host", background) {
			t.Error("the background of another file waits for one that is done")
		}
	})
}

// The last bytes may come between a fill's wish for a slot and its end: it must
// leave the line, where it would keep everybody behind it from theirs.
func TestWhoIsCompleteLeavesTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		v, file := r.one(hubtest.Pattern(3, 20*mib))
		rd := r.open(v, file)
		defer rd.Close()
		l := rd.(*fillReader).l
		s := r.f.slots
		for range mostDemand {
			s.takeDemand(aFill(), 0)
		}
		s.takeDemand(l, 0)
		s.mu.Lock()
		s.want[l] = ahead
		s.mu.Unlock()
		l.mu.Lock()
		for b := range l.blocks() {
			l.have.add(b)
		}
		l.mu.Unlock()
		if !l.verifyDue(time.Now()) {
			t.Fatal("it is not complete")
		}
		l.phase = filling
		if s.place(l) >= 0 || len(s.want) > 0 {
			t.Error("a fill that is complete still waits for connections")
		}
	})
}
