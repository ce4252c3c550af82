package fetcher

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"modelfs/internal/model"
)

// TestBitmapProperty holds the bitmap against a map.
func TestBitmapProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 300).Draw(t, "n")
		var b bitmap
		b.grow(n)
		ref := map[int64]bool{}
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			i := rapid.Int64Range(0, max(n-1, 0)).Draw(t, "i")
			if n == 0 {
				break
			}
			if rapid.Bool().Draw(t, "add") {
				if b.add(i) == ref[i] {
					t.Fatalf("add(%d) says the opposite", i)
				}
				ref[i] = true
			} else {
				b.remove(i)
				delete(ref, i)
			}
		}
		from, limit := rapid.Int64Range(0, 310).Draw(t, "from"), rapid.Int64Range(0, 310).Draw(t, "limit")
		if got, want := b.nextMissing(from, limit), refNext(ref, from, limit, false); got != want {
			t.Fatalf("nextMissing(%d, %d) = %d, want %d", from, limit, got, want)
		}
		if got, want := b.nextPresent(from, limit), refNext(ref, from, limit, true); got != want {
			t.Fatalf("nextPresent(%d, %d) = %d, want %d", from, limit, got, want)
		}
		if b.count != int64(len(ref)) || b.full() != (int64(len(ref)) == n) {
			t.Fatalf("count %d of %d, want %d", b.count, n, len(ref))
		}
	})
}

func refNext(ref map[int64]bool, from, limit int64, want bool) int64 {
	for i := from; i < limit; i++ {
		if ref[i] == want {
			return i
		}
	}
	return max(limit, min(from, limit))
}

func TestStreams(t *testing.T) {
	type read struct{ off, n int64 }
	seq := func(from, to, piece int64) (rs []read) {
		for off := from; off < to; off += piece {
			rs = append(rs, read{off, piece})
		}
		return rs
	}
	shuffled := seq(64*mib, 80*mib, mib)
	for i := 0; i+3 < len(shuffled); i += 4 {
		slices.Reverse(shuffled[i : i+4])
	}
	tests := []struct {
		name   string
		reads  []read
		moving int   // streams that move
		ahead  int64 // of the last moving one, in a file of 1 GiB
	}{
		{"head", []read{{0, 128 << 10}}, 1, 128<<10 + firstWindow},
		{"head costs the head", seq(0, 6*mib, 128<<10), 1, headCost},
		{"past the head", seq(0, 9*mib, mib), 1, 9*mib + 2*firstWindow},
		{"one large random read, split", seq(100*mib, 102*mib, mib), 0, 0},
		{"middle", seq(100*mib, 104*mib, mib), 1, 104*mib + firstWindow},
		{"out of order", shuffled, 1, 0},
		{"small steps", seq(100*mib, 104*mib, 4096), 1, 104*mib + firstWindow},
		{"far apart", []read{{10 * mib, mib}, {500 * mib, mib}, {90 * mib, mib}, {700 * mib, mib}}, 0, 0},
		{"two at once", mix(seq(100*mib, 110*mib, mib), seq(500*mib, 510*mib, mib)), 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var ss streams
			for _, r := range tt.reads {
				ss.note(r.off, r.n, 0)
			}
			moving := 0
			for _, s := range ss.all {
				if s.moving() {
					moving++
				}
			}
			if moving != tt.moving {
				t.Fatalf("%d streams move, want %d", moving, tt.moving)
			}
			if tt.ahead > 0 && ss.last.ahead(1<<30) != tt.ahead {
				t.Errorf("fetches ahead to %d, want %d", ss.last.ahead(1<<30), tt.ahead)
			}
		})
	}
}

func mix[T any](a, b []T) []T {
	var m []T
	for i := range a {
		m = append(m, a[i], b[i])
	}
	return m
}

func TestStreamWindowGrows(t *testing.T) {
	var ss streams
	for off := int64(0); off < 1<<30; off += mib {
		ss.note(off, mib, 0)
	}
	if len(ss.all) != 1 || ss.last.window != mostWindow {
		t.Fatalf("%d streams, window %d, want one with %d", len(ss.all), ss.last.window, mostWindow)
	}
	for off := int64(1 << 30); off < 4<<30; off += mib {
		ss.note(off, mib, 400*mib)
	}
	if want := int64(400 * mib * windowTime.Seconds()); ss.last.window != want {
		t.Errorf("window %d at 400 MiB/s, want %d", ss.last.window, want)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	var ss streams
	for off := int64(0); off < 8*mib; off += mib {
		ss.note(off, mib, 0)
	}
	kept := ss.last
	for i := range int64(1000) {
		ss.note(i%97*(100*mib)+(1<<31), 4096, 0)
		if i%50 == 0 {
			ss.note(8*mib+i*1000, 4096, 0)
		}
	}
	if len(ss.all) > maxStreams {
		t.Errorf("%d streams are remembered", len(ss.all))
	}
	if !slices.Contains(ss.all, kept) {
		t.Error("the moving stream was forgotten for places that were read once")
	}
}

func TestRamp(t *testing.T) {
	tests := []struct {
		name  string
		speed func(lanes int) float64
		want  int
	}{
		{"each connection is limited", func(n int) float64 { return float64(n) * 100e6 }, mostLanes},
		{"the link is the limit", func(int) float64 { return 500e6 }, firstLanes},
		{"more connections are worse", func(n int) float64 { return 500e6 / float64(n) }, firstLanes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRamp()
			now, bytes := time.Unix(0, 0), int64(0)
			most := 0
			for range 9 {
				r.observe(now, bytes)
				most = max(most, r.target)
				now = now.Add(rampTime)
				bytes += int64(tt.speed(r.target) * rampTime.Seconds())
			}
			if r.target != tt.want || most > mostLanes {
				t.Errorf("%d lanes (at most %d), want %d", r.target, most, tt.want)
			}
		})
	}
}

