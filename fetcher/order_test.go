package fetcher

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

func TestHeadCostsTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetLatency(10 * time.Millisecond)
		c := hubtest.Pattern(5, 200*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		readAll(t, rd, prefix{c, 8 * mib}, 128<<10)
		readAt(t, rd, c, c.Size()-mib, mib) // an index at the end
		<-time.After(10 * time.Second)
		if got := r.sent(); got > headCost+2*mib {
			t.Errorf("the head and the tail cost %d bytes", got)
		}
	})
}

func TestBackgroundStartsPastTheHead(t *testing.T) {
	tests := []struct {
		name    string
		touched bool
		settled bool
		off     int64
		whole   bool
	}{
		{"past the head", false, true, 9 * mib, true},
		{"only what is touched", true, true, 9 * mib, false},
		{"a higher source was silent", false, false, 9 * mib, false},
		{"head", false, true, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory, withConfig(func(c *Config) { c.Touched = tt.touched }))
				c := hubtest.Pattern(5, 100*mib)
				v, file := r.one(c)
				v.Settled = tt.settled
				rd := r.open(v, file)
				readAt(t, rd, c, tt.off, mib)
				must(t, rd.Close()) // the fill stays
				<-time.After(20 * time.Second)
				if got := r.f.State(v.Model, file).Complete; got != tt.whole {
					t.Errorf("complete: %v, want %v (%d bytes sent)", got, tt.whole, r.sent())
				}
				if tt.whole && r.sent() > c.Size()*102/100 {
					t.Errorf("%d bytes sent for %d", r.sent(), c.Size())
				}
			})
		})
	}
}

func TestSiblingsFollow(t *testing.T) {
	for _, fits := range []bool{true, false} {
		t.Run(fmt.Sprintf("fits %v", fits), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				size := int64(100 * mib)
				if !fits {
					size = 60 * mib
				}
				r := newRig(t, inMemory, withMaxSize(size))
				var files []hubtest.File
				for i := range 3 {
					files = append(files, hubtest.File{Path: fmt.Sprintf("m-0000%d-of-00003.safetensors", i+1), Content: hubtest.Pattern(uint64(i), 24*mib), LFS: true})
				}
				files = append(files, hubtest.File{Path: "other.safetensors", Content: hubtest.Pattern(9, 24*mib), LFS: true})
				v := r.view("org/model", files...)
				rd := r.open(v, &v.Files[0])
				readAt(t, rd, files[0].Content, 10*mib, mib)
				must(t, rd.Close())
				<-time.After(time.Minute)
				for i := range v.Files {
					want := i == 0 || fits && i < 3
					if got := r.f.State(v.Model, &v.Files[i]).Complete; got != want {
						t.Errorf("%s complete: %v, want %v", v.Files[i].Path, got, want)
					}
				}
			})
		})
	}
}

// TestMaxFills: one file at a time in the background; the one that is being
// read goes before one that nobody reads any more.
func TestMaxFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetConnRate(5*mib, hubtest.AtCDN)
		a, b := hubtest.Pattern(1, 600*mib), hubtest.Pattern(2, 100*mib)
		v := r.view("org/model", hubtest.File{Path: "a", Content: a, LFS: true}, hubtest.File{Path: "b", Content: b, LFS: true})
		ra := r.open(v, &v.Files[0])
		readAt(t, ra, a, 20*mib, mib)
		must(t, ra.Close())
		rb := r.open(v, &v.Files[1])
		defer rb.Close()
		readAt(t, rb, b, 20*mib, mib)
		<-time.After(8 * time.Second)
		st := r.f.Status()
		done := r.f.State(v.Model, &v.Files[1]).Complete
		if !done || len(st) != 1 || st[0].Path != "a" || st[0].State != "filling" {
			t.Errorf("after the time for b alone: b complete %v, %+v", done, st)
		}
	})
}

// TestManyReadersFetchOnce: 64 readers of one cold file, each at its own pace.
func TestManyReadersFetchOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetLatency(5 * time.Millisecond)
		r.hub.SetConnRate(20*mib, hubtest.AtCDN)
		c := hubtest.Pattern(5, 24*mib) // more than a segment
		v, file := r.one(c)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				rd, err := r.f.Open(context.Background(), v, file)
				if err != nil {
					t.Error(err)
					return
				}
				defer rd.Close()
				p := make([]byte, mib)
				for off := int64(0); off < c.Size(); off += mib {
					if n, err := rd.ReadAt(context.Background(), p, off); n != mib || err != nil || hubtest.Mismatch(c, p, off) >= 0 {
						t.Errorf("read at %d: %d bytes, %v", off, n, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if got := r.sent(); got > c.Size() {
			t.Errorf("%d bytes sent to 64 readers of %d", got, c.Size())
		}
	})
}

