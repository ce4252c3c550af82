package fetcher

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

func TestOpen(t *testing.T) {
	resolve := hubtest.Filter{Host: hubtest.AtHub}
	tests := []struct {
		name   string
		fault  func(h *hubtest.Hub)
		lie    func(f *model.File)
		kind   model.Kind // of the error; -1: none
		within time.Duration
	}{
		{"well", func(*hubtest.Hub) {}, nil, -1, 100 * time.Millisecond},
		{"denied", func(h *hubtest.Hub) { h.Fault(resolve, hubtest.Always(), hubtest.Status(403, nil, "")) }, nil, model.Denied, 900 * time.Millisecond},
		{"not found", func(h *hubtest.Hub) { h.Fault(resolve, hubtest.Always(), hubtest.Status(404, nil, "")) }, nil, model.NotFound, 900 * time.Millisecond},
		{"refused", func(h *hubtest.Hub) { h.Refuse(hubtest.AtHub) }, nil, model.Unavailable, 900 * time.Millisecond},
		{"refused by two", func(h *hubtest.Hub) { h.Refuse(hubtest.AtHub) }, func(f *model.File) { f.URLs = append(f.URLs, f.URLs[0]+"?download=1") },
			model.Unavailable, 900 * time.Millisecond},
		{"slowly refused by the host of two", func(h *hubtest.Hub) {
			h.Fault(resolve, hubtest.Always(), hubtest.Delay(400*time.Millisecond), hubtest.Status(503, nil, ""))
		},
			func(f *model.File) { f.URLs = append(f.URLs, f.URLs[0]+"?download=1") }, model.Unavailable, 900 * time.Millisecond},
		{"refused by one of two", func(h *hubtest.Hub) {
			h.Fault(resolve, hubtest.First(1), hubtest.Hang())
			h.Fault(resolve, hubtest.After(1), hubtest.Status(500, nil, ""))
		},
			func(f *model.File) { f.URLs = append(f.URLs, f.URLs[0]+"?download=1") }, -1, 900 * time.Millisecond},
		{"404 of a proxy", func(h *hubtest.Hub) { h.Fault(resolve, hubtest.Always(), hubtest.HTML(404)) }, nil, model.Unavailable, 900 * time.Millisecond},
		{"403 of a proxy", func(h *hubtest.Hub) { h.Fault(resolve, hubtest.Always(), hubtest.HTML(403)) }, nil, model.Unavailable, 900 * time.Millisecond},
		{"login page", func(h *hubtest.Hub) { h.Fault(resolve, hubtest.Always(), hubtest.HTML(200)) }, nil, model.Unavailable, 900 * time.Millisecond},
		{"login page, no length stated", func(h *hubtest.Hub) { h.Fault(resolve, hubtest.Always(), hubtest.HTML(200)) }, func(f *model.File) { f.Size = -1 },
			model.Unavailable, 900 * time.Millisecond},
		{"undecided", func(h *hubtest.Hub) { h.Fault(resolve, hubtest.Always(), hubtest.Hang()) }, nil, -1, 900 * time.Millisecond},
		{"another size", func(*hubtest.Hub) {}, func(f *model.File) { f.Size++ }, model.Corrupt, 100 * time.Millisecond},
		{"another hash", func(*hubtest.Hub) {}, func(f *model.File) { f.SHA256 = fakeSum; f.Key = model.SHA256Key(fakeSum) }, model.Corrupt, 100 * time.Millisecond},
		{"no address", func(*hubtest.Hub) {}, func(f *model.File) { f.URLs = nil }, model.Unavailable, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory)
				v, file := r.one(hubtest.Pattern(3, 20*mib))
				if tt.lie != nil {
					tt.lie(file)
				}
				tt.fault(r.hub)
				began := time.Now()
				rd, err := r.f.Open(context.Background(), v, file)
				if d := time.Since(began); d > tt.within {
					t.Errorf("took %v, want at most %v", d, tt.within)
				}
				if rd != nil {
					must(t, rd.Close())
				}
				if tt.kind < 0 && err != nil || tt.kind >= 0 && !model.IsKind(err, tt.kind) {
					t.Errorf("error %v, want kind %v", err, tt.kind)
				}
				if n := r.asked(hubtest.AtCDN); n != 0 {
					t.Errorf("%d requests to the CDN by an open", n)
				}
			})
		})
	}
}

// TestOpenWithOriginDown: what is here can be opened and read.
func TestOpenWithOriginDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(3, 100*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		readAt(t, rd, c, 0, mib)
		must(t, rd.Close())
		r.stop()
		r.hub.Refuse()
		r.start()
		rd = r.open(v, file)
		defer rd.Close()
		readAt(t, rd, c, 0, mib)
	})
}

func TestOpenAsksOnce(t *testing.T) {
	r := newRig(t)
	c := hubtest.Pattern(3, 3*mib)
	v, file := r.one(c)
	for range 5 {
		rd := r.open(v, file)
		readAt(t, rd, c, 0, 1000)
		must(t, rd.Close())
	}
	if n := r.asked(hubtest.AtHub); n != 1 {
		t.Errorf("%d requests to the Hub for five opens", n)
	}
}

func TestEmptyFile(t *testing.T) {
	r := newRig(t)
	v := r.view("org/model", hubtest.File{Path: "empty", Content: hubtest.Text("")})
	rd := r.open(v, &v.Files[0])
	defer rd.Close()
	if n, err := rd.ReadAt(context.Background(), make([]byte, 10), 0); n != 0 || err != nil || rd.Size() != 0 {
		t.Errorf("read %d, %v of size %d", n, err, rd.Size())
	}
	if n := len(r.hub.Requests(hubtest.Filter{})); n != 0 {
		t.Errorf("%d requests for nothing", n)
	}
	if !r.f.State(v.Model, &v.Files[0]).Complete {
		t.Error("it is not complete")
	}
}

