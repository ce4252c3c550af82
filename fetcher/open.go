package fetcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"modelfs/internal/model"
)

// Open opens a file that has to be fetched. A complete one is at hand at once,
// with its File; otherwise it asks the origin, unless that was done, and waits
// for the answer no longer than OpenTimeout, or, where nobody states the
// file's length, until it is downloaded or ctx ends. The caller closes the
// Reader, before the Fetcher.
//
// Errors: Denied and NotFound of the origin; Unavailable if no origin can be
// asked and nothing of the file is here; Corrupt if the origin contradicts the
// listing, or two downloads contradicted their hash; Interrupted.
func (f *Fetcher) Open(ctx context.Context, v *model.View, file *model.File) (model.Reader, error) {
	for {
		if r, err := f.openBlob(v.Model, file); r != nil || err != nil {
			return r, err
		}
		l, err := f.join(ctx, v, file)
		if errors.Is(err, errOver) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r, err := l.open(ctx, v)
		if err != nil || r.File() != nil {
			_ = f.leave(l)
		}
		return r, err
	}
}

// errOver: the fill ended while it was being joined. Its outcome is found by
// looking again.
var errOver = errors.New("the download has just ended")

// openBlob opens the file if it is complete, under whatever key. Both results
// are nil if it is not.
func (f *Fetcher) openBlob(m *model.Model, file *model.File) (model.Reader, error) {
	key := f.have(file)
	if key == "" {
		return nil, nil
	}
	b, err := f.cfg.Store.OpenBlob(key)
	if model.IsKind(err, model.NotFound) {
		return nil, nil // evicted since
	}
	if err != nil {
		return nil, fmt.Errorf("open %s of %s: %w", file.Path, m.Name, err)
	}
	f.name(key, m, file)
	return &blobReader{f: f, blob: b}, nil
}

// open waits for what must be known before reading can begin.
func (l *fill) open(ctx context.Context, v *model.View) (model.Reader, error) {
	if l.Size() == 0 {
		return l.openWhole(ctx, v)
	}
	r := l.resolve()
	if err := l.answered(ctx, r); err != nil {
		return nil, err
	}
	if l.Size() < 0 || l.Size() == 0 {
		return l.openWhole(ctx, v)
	}
	if rd, err := l.f.openTwin(l, v); rd != nil || err != nil {
		return rd, err
	}
	return &fillReader{l: l}, nil
}

// answered waits for the origins' word and judges it. A word that is not
// given in time is none.
func (l *fill) answered(ctx context.Context, r *resolution) error {
	timer := time.NewTimer(l.f.cfg.OpenTimeout)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
		return l.undecided()
	case <-ctx.Done():
		return model.Errorf(model.Interrupted, "open %s of %s: %w", l.file.Path, l.repo, ctx.Err())
	}
	return l.judge(r.err)
}

// undecided judges origins that have not said all they may: an open does not
// wait for ones that are silent, but where each fails again and again, there is
// nobody to wait for. One that was not asked yet is as good as its host.
func (l *fill) undecided() error {
	cands := l.candidates()
	troubles := make(map[string]error) // by host
	for _, c := range cands {
		if err := c.obj.Trouble(); err != nil {
			troubles[c.obj.Host()] = err
		}
	}
	var first error
	for _, c := range cands {
		err := c.obj.Trouble()
		if err == nil {
			if err = troubles[c.obj.Host()]; !model.IsKind(err, model.Unavailable) {
				return nil
			}
		}
		first = cmp.Or(first, err)
	}
	return l.judge(first)
}

// judge is what an open is told of the origins' error; nil is none.
func (l *fill) judge(err error) error {
	if err == nil || !final(err) && l.part.Present() > 0 {
		return nil // what is here can be read, and the origin may come back
	}
	return fmt.Errorf("open %s of %s: %w", l.file.Path, l.repo, err)
}

// openTwin opens a blob that has the sha256 that the origin stated.
func (f *Fetcher) openTwin(l *fill, v *model.View) (model.Reader, error) {
	l.mu.Lock()
	sum := l.digest.SHA256
	l.mu.Unlock()
	if sum == "" {
		return nil, nil
	}
	file := l.file
	file.SHA256 = sum
	return f.openBlob(v.Model, &file)
}

// openWhole waits for the whole file: it is empty, or its length is known
// only at its end.
func (l *fill) openWhole(ctx context.Context, v *model.View) (model.Reader, error) {
	if err := l.download(ctx, nil); err != nil {
		if l.Size() == 0 && model.IsKind(err, model.NoSpace) {
			return &fillReader{l: l}, nil // nothing is easily served
		}
		return nil, err
	}
	r, err := l.f.openBlob(v.Model, &l.file)
	if r == nil && err == nil {
		r = &fillReader{l: l} // evicted since; the part is still open
	}
	return r, err
}

// mostLinks bounds the names that one download is linked under; the others
// are made when they are opened.
const mostLinks = 64

// mostRemembered bounds what is remembered of files besides their fills.
const mostRemembered = 10_000
