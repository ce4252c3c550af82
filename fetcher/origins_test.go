package fetcher

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// The places of the bytes of org/first, a file's first address, and of
// org/other, its second.
var (
	ofFirst = hubtest.Filter{Host: hubtest.AtCDN, Path: "org/first/*"}
	ofOther = hubtest.Filter{Host: hubtest.AtCDN, Path: "org/other/*"}
)

// twoAddresses is a file of which the second address may have another content.
func (r *rig) twoAddresses(first, other hubtest.Content) (*model.View, *model.File) {
	r.t.Helper()
	v := r.view("org/first", hubtest.File{Path: "model.gguf", Content: first, LFS: true})
	o := r.view("org/other", hubtest.File{Path: "model.gguf", Content: other, LFS: true})
	v.Files[0].URLs = append(v.Files[0].URLs, o.Files[0].URLs...)
	return v, &v.Files[0]
}

// mirrored is a file that both addresses have, and that takes its time.
func (r *rig) mirrored() (hubtest.Content, *model.View, *model.File) {
	r.t.Helper()
	r.hub.SetConnRate(mib, hubtest.AtCDN)
	c := hubtest.Pattern(1, 200*mib)
	v, file := r.twoAddresses(c, c)
	return c, v, file
}

// An address without ranges has its turn whenever the others fail, however
// they do and whatever was known of it before, until they are back.
func TestTheAddressWithoutRangesHasItsTurn(t *testing.T) {
	for name, effect := range map[string]hubtest.Effect{
		"silent": hubtest.Hang(), "broken": hubtest.Status(503, nil, ""), "gone": hubtest.Status(404, nil, ""),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory, withConfig(func(c *Config) { c.Touched = true }))
				c, v, file := r.mirrored()
				r.hub.Fault(ofOther, hubtest.Always(), hubtest.IgnoreRange())
				rd := r.open(v, file)
				defer rd.Close()
				r.hub.Fault(ofFirst, hubtest.First(1), hubtest.Delay(5*time.Second))
				readAt(t, rd, c, 20*mib, mib)
				if r.hub.BytesSent(ofOther.Path)+int64(len(r.hub.Requests(ofOther))) == 0 {
					t.Fatal("the other address was not tried: this test sees nothing")
				}
				fault := r.hub.Fault(ofFirst, hubtest.Always(), effect)
				began := time.Now()
				readAt(t, rd, c, 40*mib, mib)
				if d := time.Since(began); d > 2*time.Minute {
					t.Errorf("a read while only one stream is left took %v", d)
				}
				fault.Remove()
				<-time.After(mostBackoff)
				began = time.Now()
				readAt(t, rd, c, 180*mib, mib)
				if d := time.Since(began); d > 3*time.Second {
					t.Errorf("a read took %v once ranges were to be had again", d)
				}
			})
		})
	}
}

// What one stream would bring is fetched by ranges as soon as these can be had
// again, though nobody waits for it.
func TestTheStreamEndsWhenRangesAreBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		_, v, file := r.mirrored()
		r.hub.Fault(ofOther, hubtest.Always(), hubtest.IgnoreRange())
		fault := r.hub.Fault(ofFirst, hubtest.Always(), hubtest.Status(503, nil, ""))
		time.AfterFunc(30*time.Second, fault.Remove)
		began := time.Now()
		must(t, r.f.Pull(context.Background(), v, file, nil))
		if d := time.Since(began); d > 100*time.Second {
			t.Errorf("took %v: one stream is left to fetch it alone", d)
		}
	})
}

// That one address fails is no trouble while another one works.
func TestOneAddressThatFailsIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		c, v, file := r.mirrored()
		r.hub.Fault(ofFirst, hubtest.Always(), hubtest.Status(503, nil, ""))
		rd := r.open(v, file)
		defer rd.Close()
		readAt(t, rd, c, 20*mib, mib)
		check := func(state string, troubled bool) {
			t.Helper()
			st := r.f.Status()[0]
			if err := r.f.Trouble(v.Source, file.Key); (err != nil) != troubled || (st.Error != "") != troubled || st.State != state {
				t.Errorf("trouble %v, status %+v; want it %s and trouble %v", err, st, state, troubled)
			}
		}
		check("filling", false)
		fault := r.hub.Fault(ofOther, hubtest.Always(), hubtest.Status(503, nil, ""))
		<-time.After(time.Minute)
		check("waiting", true)
		fault.Remove()
		<-time.After(time.Minute)
		if !r.f.State(v.Model, file).Complete {
			t.Errorf("not filled once one of two is back: %+v", r.f.Status())
		}
	})
}