// TestStalledReadsDelayNobody: more stalled reads than there are connections,
// of one file and of many, leave another file's reads as they were.
func TestStalledReadsDelayNobody(t *testing.T) {
	for _, files := range []int{1, 20} {
		t.Run(fmt.Sprintf("%d files", files), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory)
				r.hub.SetLatency(20 * time.Millisecond)
				c, good := hubtest.Pattern(5, 300*mib), hubtest.Pattern(6, 300*mib)
				var fs []hubtest.File
				for i := range files {
					fs = append(fs, hubtest.File{Path: fmt.Sprintf("bad%d", i), Content: c, LFS: true})
				}
				bad := r.view("org/bad", fs...)
				for i := range bad.Files {
					bad.Files[i].Key = model.AtKey(bad.Files[i].Path)
				}
				v, file := r.one(good)
				stall := r.hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: "org/bad/*"}, hubtest.Always(), hubtest.StallAt(10))
				var wg sync.WaitGroup
				ctx, cancel := context.WithCancel(context.Background())
				var open []model.Reader
				for i := range 200 {
					rd := r.open(bad, &bad.Files[i%files])
					open = append(open, rd)
					wg.Go(func() { _, _ = rd.ReadAt(ctx, make([]byte, 4096), int64(i)*mib) })
				}
				<-time.After(3 * time.Second)
				rd := r.open(v, file)
				began := time.Now()
				readAt(t, rd, good, 100*mib, mib)
				// One file has slots of its own; twenty have to give one back.
				if d := time.Since(began); d > 300*time.Millisecond {
					t.Errorf("a read of another file took %v", d)
				}
				must(t, rd.Close())
				cancel()
				wg.Wait()
				stall.Remove()
				for _, rd := range open {
					must(t, rd.Close())
				}
			})
		})
	}
}

// TestBlockedReaderOvertakes: a read far away from a fill at full speed is
// answered in about the time of two requests.
func TestBlockedReaderOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetLatency(50 * time.Millisecond)
		r.hub.SetConnRate(50*mib, hubtest.AtCDN)
		c := hubtest.Pattern(5, 1<<30)
		v := r.view("org/model", hubtest.File{Path: "x", Content: plain{c}, LFS: true, SHA256: fakeSum})
		rd := r.open(v, &v.Files[0])
		defer rd.Close()
		for off := int64(0); off < 128*mib; off += mib {
			readAt(t, rd, c, off, mib)
		}
		began := time.Now()
		readAt(t, rd, c, c.Size()-mib, mib)
		if d := time.Since(began); d > 150*time.Millisecond {
			t.Errorf("the last MiB took %v", d)
		}
	})
}

func TestSequentialKeepsUpWithTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetLatency(20 * time.Millisecond)
		r.hub.SetConnRate(10*mib, hubtest.AtCDN)
		c := hubtest.Pattern(5, 256*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		began := time.Now()
		readAll(t, rd, c, mib)
		// Eight connections would take 3.2 s.
		if d := time.Since(began); d > 4200*time.Millisecond {
			t.Errorf("took %v", d)
		}
		if r.sent() > c.Size()*102/100 {
			t.Errorf("%d bytes sent for %d", r.sent(), c.Size())
		}
	})
}

func TestStatusAndLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetConnRate(mib, hubtest.AtCDN)
		c := hubtest.Pattern(5, 100*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		readAt(t, rd, c, 20*mib, 4*mib)
		<-time.After(2 * time.Second)
		st := r.f.Status()
		if len(st) != 1 {
			t.Fatalf("%d fills", len(st))
		}
		s := st[0]
		if s.Name != "org/model" || s.Path != "model.gguf" || s.Key != string(file.Key) || s.Source != v.Source || s.State != "filling" ||
			s.Size != c.Size() || s.Present < 4*mib || s.Speed < 2*mib || s.ETA < 5 || s.Connections < 4 || s.Error != "" {
			t.Errorf("status %+v", s)
		}
		<-time.After(time.Minute)
		log := r.log.String()
		for _, want := range []string{"download starts", "percent=10", "percent=90", "download complete"} {
			if !strings.Contains(log, want) {
				t.Errorf("the log does not say %q:\n%s", want, log)
			}
		}
		stats := r.f.Stats()
		if stats.Fetched < c.Size() || stats.Served < 4*mib || stats.Requests == 0 || stats.Fills != 0 || stats.Waiting != 0 {
			t.Errorf("stats %+v", stats)
		}
	})
}

func TestIdleFillsAreClosedAndResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(5, 100*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		readAt(t, rd, c, 0, mib)
		must(t, rd.Close())
		<-time.After(2 * time.Minute)
		if n := r.f.Stats().Open; n != 0 {
			t.Errorf("%d fills are open", n)
		}
		sent := r.sent()
		rd = r.open(v, file)
		defer rd.Close()
		readAt(t, rd, c, 0, mib)
		if r.sent() != sent {
			t.Errorf("%d bytes were fetched again", r.sent()-sent)
		}
	})
}

func TestPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory, withConfig(func(c *Config) { c.Touched = true }))
		r.hub.SetConnRate(5*mib, hubtest.AtCDN)
		c := hubtest.Pattern(5, 64*mib)
		v, file := r.one(c)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := r.f.Pull(ctx, v, file, nil); !model.IsKind(err, model.Interrupted) {
			t.Fatalf("a pull that was interrupted: %v", err)
		}
		var last, calls int64
		must(t, r.f.Pull(context.Background(), v, file, func(done, total int64) {
			if done < last || total != c.Size() {
				t.Errorf("progress %d of %d after %d", done, total, last)
			}
			last = done
			calls++
		}))
		if last != c.Size() || calls < 3 {
			t.Errorf("%d calls, the last with %d", calls, last)
		}
		if r.sent() > c.Size()*115/100 {
			t.Errorf("%d bytes sent for %d", r.sent(), c.Size())
		}
	})
}
