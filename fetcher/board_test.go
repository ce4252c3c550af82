package fetcher

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Unix(1_000_000, 0)

// waitFor registers a read of the board.
func waitFor(b *board, off, n int64) *waiter {
	w := &waiter{off: off, n: n, since: epoch, ready: make(chan struct{})}
	if !b.wait(w) {
		return nil
	}
	return w
}

func TestDemandIsExact(t *testing.T) {
	tests := []struct {
		name   string
		have   []int64 // blocks
		reads  [][2]int64
		expect []request
	}{
		{"one block", nil, [][2]int64{{70 << 20, 4096}}, []request{{off: 70 << 20, end: 70<<20 + blockSize}}},
		{"unaligned", nil, [][2]int64{{70<<20 + 100, blockSize}}, []request{{off: 70 << 20, end: 70<<20 + 2*blockSize}}},
		{"the head is one request", nil, [][2]int64{{0, 4096}}, []request{{off: 0, end: demandHead}}},
		{"a hole in the middle", []int64{1121}, [][2]int64{{70 << 20, 3 * blockSize}},
			[]request{{off: 1120 * blockSize, end: 1121 * blockSize}, {off: 1122 * blockSize, end: 1123 * blockSize}}},
		{"neighbours join", nil, [][2]int64{{70 << 20, blockSize}, {70<<20 + blockSize, blockSize}},
			[]request{{off: 70 << 20, end: 70<<20 + 2*blockSize}}},
		{"twice the same", nil, [][2]int64{{70 << 20, mib}, {70 << 20, mib}}, []request{{off: 70 << 20, end: 71 << 20}}},
		{"end of the file", nil, [][2]int64{{100<<20 - 10, 10}}, []request{{off: 100<<20 - blockSize, end: 100 << 20}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBoard(100 << 20)
			for _, i := range tt.have {
				b.have.add(i)
			}
			for _, r := range tt.reads {
				waitFor(b, r[0], r[1])
			}
			for i, want := range tt.expect {
				r, ok := b.nextDemand(epoch)
				if !ok || r.off != want.off || r.end != want.end || r.class != demand {
					t.Fatalf("request %d: %v %+v, want [%d, %d)", i, ok, r, want.off, want.end)
				}
				b.begin(r, epoch)
			}
			if r, ok := b.nextDemand(epoch); ok {
				t.Errorf("one more request: %+v", r)
			}
		})
	}
}

// TestDemandIsGenerousWhereAllIsWanted: in a file that is being filled a few
// blocked readers' requests bring what is around them, too; those beyond
// freeDemands, and all where only reading counts, are exact.
func TestDemandIsGenerousWhereAllIsWanted(t *testing.T) {
	b := newBoard(1 << 30)
	b.generous = true
	b.have.add((70*mib + 3*mib) / blockSize)
	for i := range int64(freeDemands + 1) {
		waitFor(b, (70+10*i)*mib, mib)
	}
	for i := range int64(freeDemands + 1) {
		off, n := (70+10*i)*mib, int64(demandJoin)
		switch i {
		case 0:
			n = 3 * mib // up to what is here
		case freeDemands:
			n = mib
		}
		r, ok := b.nextDemand(epoch)
		if !ok || r.off != off || r.end != off+n {
			t.Errorf("request %d: %v [%d, %d), want %d bytes at %d", i, ok, r.off, r.end, n, off)
		}
		b.begin(r, epoch)
	}
}

func TestDemandWaitsForWhatIsNear(t *testing.T) {
	b := newBoard(1 << 30)
	b.pace = pace{ttfb: 20 * time.Millisecond, conn: 100 * mib, seen: true}
	tr := b.begin(request{class: background, off: 0, end: 64 * mib}, epoch)
	tr.first, tr.last, tr.got = epoch, epoch.Add(100*time.Millisecond), 10*mib
	tr.pos = 10 * mib
	now := tr.last
	near, far := waitFor(b, 11*mib, mib), waitFor(b, 40*mib, mib)
	r, ok := b.nextDemand(now)
	if !ok || r.off != 40*mib || r.doubles != far {
		t.Fatalf("%v %+v, want a request for the far read", ok, r)
	}
	b.begin(r, now)
	if r, ok := b.nextDemand(now); ok {
		t.Fatalf("one more request: %+v", r)
	}
	b.sweep()
	later := now.Add(2 * time.Second) // and nothing came
	if r, ok = b.nextDemand(later); !ok || r.doubles != near {
		t.Errorf("%v %+v, want a request for the near read that did not come", ok, r)
	}
}

func TestEarlyReadsAreLeftToTheLanes(t *testing.T) {
	b := newBoard(1 << 30)
	for off := int64(64 * mib); off < 72*mib; off += mib {
		w := &waiter{off: off, n: mib, since: epoch, ready: make(chan struct{}), stream: b.streams.note(off, mib, 0)}
		b.wait(w)
	}
	b.begin(request{class: ahead, off: 64 * mib, end: 66 * mib}, epoch)
	for {
		r, ok := b.nextDemand(epoch)
		if !ok {
			break
		}
		if r.off >= 68*mib {
			t.Fatalf("a request of its own for a read that is ahead of its stream: %+v", r)
		}
		b.begin(r, epoch)
	}
	if r, ok := b.nextLane(allowance{}, epoch); !ok || r.class != ahead {
		t.Errorf("%v %+v, want a lane", ok, r)
	}
}