// A pair is a file without a hash of which the second address has another
// content, of the same length.
type pair struct {
	view         *model.View
	file         *model.File
	first, other hubtest.Content
}

func (r *rig) pair(key model.Key) pair {
	r.t.Helper()
	p := pair{first: hubtest.Pattern(1, 40*mib), other: hubtest.Pattern(2, 40*mib)}
	p.view, p.file = r.twoAddresses(p.first, p.other)
	p.file.SHA256, p.file.Key = "", key
	r.hub.Fault(hubtest.Filter{Host: hubtest.AtHub}, hubtest.Always(), hubtest.SetHeader("X-Linked-Etag", ""))
	return p
}

// failures are how an address gives nothing more, and what its readers are told.
var failures = map[string]struct {
	effect hubtest.Effect
	kind   model.Kind
}{
	"gone":   {hubtest.Status(404, nil, ""), model.NotFound},
	"broken": {hubtest.Status(503, nil, ""), model.Timeout},
	"silent": {hubtest.Hang(), model.Timeout},
}

// Once one address has given bytes of a file that no hash identifies, nobody
// else gives any, whatever becomes of it and however the bytes are asked for.
func TestOneAddressGivesAFileWithoutAHash(t *testing.T) {
	for name, f := range failures {
		for _, stream := range []bool{false, true} {
			if stream {
				name += ", one stream"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, inMemory)
					r.hub.SetConnRate(mib, hubtest.AtCDN)
					p := r.pair(model.OnceKey())
					if stream {
						r.hub.Fault(atCDN, hubtest.Always(), hubtest.IgnoreRange())
						r.hub.Fault(ofFirst, hubtest.Always(), hubtest.CutAt(3*mib, hubtest.Reset))
					}
					rd := r.open(p.view, p.file)
					defer rd.Close()
					readAt(t, rd, p.first, 0, mib)
					before := len(r.hub.Requests(ofOther))
					fault := r.hub.Fault(hubtest.Filter{Path: ofFirst.Path}, hubtest.Always(), f.effect)
					if _, err := rd.ReadAt(context.Background(), make([]byte, mib), 30*mib); !model.IsKind(err, f.kind) {
						t.Errorf("what the first address does not give: %v, want kind %v", err, f.kind)
					}
					if n := len(r.hub.Requests(ofOther)) - before; n != 0 {
						t.Errorf("%d requests for another content", n)
					}
					r.hub.ClearFaults()
					fault.Release()
					<-time.After(remember)
					readAll(t, rd, p.first, mib)
				})
			})
		}
	}
}

// While nothing has come another address may give the file, and then gives all
// of it, though the first one answers after all.
func TestAnotherAddressGivesAllOfAFile(t *testing.T) {
	for name, effect := range map[string]hubtest.Effect{
		"gone": hubtest.Status(404, nil, ""), "broken": hubtest.Status(503, nil, ""), "silent": hubtest.Hang(),
		"late": hubtest.Delay(3 * time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory)
				r.hub.SetConnRate(mib, hubtest.AtCDN)
				p := r.pair(model.OnceKey())
				fault := r.hub.Fault(ofFirst, hubtest.Always(), effect)
				rd := r.open(p.view, p.file)
				defer rd.Close()
				readAt(t, rd, p.other, 0, mib)
				fault.Remove()
				<-time.After(remember) // the first one could be asked again
				readAt(t, rd, p.other, 30*mib, mib)
				readAll(t, rd, p.other, mib)
			})
		})
	}
}