func TestRampSetback(t *testing.T) {
	r := newRamp()
	for range 5 {
		r.setback(time.Unix(0, 0))
	}
	if r.target != leastLanes {
		t.Errorf("%d lanes after setbacks, want %d", r.target, leastLanes)
	}
}

func TestRangeSize(t *testing.T) {
	tests := []struct {
		name string
		conn float64
		ttfb time.Duration
		left int64
		want int64
	}{
		{"half a second", 20 * mib, 0, 1 << 30, 10 * mib},
		{"at most", 1 << 30, 0, 10 << 30, mostRange},
		{"at least", 1000, 0, 1 << 30, leastRange},
		{"shorter towards the end", 100 * mib, 0, 64 * mib, 8 * mib},
		{"but worth the wait", 100 * mib, 50 * time.Millisecond, 16 * mib, 5 * mib},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := pace{conn: tt.conn, ttfb: tt.ttfb}
			if got := p.rangeSize(tt.left, 4); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestSiblingsOf(t *testing.T) {
	files := []model.File{
		{Path: "README.md"}, {Path: "m-00001-of-00003.safetensors"}, {Path: "m-00002-of-00003.safetensors"},
		{Path: "m-00003-of-00003.safetensors"}, {Path: "m-00001-of-00002.gguf"}, {Path: "other-00001-of-00003.safetensors"},
	}
	m := &model.Model{Files: files}
	tests := map[string][]string{
		"m-00002-of-00003.safetensors": {"m-00003-of-00003.safetensors", "m-00001-of-00003.safetensors"},
		"m-00001-of-00002.gguf":        nil,
		"README.md":                    nil,
	}
	for path, want := range tests {
		var got []string
		for _, f := range siblingsOf(m, path) {
			got = append(got, f.Path)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("set of %s: %s", path, d)
		}
	}
}

// TestACompleteFillIsVerified: the last bytes may come, and the request for
// them end, between run's look at what is to be verified and its end; what
// tells it so is not heard any more then.
func TestACompleteFillIsVerified(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name  string
		phase phase
		here  bool
		retry time.Time
		wait  time.Duration
		more  bool
	}{
		{"complete", filling, true, time.Time{}, 0, true},
		{"complete, and the disk did not keep it", filling, true, now.Add(verifyAgain), verifyAgain, true},
		{"being verified", verifying, true, time.Time{}, 0, false},
		{"incomplete, and nobody wants it", filling, false, time.Time{}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := &fill{board: newBoard(blockSize), phase: tt.phase, running: true, retry: tt.retry}
			if tt.here {
				l.have.add(0)
			}
			if wait, more := l.rest(now); wait != tt.wait || more != tt.more || l.running != tt.more {
				t.Errorf("rest() = %v, %v; running %v", wait, more, l.running)
			}
		})
	}
}

// What is remembered of attempts is bounded, but for what is being filled.
func TestAttemptsAreBounded(t *testing.T) {
	f := &Fetcher{corrupt: make(map[fillID]*corruption), fills: make(map[fillID]*fill)}
	first := fillID{Key: model.OnceKey()}
	f.fills[first] = &fill{}
	f.countAttempt(first)
	for range mostRemembered + 100 {
		f.countAttempt(fillID{Key: model.OnceKey()})
	}
	if n := len(f.corrupt); n > mostRemembered || f.corrupt[first] == nil {
		t.Errorf("%d attempts are remembered, that of the file at hand among them: %v", n, f.corrupt[first] != nil)
	}
}

// A fill that is held to an address is begun anew only where that can help, and
// not before its answer was remembered for as long as others are.
func TestStuck(t *testing.T) {
	one, two := []string{"a"}, []string{"a", "b"}
	for _, tt := range []struct {
		name  string
		key   model.Key
		urls  []string
		err   error
		until time.Time
		want  bool
	}{
		{"the address fails", model.OnceKey(), two, errSilent, time.Time{}, true},
		{"and its answer is remembered", model.OnceKey(), two, errSilent, epoch.Add(time.Second), false},
		{"it gives bytes", model.OnceKey(), two, nil, time.Time{}, false},
		{"there is no other", model.OnceKey(), one, errSilent, time.Time{}, false},
		{"what is here is kept", model.AtKey("org/m", "c", "f"), two, errSilent, time.Time{}, false},
	} {
		l := &fill{id: fillID{Key: tt.key}, file: model.File{URLs: tt.urls}, cands: []*candidate{{err: tt.err}}, failUntil: tt.until, fail: errSilent}
		if got := l.stuck(epoch); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