func TestLanesOrder(t *testing.T) {
	b := newBoard(256 * mib)
	if r, ok := b.nextLane(allowance{}, epoch); ok {
		t.Fatalf("a lane without a stream or a turn: %+v", r)
	}
	for off := int64(100 * mib); off < 104*mib; off += mib {
		b.streams.note(off, mib, 0)
	}
	r, ok := b.nextLane(allowance{background: true}, epoch)
	if !ok || r.class != ahead || r.off != 104*mib {
		t.Fatalf("%v %+v, want read-ahead first", ok, r)
	}
	seen := map[int64]bool{}
	b.ramp.target = 1000
	last := int64(-1)
	wrapped := false
	for {
		r, ok := b.nextLane(allowance{background: true}, epoch)
		if !ok {
			break
		}
		if r.off < last {
			wrapped = true
		}
		last = r.off
		b.begin(r, epoch)
		for i := r.off / blockSize; i < blocksOf(r.end); i++ {
			if seen[i] {
				t.Fatalf("block %d is asked for twice", i)
			}
			seen[i] = true
		}
	}
	if int64(len(seen)) != b.blocks() || !wrapped {
		t.Errorf("%d of %d blocks, wrapped around: %v", len(seen), b.blocks(), wrapped)
	}
}

func TestBackgroundYieldsToReaders(t *testing.T) {
	b := newBoard(1 << 30)
	b.ramp.target = mostLanes
	a := allowance{background: true, yield: 30}
	n := 0
	for ; n < 20; n++ {
		r, ok := b.nextLane(a, epoch)
		if !ok {
			break
		}
		b.begin(r, epoch)
	}
	if n != leastLanes {
		t.Errorf("%d lanes beside 30 blocked readers, want %d", n, leastLanes)
	}
}

func TestStealHalvesTheSlowest(t *testing.T) {
	b := newBoard(64 * mib)
	slow := b.begin(request{class: background, off: 0, end: 32 * mib}, epoch)
	slow.first, slow.last, slow.got, slow.pos = epoch, epoch.Add(time.Second), 2*mib, 2*mib
	fast := b.begin(request{class: background, off: 32 * mib, end: 64 * mib}, epoch)
	fast.first, fast.last, fast.got, fast.pos = epoch, epoch.Add(time.Second), 30*mib, 62*mib
	for i := range b.blocks() {
		if b.claimed(i) == nil {
			b.have.add(i)
		}
	}
	now := epoch.Add(time.Second)
	r, ok := b.nextLane(allowance{background: true}, now)
	if !ok || r.victim != slow || r.off != 17*mib || r.end != 32*mib {
		t.Fatalf("%v %+v, want the second half of the slow one", ok, r)
	}
	if b.begin(r, now) == nil || slow.end != 17*mib {
		t.Errorf("the slow one ends at %d", slow.end)
	}
	if b.begin(r, now) != nil {
		t.Error("the same half is taken twice")
	}
}

// The last range of a file, on a connection that drips, is shorter than what is
// worth halving; without a reader that it holds up nobody else would end it.
func TestStealTakesWhatDrips(t *testing.T) {
	b := newBoard(4 * mib)
	b.pace = pace{ttfb: 10 * time.Millisecond, conn: 50 * mib, seen: true, steady: true}
	drips := b.begin(request{class: background, off: 3 * mib, end: 4 * mib}, epoch)
	drips.first, drips.got = epoch, 20_000
	for i := range b.blocks() {
		if b.claimed(i) == nil {
			b.have.add(i)
		}
	}
	drips.last = epoch.Add(900 * time.Millisecond)
	if r, ok := b.nextLane(allowance{background: true}, drips.last); ok {
		t.Fatalf("%+v: it has hardly begun", r)
	}
	drips.last, drips.got = epoch.Add(2*time.Second), blockSize
	b.have.add(drips.pos / blockSize)
	drips.pos += blockSize
	r, ok := b.nextLane(allowance{background: true}, drips.last)
	if !ok || r.victim != drips || r.off != drips.pos+blockSize || r.end != 4*mib {
		t.Fatalf("%v %+v, want all but the block that it is at", ok, r)
	}
	if b.begin(r, drips.last) == nil || drips.end != r.off {
		t.Errorf("it ends at %d", drips.end)
	}
}

