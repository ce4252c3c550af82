package tree

import (
	"context"
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
	file *os.File
	stat model.Stat
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
	o, err := guard.Run(ctx, p.guard, "opening "+p.Path(), func() (opened, error) {
		f, st, err := p.tree.Open(p.rel)
		if err != nil {
			return opened{}, err
		}
		if err := p.check(st); err != nil {
			f.Close()
			return opened{}, err
		}
		return opened{f, st}, nil
	}, func(o opened) { o.file.Close() })
	return o.file, o.stat, err
}

// Head implements model.Place.
func (p *Place) Head(ctx context.Context, n int64) ([]byte, error) {
	return guard.Run(ctx, p.guard, "reading "+p.Path(), func() ([]byte, error) { return p.tree.Head(p.rel, n) }, nil)
}

func (p *Place) check(st model.Stat) error {
	if p.size < 0 || st.Size == p.size {
		return nil
	}
	return model.Errorf(model.NotFound, "%s has %d bytes instead of %d; it is not, or not yet, what its name says", p.Path(), st.Size, p.size)
}

// Path implements model.Place.
func (p *Place) Path() string { return p.tree.Abs(p.rel) }
