package tree

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

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
			here := New(root, local)
			if err := here.failed("reading", c.rel, c.err); !model.IsKind(err, c.want) || !errors.Is(err, c.err) {
				t.Errorf("local %v, %v: %v", local, c.err, err)
			}
		}
	}
	for _, local := range []bool{true, false} {
		gone := New(root+"/gone", local)
		want := model.Unavailable
		if local {
			want = model.NotFound
		}
		if err := gone.failed("reading", "m", unix.ENOENT); !model.IsKind(err, want) {
			t.Errorf("local %v, no root: %v", local, err)
		}
		if err := gone.Probe(); err == nil {
			t.Error("the probe of nothing succeeded")
		}
	}
	if err := New(root, true).Probe(); err != nil {
		t.Error(err)
	}
}

// What one directory of many may fail with.
func TestTolerable(t *testing.T) {
	for kind, want := range map[model.Kind]bool{model.NotFound: true, model.Denied: true, model.Unavailable: false, model.Internal: false} {
		if got := Tolerable(model.Errorf(kind, "x")) == nil; got != want {
			t.Errorf("%v: %v", kind, got)
		}
	}
}

// A share that goes away while an operation holds it has said nothing of what
// is in it.
func TestHeldRootThatIsGone(t *testing.T) {
	for local, want := range map[bool]model.Kind{true: model.NotFound, false: model.Unavailable} {
		root := plant(t, map[string]string{"m/model.gguf": "w"})
		held, release, err := New(root, local).Hold()
		must(t, err)
		must(t, os.RemoveAll(root))
		_, statErr := held.Stat("m/model.gguf")
		_, listErr := held.List("m")
		for _, err := range []error{statErr, listErr} {
			if !model.IsKind(err, want) {
				t.Errorf("local %v: %v", local, err)
			}
		}
		release()
	}
}
