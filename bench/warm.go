package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// warm compares a job on a complete file through the mount with the same on
// the file itself. cold drops the page caches before each.
func warm(cold bool, j job) func(context.Context, *bench) (sample, error) {
	return func(ctx context.Context, b *bench) (s sample, err error) {
		m, err := b.complete(ctx)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, m.remove()) }()
		native, err := filepath.Glob(filepath.Join(m.cache, "blobs", "*"))
		if err != nil || len(native) != 1 {
			return s, errors.Join(err, errors.New("not one complete file"))
		}
		through := j
		j.Path, through.Path = native[0], m.path(small.name)
		// Forth and back, so that neither is always the second.
		var took [4]float64
		for i, job := range []job{j, through, through, j} {
			if took[i], err = b.timed(ctx, job, cold); err != nil {
				return s, err
			}
		}
		n := small.size(b.o)
		if j.Reads > 0 {
			n = int64(j.Reads) * j.Piece
		}
		return sample{got: perSecond(2*n, took[1]+took[2]), ref: perSecond(2*n, took[0]+took[3])}, nil
	}
}

func (b *bench) timed(ctx context.Context, j job, cold bool) (float64, error) {
	if cold {
		if err := settle(b.dir); err != nil {
			return 0, err
		}
	} else if _, err := (job{Path: j.Path, Way: "read"}).do(ctx); err != nil {
		return 0, err
	}
	o, err := j.do(ctx)
	return o.Seconds, err
}

// complete mounts and has the small file fetched.
func (b *bench) complete(ctx context.Context) (*mount, error) {
	if err := b.behave(unlimited); err != nil {
		return nil, err
	}
	m, err := b.fresh(ctx)
	if err != nil {
		return nil, err
	}
	if _, err = (job{Path: m.path(small.name), Way: "read"}).do(ctx); err == nil {
		_, err = m.completed(ctx, 1)
	}
	if err == nil {
		_, err = os.Stat(m.path(small.name))
	}
	if err != nil {
		return nil, errors.Join(err, m.remove())
	}
	return m, nil
}
