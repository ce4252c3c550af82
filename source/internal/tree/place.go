package tree

import (
	"context"
	"errors"
	"io"
	"os"

	"modelfs/internal/model"
	"modelfs/source/internal/guard"
)

// A Place is a file of the tree, found by its path each time: a file that was
// replaced is the new one at once. It implements model.Place.
type Place struct {
	tree  *Tree
	guard *guard.Guard
	rel   string
	size  int64
}

// Place is the file at rel. Calls go through g (nil for a local tree). With a
// size that is not negative the file is there only while it has that size,
// which its name or a manifest promises: anything else is NotFound.
func (t *Tree) Place(g *guard.Guard, rel string, size int64) *Place {
	return &Place{tree: t, guard: g, rel: rel, size: size}
}

type opened struct {
	file, named *os.File // one of them may be nil
	stat        model.Stat
}

func (o opened) close() {
	for _, f := range []*os.File{o.file, o.named} {
		if f != nil {
			f.Close()
		}
	}
}

// Stat implements model.Place.
func (p *Place) Stat(ctx context.Context) (model.Stat, error) {
	return guard.Run(ctx, p.guard, "reading "+p.Path(), func() (model.Stat, error) {
		st, err := p.tree.Stat(p.rel)
		if err == nil {
			err = p.check(st)
		}
		return st, err
	}, nil)
}

// Open implements model.Place.
func (p *Place) Open(ctx context.Context) (*os.File, model.Stat, error) {
	o, err := p.openBy(ctx, func() (o opened, err error) {
		o.file, o.stat, err = p.tree.Open(p.rel)
		return o, err
	})
	return o.file, o.stat, err
}

// OpenPath opens the file so that the descriptor only names it (O_PATH): it
// can't be read, and closing it tells the filesystem nothing.
func (p *Place) OpenPath(ctx context.Context) (*os.File, model.Stat, error) {
	o, err := p.openBy(ctx, func() (opened, error) {
		o, err := p.openBoth()
		if err == nil {
			o.file.Close()
			o.file = nil
		}
		return o, err
	})
	return o.named, o.stat, err
}

// OpenBoth is Open and OpenPath of one and the same file.
func (p *Place) OpenBoth(ctx context.Context) (file, named *os.File, st model.Stat, err error) {
	o, err := p.openBy(ctx, p.openBoth)
	return o.file, o.named, o.stat, err
}

func (p *Place) openBoth() (o opened, err error) {
	o.file, o.named, o.stat, err = p.tree.OpenBoth(p.rel)
	return o, err
}

func (p *Place) openBy(ctx context.Context, open func() (opened, error)) (opened, error) {
	return guard.Run(ctx, p.guard, "opening "+p.Path(), func() (opened, error) {
		o, err := open()
		if err == nil {
			err = p.check(o.stat)
		}
		if err != nil {
			o.close()
			return opened{}, err
		}
		return o, nil
	}, opened.close)
}

// Head implements model.Place.
func (p *Place) Head(ctx context.Context, n int64) ([]byte, error) {
	return guard.Run(ctx, p.guard, "reading "+p.Path(), func() ([]byte, error) { return p.tree.Head(p.rel, n) }, nil)
}

// Reader implements model.Place.
func (p *Place) Reader(ctx context.Context) (model.Reader, model.Stat, error) {
	f, st, err := p.Open(ctx)
	if err != nil {
		return nil, st, err
	}
	return &reader{f, st.Size}, st, nil
}

func (p *Place) check(st model.Stat) error { return Promised(p.Path(), st.Size, p.size) }

// Promised is nil if a file has the size that its name or a manifest promises;
// below 0 nothing is promised. Anything else is NotFound.
func Promised(path string, size, promised int64) error {
	if promised < 0 || size == promised {
		return nil
	}
	return model.Errorf(model.NotFound, "%s has %d bytes instead of %d; it is not, or not yet, what its name says", path, size, promised)
}

// Size is the promised size, or -1.
func (p *Place) Size() int64 { return p.size }

// Path implements model.Place.
func (p *Place) Path() string { return p.tree.Abs(p.rel) }

// A reader reads a file of a tree that answers.
type reader struct {
	file *os.File
	size int64
}

func (r *reader) ReadAt(_ context.Context, b []byte, off int64) (int, error) {
	n, err := r.file.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (r *reader) Size() int64    { return r.size }
func (r *reader) File() *os.File { return r.file }
func (r *reader) Close() error   { return r.file.Close() }