func TestRescueCutsWhatHoldsAReaderUp(t *testing.T) {
	b := newBoard(64 * mib)
	b.pace = pace{ttfb: 10 * time.Millisecond, conn: 50 * mib, seen: true, steady: true}
	slow := b.begin(request{class: ahead, off: 0, end: 32 * mib}, epoch)
	slow.first, slow.last, slow.got, slow.pos = epoch, epoch.Add(2*time.Second), 2*mib, 2*mib
	dead := b.begin(request{class: demand, off: 40 * mib, end: 41 * mib}, epoch)
	now := epoch.Add(4 * time.Second)
	slow.last, b.flowed = now, now
	waitFor(b, 2*mib, mib)
	waitFor(b, 40*mib, mib)
	gone := b.rescue(now)
	if len(gone) != 1 || gone[0] != dead || !dead.dropped {
		t.Errorf("dropped %v, want the silent one", gone)
	}
	if slow.end > 3*mib {
		t.Errorf("the slow one may go on to %d", slow.end)
	}
	if again := b.again.Load(); again != 32*mib-slow.end+mib {
		t.Errorf("%d bytes count as asked for again", again)
	}
	if r, ok := b.nextDemand(now); !ok || r.off > 40*mib {
		t.Errorf("%v %+v: nobody asks for what was taken", ok, r)
	}
}

// TestAskedAgain: what a second request covers is counted, however it came to
// that; what was asked for once is not.
func TestAskedAgain(t *testing.T) {
	tests := []struct {
		name string
		do   func(b *board, t *transfer) // t is to bring [0, 8 MiB) and has brought 2
		want int64
	}{
		{"nothing", func(*board, *transfer) {}, 0},
		{"it ends well", func(b *board, t *transfer) { t.pos = t.end; b.finish(t) }, 0},
		{"it fails", func(b *board, t *transfer) { b.finish(t) }, 6 * mib},
		{"half is taken", func(b *board, t *transfer) {
			b.begin(request{class: background, off: 5 * mib, end: 8 * mib, victim: t}, epoch)
		}, 3 * mib},
		{"half is taken, then it fails", func(b *board, t *transfer) {
			b.begin(request{class: background, off: 5 * mib, end: 8 * mib, victim: t}, epoch)
			b.finish(t)
		}, 6 * mib},
		{"a reader's request doubles it", func(b *board, t *transfer) {
			b.begin(request{class: demand, off: 3 * mib, end: 4 * mib, doubles: &waiter{}}, epoch)
		}, mib},
		{"another range", func(b *board, _ *transfer) {
			b.begin(request{class: demand, off: 9 * mib, end: 10 * mib}, epoch)
		}, 0},
		{"the one stream begins anew", func(b *board, t *transfer) {
			b.finish(t)
			b.begin(request{class: whole, end: 16 * mib}, epoch)
		}, 8 * mib},
		{"the length is not known", func(b *board, t *transfer) { t.end = unbounded; b.finish(t) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBoard(16 * mib)
			first := b.begin(request{class: background, end: 8 * mib}, epoch)
			b.arrive(0, make([]byte, 2*mib), true)
			first.pos = 2 * mib
			tt.do(b, first)
			if got := b.again.Load(); got != tt.want {
				t.Errorf("%d bytes, want %d", got, tt.want)
			}
		})
	}
}

// TestBoardProperty: whatever arrives in whatever order, a reader is woken
// exactly when its last block is there, and has the right bytes where they
// were not stored.
func TestBoardProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const blocks = 40
		content := make([]byte, blocks*blockSize-777)
		for i := range content {
			content[i] = byte(i / 251)
		}
		b := newBoard(int64(len(content)))
		live := map[*waiter][]byte{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				off := rapid.Int64Range(0, int64(len(content))-1).Draw(t, "off")
				n := min(rapid.Int64Range(1, 10*blockSize).Draw(t, "n"), int64(len(content))-off)
				p := make([]byte, n)
				w := &waiter{off: off, n: n, p: p, ready: make(chan struct{})}
				if b.wait(w) {
					live[w] = p
				} else if b.have.nextMissing(off/blockSize, blocksOf(off+n)) != blocksOf(off+n) {
					t.Fatal("a read of missing blocks need not wait")
				}
			case 1:
				first := rapid.Int64Range(0, blocks-1).Draw(t, "first")
				end := min(first+rapid.Int64Range(1, 8).Draw(t, "blocks"), blocks)
				to := min(end*blockSize, int64(len(content)))
				stored := rapid.Bool().Draw(t, "stored")
				for _, w := range b.arrive(first*blockSize, content[first*blockSize:to], stored) {
					checkWoken(t, b, w, live[w], content)
					delete(live, w)
				}
			case 2:
				for w := range live {
					b.settle(w)
					delete(live, w)
					break
				}
			}
		}
		for w := range live {
			if w.need == 0 || w.settled {
				t.Fatal("a reader has all it needs and was not woken")
			}
			b.settle(w)
		}
		if len(b.waiting) != 0 {
			t.Fatalf("%d blocks are waited for by nobody", len(b.waiting))
		}
	})
}

func checkWoken(t *rapid.T, b *board, w *waiter, p, content []byte) {
	for i := w.first; i < blocksOf(w.off+w.n); i++ {
		copied := w.got&(1<<(i-w.first)) != 0
		if !copied && !b.have.has(i) {
			t.Fatalf("woken without block %d", i)
		}
		from, to := max(w.off, i*blockSize), min(w.off+w.n, (i+1)*blockSize)
		if copied && !bytes.Equal(p[from-w.off:to-w.off], content[from:to]) {
			t.Fatalf("block %d was copied wrongly", i)
		}
	}
}
