package share

import (
	"context"
	"os"
	"sync/atomic"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
)

// A place is a file of a share. It implements model.Place.
type place struct {
	s        *Source
	path     string
	promised int64 // the size without which it is not the file; -1: any
}

// Path implements model.Place.
func (p *place) Path() string { return p.path }

// Relayed reports whether the file is never handed to the kernel.
func (p *place) Relayed() bool { return p.s.cfg.Relay }

// Stat implements model.Place.
func (p *place) Stat(ctx context.Context) (model.Stat, error) {
	r, err := p.s.call(ctx, "reading "+p.path, request{Op: opStat, Path: []byte(p.path)})
	if err != nil {
		return model.Stat{}, err
	}
	return r.Stat, tree.Promised(p.path, r.Stat.Size, p.promised)
}

// Open implements model.Place. The descriptor only names the file.
func (p *place) Open(ctx context.Context) (*os.File, model.Stat, error) {
	f, st, _, err := p.open(ctx, 0)
	return f, st, err
}

// open also says who opened the file. With a number that is where it is open to
// be read.
func (p *place) open(ctx context.Context, number uint64) (*os.File, model.Stat, *child, error) {
	r, c, err := p.s.callChild(ctx, "opening "+p.path, func(*child) (request, *os.File) {
		return request{Op: opOpen, Path: []byte(p.path), File: number}, nil
	})
	if err == nil && r.file == nil {
		err = orNonsense(nil)
	}
	if err == nil {
		if err = tree.Promised(p.path, r.Stat.Size, p.promised); err == nil {
			return r.file, r.Stat, c, nil
		}
		r.file.Close()
	}
	if c != nil && number != 0 {
		c.post(request{Op: opClose, File: number}, nil)
	}
	return nil, model.Stat{}, nil, err
}

// Reader implements model.Place.
func (p *place) Reader(ctx context.Context) (model.Reader, model.Stat, error) {
	number := p.s.files.Add(1)
	f, st, c, err := p.open(ctx, number)
	if err != nil {
		return nil, st, err
	}
	r := &reader{s: p.s, file: f, path: p.path, size: st.Size, number: number}
	r.sent.Store(c)
	r.at.Store(c)
	return r, st, nil
}

// Head implements model.Place.
func (p *place) Head(ctx context.Context, n int64) ([]byte, error) {
	r, st, err := p.Reader(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, max(0, min(n, st.Size)))
	got, err := r.ReadAt(ctx, b, 0)
	return b[:got], err
}

// A reader reads a file through the share's child.
type reader struct {
	s      *Source
	file   *os.File // names it
	path   string
	size   int64
	number uint64
	sent   atomic.Pointer[child] // who opened it, or was handed it last
	at     atomic.Pointer[child] // who opened it, or has answered a read of it, and need not be handed it again
}

func (r *reader) Size() int64    { return r.size }
func (r *reader) File() *os.File { return nil }

// ReadAt follows model.Reader. It waits no longer than ctx and the share's
// timeout; a share that does not answer is Unavailable.
func (r *reader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		want := min(len(p)-done, slotSize)
		n, err := r.read(ctx, p[done:done+want], off+int64(done))
		done += n
		if err != nil || n < want {
			return done, err
		}
	}
	return done, nil
}

func (r *reader) read(ctx context.Context, p []byte, off int64) (int, error) {
	got, c, err := r.s.callChild(ctx, "reading "+r.path, func(c *child) (request, *os.File) {
		q := request{Op: opRead, File: r.number, Off: off, Len: len(p)}
		if r.at.Load() == c {
			return q, nil
		}
		r.sent.Store(c)
		return q, r.file
	})
	if err != nil {
		return 0, err
	}
	r.at.Store(c)
	if got.Read == 0 {
		c.discard(got)
		return 0, nil
	}
	ok := c.window.copy(p, got.Slot, got.Read)
	c.discard(got)
	if !ok {
		return 0, model.Errorf(model.Unavailable, "reading %s: the process that reads the share has ended", r.path)
	}
	return got.Read, nil
}

// Close follows model.Reader. It waits for nobody: the descriptor only names
// the file.
func (r *reader) Close() error {
	if c := r.sent.Load(); c != nil {
		c.post(request{Op: opClose, File: r.number}, nil)
	}
	return r.file.Close()
}
