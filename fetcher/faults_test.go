package fetcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

var atCDN = hubtest.Filter{Host: hubtest.AtCDN}

// TestFaultsEndInRightBytes: faults that pass, or that another request gets
// around, cost time and nothing else.
func TestFaultsEndInRightBytes(t *testing.T) {
	tests := []struct {
		name  string
		fault func(h *hubtest.Hub)
		dear  bool // may fetch bytes more than once
	}{
		{"cut in the middle, some", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.Chance(0.3, 1), hubtest.CutAt(300_000, hubtest.Reset))
		}, true},
		{"cut in the middle, every answer", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.Always(), hubtest.CutAt(300_000, hubtest.Reset))
		}, true},
		{"short body", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.First(5), hubtest.ShortBody(1000))
		}, true},
		{"stall", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.First(3), hubtest.StallAt(100_000))
		}, true},
		{"slow drip of one connection", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.Nth(2), hubtest.DripRate(50_000))
		}, true},
		{"wrong Content-Range", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.First(3), hubtest.WrongContentRange("bytes 0-99/12345678"))
		}, true},
		{"expired URL", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.Nth(3), hubtest.Do(h.ExpireURLs))
		}, false},
		{"overloaded", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.First(6), hubtest.Status(503, nil, ""))
		}, false},
		{"told to wait", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.First(2), hubtest.RateLimited(hubtest.RetryAfter, 3*time.Second))
		}, false},
		{"200 for a range", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.Always(), hubtest.IgnoreRange())
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory)
				r.hub.SetLatency(20 * time.Millisecond)
				r.hub.SetConnRate(50*mib, hubtest.AtCDN)
				c := hubtest.Pattern(7, 24*mib+999)
				v, file := r.one(c)
				tt.fault(r.hub)
				rd := r.open(v, file)
				defer rd.Close()
				readAt(t, rd, c, 20*mib, mib)
				readAll(t, rd, c, mib)
				within(t, time.Minute, "the file is complete", func() bool { return r.f.State(v.Model, file).Complete })
				if !tt.dear && r.sent() > c.Size()*11/10 {
					t.Errorf("%d bytes were sent for %d", r.sent(), c.Size())
				}
			})
		})
	}
}

// TestFaultsEndInClearErrors: what can't be got is an error of the right kind,
// in bounded time.
func TestFaultsEndInClearErrors(t *testing.T) {
	tests := []struct {
		name   string
		fault  func(h *hubtest.Hub)
		kind   model.Kind
		within time.Duration
	}{
		{"403 from every URL", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.Always(), hubtest.Status(403, nil, "no"))
		}, model.Denied, 5 * time.Second},
		{"gone", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.Always(), hubtest.Status(404, nil, "no"))
		}, model.NotFound, 5 * time.Second},
		{"wrong Content-Range always", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.Always(), hubtest.WrongContentRange("bytes 5-9/10"))
		}, model.Timeout, 6 * time.Minute},
		{"stalls always", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.Always(), hubtest.StallAt(0))
		}, model.Timeout, 6 * time.Minute},
		{"refuses connections", func(h *hubtest.Hub) { h.Refuse(hubtest.AtCDN) }, model.Timeout, 6 * time.Minute},
		{"broken server", func(h *hubtest.Hub) {
			h.Fault(atCDN, hubtest.Always(), hubtest.HTML(502))
		}, model.Timeout, 6 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory)
				c := hubtest.Pattern(7, 24*mib)
				v, file := r.one(c)
				rd := r.open(v, file)
				defer rd.Close()
				tt.fault(r.hub)
				began := time.Now()
				_, err := rd.ReadAt(context.Background(), make([]byte, mib), 3*mib)
				if !model.IsKind(err, tt.kind) {
					t.Fatalf("error %v, want kind %v", err, tt.kind)
				}
				if d := time.Since(began); d > tt.within {
					t.Errorf("took %v", d)
				}
				// Remembered for 10 s, then asked again.
				began = time.Now()
				if _, err = rd.ReadAt(context.Background(), make([]byte, 10), 20*mib); !model.IsKind(err, tt.kind) || time.Since(began) > 0 {
					t.Errorf("again: %v after %v", err, time.Since(began))
				}
				r.hub.ClearFaults()
				must(t, r.hub.Accept(hubtest.AtCDN))
				<-time.After(remember) // virtual
				readAt(t, rd, c, 20*mib, 1000)
				readAll(t, rd, c, mib)
			})
		})
	}
}

func TestOriginGoesInTheMiddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetConnRate(10*mib, hubtest.AtCDN)
		c := hubtest.Pattern(7, 64*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		for off := int64(0); off < 20*mib; off += mib {
			readAt(t, rd, c, off, mib)
		}
		r.hub.Refuse()
		_, err := rd.ReadAt(context.Background(), make([]byte, mib), 60*mib)
		if !model.IsKind(err, model.Timeout) {
			t.Errorf("a read of what is missing: %v, want a timeout", err)
		}
		readAll(t, rd, prefix{c, 20 * mib}, mib)
		must(t, r.hub.Accept())
		<-time.After(remember) // virtual
		readAll(t, rd, c, mib)
	})
}

// prefix is the first n bytes of a content.
type prefix struct {
	hubtest.Content
	n int64
}

func (p prefix) Size() int64 { return p.n }

func TestOriginGoneAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(7, 32*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		r.hub.Refuse()
		time.AfterFunc(2*time.Minute, func() { _ = r.hub.Accept() })
		began := time.Now()
		readAt(t, rd, c, 12*mib, mib)
		if d := time.Since(began); d < 2*time.Minute || d > 3*time.Minute {
			t.Errorf("a read across an outage of 2 min took %v", d)
		}
		readAll(t, rd, c, mib)
	})
}

// A pull whose origin is gone ends as a read does; one that only waits for its
// turn does not.
func TestPullOfAnOriginThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory, withConfig(func(c *Config) { c.ReadTimeout = time.Minute }))
		r.hub.SetConnRate(20_000, hubtest.AtCDN)
		slow, c := hubtest.Pattern(6, 16*mib), hubtest.Pattern(7, 32*mib)
		v := r.view("org/model", hubtest.File{Path: "a", Content: slow, LFS: true}, hubtest.File{Path: "b", Content: c, LFS: true})
		first := make(chan error)
		go func() { first <- r.f.Pull(context.Background(), v, &v.Files[0], nil) }()
		<-time.After(time.Second)
		second := make(chan error)
		began := time.Now()
		go func() { second <- r.f.Pull(context.Background(), v, &v.Files[1], nil) }()
		select {
		case err := <-second:
			t.Fatalf("a pull that waits for its turn ended after %v: %v", time.Since(began), err)
		case <-time.After(90 * time.Second): // far less than the first one takes, more than the read timeout
		}
		r.hub.Refuse()
		for _, done := range []chan error{first, second} {
			began = time.Now()
			if err := <-done; !model.IsKind(err, model.Timeout) {
				t.Errorf("a pull whose origin is gone: %v", err)
			}
			if took := time.Since(began); took > 3*time.Minute {
				t.Errorf("that took %v", took)
			}
		}
		must(t, r.hub.Accept())
		r.hub.SetConnRate(0)
		<-time.After(remember)
		must(t, r.f.Pull(context.Background(), v, &v.Files[1], nil))
	})
}

// A pull of an origin that is gone does not wait for its turn behind another
// file of which the same is true and that has a reader.
func TestPullBehindAFillOfNoHope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory, withConfig(func(c *Config) { c.ReadTimeout = time.Minute }))
		r.hub.SetConnRate(mib, hubtest.AtCDN)
		a, b := hubtest.Pattern(6, 64*mib), hubtest.Pattern(7, 32*mib)
		v := r.view("org/model", hubtest.File{Path: "a", Content: a, LFS: true}, hubtest.File{Path: "b", Content: b, LFS: true})
		ra, rb := r.open(v, &v.Files[0]), r.open(v, &v.Files[1])
		defer ra.Close()
		defer rb.Close()
		readAt(t, ra, a, 10*mib, mib)
		readAt(t, rb, b, 0, mib)
		r.hub.Refuse()
		<-time.After(time.Minute)
		// What is missing of b is asked for, and fails.
		if _, err := rb.ReadAt(context.Background(), make([]byte, mib), 16*mib); !model.IsKind(err, model.Timeout) {
			t.Fatalf("a read whose origin is gone: %v", err)
		}
		<-time.After(remember)
		began := time.Now()
		if err := r.f.Pull(context.Background(), v, &v.Files[1], nil); !model.IsKind(err, model.Timeout) {
			t.Errorf("a pull whose origin is gone: %v", err)
		}
		if took := time.Since(began); took > 61*time.Second {
			t.Errorf("that took %v", took)
		}
	})
}