func TestUnknownSize(t *testing.T) {
	tests := map[string]func(h *hubtest.Hub){
		"stated by the origin": func(*hubtest.Hub) {},
		"stated by nobody": func(h *hubtest.Hub) {
			h.Fault(hubtest.Filter{Host: hubtest.AtHub}, hubtest.Always(), hubtest.SetHeader("X-Linked-Size", ""), hubtest.SetHeader("X-Linked-Etag", ""))
			h.Fault(atCDN, hubtest.Always(), hubtest.IgnoreRange(), hubtest.NoLength())
		},
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory)
				c := hubtest.Pattern(3, 3*mib+17)
				v, file := r.one(c)
				file.Size = -1
				fault(r.hub)
				rd := r.open(v, file)
				defer rd.Close()
				if rd.Size() != c.Size() {
					t.Fatalf("size %d, want %d", rd.Size(), c.Size())
				}
				if got := r.f.State(v.Model, file).Size; got != c.Size() {
					t.Errorf("stated size %d", got)
				}
				readAll(t, rd, c, mib)
			})
		})
	}
}

// A length that was learnt by opening the file is known after a restart, as long
// as something of the file is here.
func TestALearntLengthOutlivesTheProcess(t *testing.T) {
	for name, all := range map[string]bool{"complete": true, "a part of it": false} {
		for _, key := range []model.Key{"", model.AtKey("x")} {
			t.Run(name+" "+string(key), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, inMemory)
					c := hubtest.Pattern(3, 40*mib+17)
					v, file := r.one(c)
					file.Size = -1
					if key != "" {
						file.SHA256, file.Key = "", key
					}
					check := func(when string, want int64) {
						t.Helper()
						if st := r.f.State(v.Model, file); st.Size != want || st.Complete != (all && want >= 0) {
							t.Errorf("%s: %+v, want %d bytes", when, st, want)
						}
					}
					check("before it is opened", -1)
					rd := r.open(v, file)
					readAt(t, rd, c, 5*mib, mib)
					if all {
						must(t, r.f.Pull(context.Background(), v, file, nil))
					}
					must(t, rd.Close())
					check("afterwards", c.Size())
					r.stop()
					r.hub.Refuse()
					r.start()
					check("after a restart", c.Size())
					rd = r.open(v, file)
					defer rd.Close()
					check("when it is open again", c.Size())
					readAt(t, rd, c, 5*mib, mib)
				})
			})
		}
	}
}

// TestLearntHash: where the listing has no hash, the origin's is what the
// download must have, and a blob that has it serves at once.
func TestLearntHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(3, 12*mib)
		v, file := r.one(c)
		file.SHA256, file.Key = "", model.AtKey("x")
		bad := r.hub.Fault(atCDN, hubtest.Always(), hubtest.CorruptByte(5*mib))
		if err := r.f.Pull(context.Background(), v, file, nil); !model.IsKind(err, model.Corrupt) {
			rd, err2 := r.f.Open(context.Background(), v, file)
			t.Fatalf("pull of corrupt bytes: %v; open: %v %v", err, rd, err2)
		}
		bad.Remove()
		must(t, r.f.Pull(context.Background(), v, file, nil))
		before := r.asked(hubtest.AtCDN)
		twin := *file
		twin.Key = model.AtKey("y")
		rd := r.open(v, &twin)
		defer rd.Close()
		if rd.File() == nil || r.asked(hubtest.AtCDN) != before {
			t.Error("the same content is downloaded again under another key")
		}
	})
}

// TestVerifiedBlobServesEveryone: another source's name of the same content
// needs no network, and gets its name in the backing dir.
func TestVerifiedBlobServesEveryone(t *testing.T) {
	r := newRig(t)
	c := hubtest.Pattern(3, 3*mib)
	v, file := r.one(c)
	must(t, r.f.Pull(context.Background(), v, file, nil))
	before := len(r.hub.Requests(hubtest.Filter{}))
	other := *v.Model
	other.Name, other.Source = "org/other", "router:http://r"
	rd := r.open(&model.View{Model: &other, Settled: true}, file)
	defer rd.Close()
	readAll(t, rd, c, mib)
	if n := len(r.hub.Requests(hubtest.Filter{})); n != before {
		t.Errorf("%d more requests", n-before)
	}
	found, _ := filepath.Glob(filepath.Join(r.dir, "models", "*", "org", "other", "*", "model.gguf"))
	if len(found) != 1 {
		t.Errorf("its name in the backing dir: %v", found)
	}
}

// TestUnverifiedBytesStayWithTheirSource: a fill serves only names of the
// source that is filling.
func TestUnverifiedBytesStayWithTheirSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c := hubtest.Pattern(3, 40*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		readAt(t, rd, c, 20*mib+5, mib)
		other := *v.Model
		other.Source = "router:http://r"
		rd2 := r.open(&model.View{Model: &other}, file)
		defer rd2.Close()
		sent := r.sent()
		readAt(t, rd2, c, 20*mib+5, mib)
		if r.sent() < sent+mib {
			t.Error("the second source's reader was served the first one's bytes")
		}
	})
}

func TestOnceKeysAreNotResumed(t *testing.T) {
	r := newRig(t)
	c := hubtest.Pattern(3, 40*mib)
	v, file := r.one(c)
	file.SHA256, file.Key = "", model.OnceKey()
	rd := r.open(v, file)
	readAt(t, rd, c, 20*mib, mib)
	must(t, rd.Close())
	r.stop()
	left, err := os.ReadDir(filepath.Join(r.dir, "fills"))
	must(t, err)
	if len(left) != 0 {
		t.Errorf("left in fills: %v", left)
	}
}