// When nobody reads a file any more of which its address gives nothing more, it
// is soon begun anew, from another one, as another attempt: what the kernel has
// of the first one is not shown with the bytes of this.
func TestAFileIsBegunAnewFromAnotherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetConnRate(mib, hubtest.AtCDN)
		p := r.pair(model.OnceKey())
		attempt := func(want uint32) {
			t.Helper()
			if n := r.f.State(p.view.Model, p.file).Attempt; n != want {
				t.Errorf("attempt %d, want %d", n, want)
			}
		}
		rd := r.open(p.view, p.file)
		must(t, rd.Close())
		<-time.After(idleTime + manageTime)
		attempt(0) // nothing had come
		rd = r.open(p.view, p.file)
		readAt(t, rd, p.first, 0, mib)
		r.hub.Fault(hubtest.Filter{Path: ofFirst.Path}, hubtest.Always(), hubtest.Status(503, nil, ""))
		if _, err := rd.ReadAt(context.Background(), make([]byte, mib), 30*mib); !model.IsKind(err, model.Timeout) {
			t.Errorf("what the first address does not give: %v", err)
		}
		<-time.After(manageTime)
		readAt(t, rd, p.first, 0, mib) // as long as it is open
		must(t, rd.Close())
		<-time.After(2 * manageTime)
		rd = r.open(p.view, p.file)
		defer rd.Close()
		attempt(1)
		readAll(t, rd, p.other, mib)
	})
}

// A length that only one address states is that of its own content.
func TestTheLengthIsOfTheAddressThatGivesTheBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		p := r.pair(model.OnceKey())
		p.file.Size = -1
		rd := r.open(p.view, p.file) // asks the first
		defer rd.Close()
		if rd.Size() != p.first.Size() {
			t.Fatalf("size %d", rd.Size())
		}
		r.hub.Fault(hubtest.Filter{Path: ofFirst.Path}, hubtest.Always(), hubtest.Status(404, nil, ""))
		if _, err := rd.ReadAt(context.Background(), make([]byte, mib), 0); !model.IsKind(err, model.NotFound) {
			t.Errorf("bytes of another address than the length: %v", err)
		}
	})
}

// A key that outlives the process was made of the first address: what is kept
// under it, by whichever process, is of that one only.
func TestAKeptFileIsOfItsFirstAddress(t *testing.T) {
	for name, validator := range map[string]bool{"validator": true, "place": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory)
				r.hub.SetConnRate(mib, hubtest.AtCDN)
				p := r.pair(model.AtKey("x"))
				if validator {
					r.hub.Fault(hubtest.Filter{Host: hubtest.AtHub, Path: ofFirst.Path}, hubtest.Always(), hubtest.SetHeader("X-Linked-Etag", `"v1"`))
					p.file.Validator = "v1"
				}
				gone := r.hub.Fault(hubtest.Filter{Path: ofFirst.Path}, hubtest.Always(), hubtest.Status(404, http.Header{"X-Error-Code": {"EntryNotFound"}}, ""))
				if rd, err := r.f.Open(context.Background(), p.view, p.file); !model.IsKind(err, model.NotFound) {
					t.Errorf("open of what the first address has not: %v, %v", rd, err)
				}
				gone.Remove()
				<-time.After(remember)
				rd := r.open(p.view, p.file)
				readAt(t, rd, p.first, 0, mib)
				must(t, rd.Close())
				r.stop()
				gone = r.hub.Fault(hubtest.Filter{Path: ofFirst.Path}, hubtest.Always(), hubtest.Status(503, nil, ""))
				r.start()
				rd = r.open(p.view, p.file)
				defer rd.Close()
				readAt(t, rd, p.first, 0, mib)
				if _, err := rd.ReadAt(context.Background(), make([]byte, mib), 30*mib); !model.IsKind(err, model.Timeout) {
					t.Errorf("what the first address does not give: %v", err)
				}
				gone.Remove()
				<-time.After(remember)
				readAll(t, rd, p.first, mib)
				if n := len(r.hub.Requests(hubtest.Filter{Path: ofOther.Path})); n != 0 {
					t.Errorf("%d requests for another content", n)
				}
			})
		})
	}
}

// A file with a hash is taken from any address: the hash shows what it is.
func TestAnyAddressGivesAFileWithAHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetConnRate(mib, hubtest.AtCDN)
		c := hubtest.Pattern(1, 40*mib)
		v, file := r.twoAddresses(c, c)
		rd := r.open(v, file)
		defer rd.Close()
		readAt(t, rd, c, 0, mib)
		r.hub.Fault(hubtest.Filter{Path: ofFirst.Path}, hubtest.Always(), hubtest.Status(404, nil, ""))
		readAll(t, rd, c, mib)
	})
}