// Of two files whose origins failed the one whose origin is back is filled,
// whichever of them began first and though nobody waits for either.
func TestOriginsComeBackOneByOne(t *testing.T) {
	for _, back := range []int{0, 1} {
		t.Run(fmt.Sprintf("number %d", back+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory)
				r.hub.SetConnRate(mib, hubtest.AtCDN)
				contents := []*hubtest.PatternContent{hubtest.Pattern(6, 64*mib), hubtest.Pattern(7, 64*mib)}
				v := r.view("org/model", hubtest.File{Path: "a", Content: contents[0], LFS: true}, hubtest.File{Path: "b", Content: contents[1], LFS: true})
				var gone []*hubtest.Fault
				for i, c := range contents {
					rd := r.open(v, &v.Files[i])
					defer rd.Close()
					readAt(t, rd, c, 10*mib, mib)
					gone = append(gone, r.hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: "org/model/" + v.Files[i].Path}, hubtest.Always(), hubtest.Status(503, nil, "")))
				}
				<-time.After(5 * time.Minute)
				if n := strings.Count(r.log.String(), "an origin failed"); n < 2 {
					t.Fatalf("%d failures: this test sees nothing", n)
				}
				gone[back].Remove()
				<-time.After(3 * time.Minute)
				if !r.f.State(v.Model, &v.Files[back]).Complete || r.f.State(v.Model, &v.Files[1-back]).Complete {
					t.Errorf("%+v", r.f.Status())
				}
			})
		})
	}
}

// An origin that fails is asked by one request at a time for what nobody waits
// for, and at full speed again once it is back.
func TestAFailingOriginIsSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetConnRate(mib, hubtest.AtCDN)
		c := hubtest.Pattern(5, 100*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		readAt(t, rd, c, 10*mib, mib)
		fault := r.hub.Fault(atCDN, hubtest.Always(), hubtest.Status(503, nil, ""))
		<-time.After(time.Minute)
		before := r.asked(hubtest.AtCDN)
		<-time.After(10 * time.Minute)
		// One request in four attempts, then a pause of up to 15 s.
		if n := r.asked(hubtest.AtCDN) - before; n < 10*4 || n > 10*40 {
			t.Errorf("%d requests in ten minutes", n)
		}
		fault.Remove()
		<-time.After(30 * time.Second) // a pause, and what eight connections take for the rest
		if !r.f.State(v.Model, file).Complete {
			t.Errorf("%+v", r.f.Status())
		}
	})
}

// A file whose source fails does not keep the rest of another source's set from
// being fetched, and the rest of its own set is not tried meanwhile.
func TestSiblingsOfOtherSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetConnRate(mib, hubtest.AtCDN)
		var views []*model.View
		for _, id := range []string{"org/bad", "org/good"} {
			var files []hubtest.File
			for i := range 3 {
				c := hubtest.Pattern(uint64(len(views)*3+i), 24*mib)
				files = append(files, hubtest.File{Path: fmt.Sprintf("m-0000%d-of-00003.gguf", i+1), Content: c, LFS: true})
			}
			v := r.view(id, files...)
			v.Source = id
			views = append(views, v)
			rd := r.open(v, &v.Files[0])
			defer rd.Close()
			readAt(t, rd, files[0].Content, 10*mib, mib)
			if id == "org/bad" {
				r.hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: "org/bad/*"}, hubtest.Always(), hubtest.Status(503, nil, ""))
				<-time.After(time.Minute)
			}
		}
		<-time.After(5 * time.Minute)
		for i := range 3 {
			if !r.f.State(views[1].Model, &views[1].Files[i]).Complete {
				t.Errorf("%s of the source that works is not here: %+v", views[1].Files[i].Path, r.f.Status())
			}
		}
		if n := len(r.hub.Requests(hubtest.Filter{Host: hubtest.AtCDN, Path: "org/bad/m-00002*"})); n != 0 {
			t.Errorf("%d requests for another file of the source that fails", n)
		}
	})
}

