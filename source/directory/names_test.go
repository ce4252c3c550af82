package directory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// Everyone who asks while a walk is under way gets its answer, and no second
// walk gets stuck.
func TestOneWalkForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := source(t, plant(t, map[string]string{"m/model.gguf": "w"}), model.Shared)
		w, mine := s.joinWalk()
		if !mine {
			t.Fatal("a walk is under way")
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := s.Names(ctx); !model.IsKind(err, model.Unavailable) {
			t.Errorf("while the walk hangs: %v", err)
		}
		var asking sync.WaitGroup
		for range 5 {
			asking.Go(func() {
				if found, err := s.Names(context.Background()); err != nil || len(found) != 1 || found[0].Name != "walked" {
					t.Errorf("joined: %v, %v", found, err)
				}
			})
		}
		synctest.Wait()
		s.endWalk(w, []model.Found{{Name: "walked"}}, nil)
		asking.Wait()
		if found, err := s.Names(context.Background()); err != nil || len(found) != 1 || found[0].Name != "m" {
			t.Errorf("the next walk: %v, %v", found, err)
		}
	})
}

// A walk that can't begin fails everyone, and the next one begins.
func TestWalkOfAHungShare(t *testing.T) {
	s := source(t, plant(t, map[string]string{"m/model.gguf": "w"}), model.Shared)
	hang := func(hung bool) {
		s.guard.mu.Lock()
		defer s.guard.mu.Unlock()
		s.guard.hung = hung
	}
	hang(true)
	for range 2 {
		if _, err := s.Names(context.Background()); !model.IsKind(err, model.Unavailable) {
			t.Errorf("hung: %v", err)
		}
	}
	hang(false)
	if found, err := s.Names(context.Background()); err != nil || len(found) != 1 {
		t.Errorf("back: %v, %v", found, err)
	}
}

// Only what says "not there" is absent, and only if the root is there.
func TestFailureKinds(t *testing.T) {
	root := plant(t, nil)
	for _, c := range []struct {
		err  error
		rel  string
		want model.Kind
	}{
		{unix.ENOENT, "m", model.NotFound}, {unix.ENOTDIR, "m", model.NotFound}, {unix.ELOOP, "m", model.NotFound},
		{unix.ENAMETOOLONG, "m", model.NotFound}, {unix.EXDEV, "m", model.NotFound},
		{unix.ESTALE, "m", model.Unavailable}, {unix.EIO, "m", model.Unavailable}, {unix.ETIMEDOUT, "m", model.Unavailable},
		{unix.EHOSTDOWN, "m", model.Unavailable}, {unix.EMFILE, "m", model.Unavailable}, {unix.ENOMEM, "m", model.Unavailable},
		{errors.New("something else"), "m", model.Unavailable}, {fmt.Errorf("wrapped: %w", unix.ESTALE), "m", model.Unavailable},
		{unix.EACCES, "m", model.Denied}, {unix.EPERM, "m", model.Denied}, {unix.EACCES, ".", model.Unavailable},
	} {
		for _, local := range []bool{true, false} {
			here := &tree{root: root, local: local}
			if err := here.failed("reading", c.rel, c.err); !model.IsKind(err, c.want) || !errors.Is(err, c.err) {
				t.Errorf("local %v, %v: %v", local, c.err, err)
			}
		}
	}
	for _, local := range []bool{true, false} {
		gone := &tree{root: root + "/gone", local: local}
		want := model.Unavailable
		if local {
			want = model.NotFound
		}
		if err := gone.failed("reading", "m", unix.ENOENT); !model.IsKind(err, want) {
			t.Errorf("local %v, no root: %v", local, err)
		}
		if err := gone.probe(); err == nil {
			t.Error("the probe of nothing succeeded")
		}
	}
	if err := (&tree{root: root}).probe(); err != nil {
		t.Error(err)
	}
}

func TestIdentity(t *testing.T) {
	for kind, want := range map[model.SourceKind]string{model.Local: "local:/srv/models", model.Shared: "shared:/srv/models"} {
		if s := source(t, "/srv/models/", kind); s.ID() != want || s.Kind() != kind {
			t.Errorf("%s, %v", s.ID(), s.Kind())
		}
	}
}

// What one directory of many may fail with.
func TestTolerable(t *testing.T) {
	for kind, want := range map[model.Kind]bool{model.NotFound: true, model.Denied: true, model.Unavailable: false, model.Internal: false} {
		if got := tolerable(model.Errorf(kind, "x")) == nil; got != want {
			t.Errorf("%v: %v", kind, got)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	for _, seed := range []string{`{"weight_map":{"a":"x.safetensors","b":"x.safetensors"}}`, `{}`, `null`, `[]`, `{"weight_map":[]}`, `{"weight_map":{"a":"../x"}}`, `{"weight_map":{"a":1}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		parts, err := parseIndex(raw)
		if err != nil && !model.IsKind(err, model.Invalid) {
			t.Errorf("kind of %v", err)
		}
		for i, p := range parts {
			if !model.ValidPath(p) || i > 0 && parts[i-1] >= p {
				t.Errorf("parts %q", parts)
			}
		}
	})
}

func FuzzLabel(f *testing.F) {
	for _, seed := range [][2]string{{"m-Q4_K_M.gguf", "Q4_K_M"}, {"m-Q4_K_M.gguf", "Q4_K"}, {"BF16/m.gguf", "bf16"}, {"", ""}, {"aa", "a"}, {"İ-q4", "q4"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, file, quant string) {
		if quant != "" && !hasLabel("m-"+quant+".gguf", quant) {
			t.Errorf("m-%s.gguf has not the label", quant)
		}
		hasLabel(file, quant)
	})
}
