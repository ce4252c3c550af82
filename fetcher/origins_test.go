package fetcher

import (
	"context"
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

// An address without ranges has its turn whenever the others fail, however
// they do and whatever was known of it before, until they are back.
func TestTheAddressWithoutRangesHasItsTurn(t *testing.T) {
	for name, effect := range map[string]hubtest.Effect{
		"silent": hubtest.Hang(), "broken": hubtest.Status(503, nil, ""), "gone": hubtest.Status(404, nil, ""),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory, withConfig(func(c *Config) { c.Touched = true }))
				r.hub.SetConnRate(mib, hubtest.AtCDN)
				c := hubtest.Pattern(1, 200*mib)
				v, file := r.twoAddresses(c, c)
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
		r.hub.SetConnRate(mib, hubtest.AtCDN)
		c := hubtest.Pattern(1, 200*mib)
		v, file := r.twoAddresses(c, c)
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
