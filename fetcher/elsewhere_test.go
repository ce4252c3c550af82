package fetcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// lying is a place that says its size, or that it is gone or can't be opened.
type lying struct {
	size   int64
	err    error
	locked error
}

func (p lying) Path() string                             { return "/elsewhere" }
func (p lying) Stat(context.Context) (model.Stat, error) { return model.Stat{Size: p.size}, p.err }
func (p lying) Open(context.Context) (*os.File, model.Stat, error) {
	if err := errors.Join(p.err, p.locked); err != nil {
		return nil, model.Stat{}, err
	}
	file, err := os.Open(os.DevNull)
	return file, model.Stat{Size: p.size}, err
}
func (p lying) Reader(context.Context) (model.Reader, model.Stat, error) {
	return nil, model.Stat{}, p.err
}
func (p lying) Head(context.Context, int64) ([]byte, error) { return nil, p.err }

// A set is filled but for what is not listed and what lies elsewhere.
func TestWhatLiesElsewhereIsNotFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		elsewhere := ""
		r := newRig(t, inMemory, withConfig(func(c *Config) {
			c.Elsewhere = func(sha256 string, size int64) model.Place {
				if sha256 == elsewhere {
					return lying{size: size}
				}
				return nil
			}
		}))
		var files []hubtest.File
		for i := range 4 {
			files = append(files, hubtest.File{Path: fmt.Sprintf("m-0000%d-of-00004.gguf", i+1), Content: hubtest.Pattern(uint64(i), 24*mib), LFS: true})
		}
		v := r.view("org/model", files...)
		elsewhere = v.Files[1].SHA256
		if elsewhere == "" {
			t.Fatal("the listing has no hash")
		}
		v.Hidden = map[string]bool{v.Files[2].Path: true}
		rd := r.open(v, &v.Files[0])
		readAt(t, rd, files[0].Content, 10*mib, mib)
		must(t, rd.Close())
		<-time.After(time.Minute)
		for i, want := range []bool{true, false, false, true} {
			if got := r.f.State(v.Model, &v.Files[i]).Complete; got != want {
				t.Errorf("%s complete: %v, want %v", v.Files[i].Path, got, want)
			}
		}
	})
}

// A pull takes what lies elsewhere as pulled, if it really does.
func TestPullOfWhatLiesElsewhere(t *testing.T) {
	for name, tt := range map[string]struct {
		place lying
		sent  bool
	}{
		"there":        {lying{size: mib}, false},
		"gone":         {lying{err: model.Errorf(model.NotFound, "pruned")}, true},
		"another size": {lying{size: mib - 1}, true},
		"another's":    {lying{size: mib, locked: model.Errorf(model.Denied, "permission denied")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, inMemory, withConfig(func(c *Config) {
					c.Elsewhere = func(string, int64) model.Place { return tt.place }
				}))
				v, file := r.one(hubtest.Pattern(1, mib))
				var done, total int64
				must(t, r.f.Pull(context.Background(), v, file, func(d, n int64) { done, total = d, n }))
				if (r.sent() > 0) != tt.sent || done != mib || total != mib {
					t.Errorf("%d bytes sent, progress %d of %d", r.sent(), done, total)
				}
			})
		})
	}
}