func TestSecondURLTakesOver(t *testing.T) {
	faults := map[string]func(h *hubtest.Hub, path string){
		"404": func(h *hubtest.Hub, p string) {
			h.Fault(hubtest.Filter{Path: p}, hubtest.Always(), hubtest.Status(404, http.Header{"X-Error-Code": {"EntryNotFound"}}, ""))
		},
		"403": func(h *hubtest.Hub, p string) {
			h.Fault(hubtest.Filter{Path: p}, hubtest.Always(), hubtest.Status(403, nil, ""))
		},
		"502": func(h *hubtest.Hub, p string) {
			h.Fault(hubtest.Filter{Path: p}, hubtest.Always(), hubtest.HTML(502))
		},
		"silent": func(h *hubtest.Hub, p string) {
			h.Fault(hubtest.Filter{Path: p}, hubtest.Always(), hubtest.Hang())
		},
		"no ranges": func(h *hubtest.Hub, p string) {
			h.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: p}, hubtest.Always(), hubtest.IgnoreRange())
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory)
				c := hubtest.Pattern(7, 24*mib)
				v := r.view("org/second", hubtest.File{Path: "b.gguf", Content: c, LFS: true})
				v2 := r.view("org/first", hubtest.File{Path: "a.gguf", Content: c, LFS: true})
				file := v.Files[0]
				file.URLs = append([]string{v2.Files[0].URLs[0]}, file.URLs...)
				fault(r.hub, "org/first/a.gguf")
				rd := r.open(v, &file)
				defer rd.Close()
				readAt(t, rd, c, 20*mib, mib)
				readAll(t, rd, c, mib)
			})
		})
	}
}

func TestCorruptOnceIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(7, 12*mib)
		v, file := r.one(c)
		bad := r.hub.Fault(atCDN, hubtest.Always(), hubtest.CorruptByte(5*mib))
		rd := r.open(v, file)
		defer rd.Close()
		for off := int64(0); off < c.Size(); off += mib {
			_, _ = rd.ReadAt(context.Background(), make([]byte, mib), off)
		}
		within(t, time.Minute, "the attempt ends", func() bool { return r.f.State(v.Model, file).Attempt == 1 })
		if _, err := rd.ReadAt(context.Background(), make([]byte, 10), 0); !model.IsKind(err, model.Corrupt) {
			t.Errorf("a handle of the failed attempt: %v", err)
		}
		synctest.Wait() // the attempt's end is counted first, and told then
		if got := r.changed(); len(got) != 1 || got[0] != file.Key {
			t.Errorf("changes %v, want the key once", got)
		}
		bad.Remove()
		rd2 := r.open(v, file)
		defer rd2.Close()
		readAll(t, rd2, c, mib)
		within(t, time.Minute, "the second attempt completes", func() bool { return r.f.State(v.Model, file).Complete })
		if _, err := rd.ReadAt(context.Background(), make([]byte, 10), 0); !model.IsKind(err, model.Corrupt) {
			t.Errorf("the old handle after the second attempt: %v", err)
		}
	})
}

func TestCorruptTwiceIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(7, 12*mib)
		v, file := r.one(c)
		bad := r.hub.Fault(atCDN, hubtest.Always(), hubtest.CorruptByte(5*mib))
		for attempt := range uint32(2) {
			if err := r.f.Pull(context.Background(), v, file, nil); !model.IsKind(err, model.Corrupt) {
				t.Fatalf("pull %d: %v", attempt, err)
			}
			if got := r.f.State(v.Model, file).Attempt; got != attempt+1 {
				t.Fatalf("attempt %d, want %d", got, attempt+1)
			}
		}
		before := r.asked(hubtest.AtCDN)
		if _, err := r.f.Open(context.Background(), v, file); !model.IsKind(err, model.Corrupt) {
			t.Errorf("open after two corrupt downloads: %v", err)
		}
		if r.asked(hubtest.AtCDN) != before {
			t.Error("it was downloaded a third time")
		}
		bad.Remove()
		<-time.After(condemnedFor) // virtual
		must(t, r.f.Pull(context.Background(), v, file, nil))
	})
}

// A download that is right makes up for a corrupt one before it: the next
// corrupt one, months later, is again the first.
func TestCorruptNowAndThenIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		v, file := r.one(hubtest.Pattern(7, 12*mib))
		for time := range 3 {
			bad := r.hub.Fault(atCDN, hubtest.Always(), hubtest.CorruptByte(5*mib))
			if err := r.f.Pull(context.Background(), v, file, nil); !model.IsKind(err, model.Corrupt) {
				t.Fatalf("time %d: a corrupt download: %v", time, err)
			}
			bad.Remove()
			if err := r.f.Pull(context.Background(), v, file, nil); err != nil {
				t.Fatalf("time %d: it is not fetched once more: %v", time, err)
			}
			if err := r.f.Trouble(v.Source, file.Key); err != nil {
				t.Errorf("time %d: trouble with a file that is here: %v", time, err)
			}
			synctest.Wait() // the download is closed
			must(t, r.store.Remove(file.Key))
			if err := r.f.Trouble(v.Source, file.Key); err != nil {
				t.Errorf("time %d: trouble with a file that was right and has been removed: %v", time, err)
			}
		}
		if n := r.f.State(v.Model, file).Attempt; n != 3 {
			t.Errorf("attempt %d: the pages of a corrupt one may be shown again", n)
		}
	})
}

func TestReaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(7, 12*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		hang := r.hub.Fault(atCDN, hubtest.Always(), hubtest.Hang())
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, err := rd.ReadAt(ctx, make([]byte, mib), 5*mib)
				if !model.IsKind(err, model.Interrupted) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a read whose caller left: %v", err)
				}
			})
		}
		wg.Wait()
		if n := r.f.Stats().Waiting; n != 0 {
			t.Errorf("%d reads wait after all have left", n)
		}
		hang.Remove()
		readAll(t, rd, c, mib)
		must(t, rd.Close())
	})
}

// A read that is over leaves nothing behind, however it ended: answered, refused
// at once because others just were, or left by its caller.
func TestReadsThatAreOverAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory, withConfig(func(c *Config) { c.Touched = true }))
		r.hub.SetLatency(5 * time.Millisecond)
		c := hubtest.Pattern(7, 200*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		l := rd.(*fillReader).l
		check := func(after string) {
			t.Helper()
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.queue) > 0 || len(l.waiting) > 0 {
				t.Errorf("after %s: %d reads are kept, %d blocks waited for", after, len(l.queue), len(l.waiting))
			}
		}
		var wg sync.WaitGroup
		for i := range int64(20) {
			wg.Go(func() { readAt(t, rd, c, 40*mib+i*70_000, 70_000) })
		}
		wg.Wait()
		<-time.After(time.Second) // what was asked twice has come, too
		check("reads that were answered")
		hang := r.hub.Fault(atCDN, hubtest.Always(), hubtest.Hang())
		for i := range int64(20) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
				defer cancel()
				_, _ = rd.ReadAt(ctx, make([]byte, mib), (60+3*i)*mib) // too far apart for read-ahead
			})
		}
		wg.Wait()
		hang.Remove()
		<-time.After(time.Minute)
		check("reads whose callers left")
		r.hub.Fault(atCDN, hubtest.Always(), hubtest.Status(404, nil, ""))
		for i := range int64(20) {
			if _, err := rd.ReadAt(context.Background(), make([]byte, mib), (130+3*i)*mib); !model.IsKind(err, model.NotFound) {
				t.Fatalf("read %d: %v", i, err)
			}
		}
		check("reads that were refused")
	})
}

func TestCloseEndsWaitingReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		v, file := r.one(hubtest.Pattern(7, 12*mib))
		rd := r.open(v, file)
		r.hub.Fault(atCDN, hubtest.Always(), hubtest.Hang())
		done := make(chan error)
		go func() {
			_, err := rd.ReadAt(context.Background(), make([]byte, mib), 5*mib)
			done <- err
		}()
		synctest.Wait()
		must(t, r.f.Close())
		if err := <-done; !model.IsKind(err, model.Unavailable) {
			t.Errorf("a read that waits when the fetcher is closed: %v", err)
		}
		if _, err := r.f.Open(context.Background(), v, file); !model.IsKind(err, model.Unavailable) {
			t.Errorf("open after close: %v", err)
		}
		must(t, rd.Close())
	})
}

// One origin does not serve ranges, and the other refuses after that was
// found out: the first one's single stream is what is left.
func TestTheOriginWithoutRangesIsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(3, 20*mib)
		second := r.view("org/second", hubtest.File{Path: "model.gguf", Content: c, LFS: true})
		v, file := r.one(c)
		file.URLs = append(file.URLs, second.Files[0].URLs...)
		rd := r.open(v, file)
		defer rd.Close()
		r.hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: "org/model/*"}, hubtest.Always(), hubtest.IgnoreRange())
		r.hub.Fault(hubtest.Filter{Path: "org/second/*"}, hubtest.Always(), hubtest.Delay(time.Second), hubtest.Status(403, nil, ""))
		began := time.Now()
		readAt(t, rd, c, 10*mib, mib)
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("took %v", d)
		}
	})
}
