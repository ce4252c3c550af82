package fetcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"modelfs/internal/model"
)

// progressTime is how often a pull reports, and looks whether its fill failed.
const progressTime = 200 * time.Millisecond

// Pull fetches a whole file, by the same fill as its readers, and returns when
// it is complete; of a file that lies elsewhere on this machine it fetches
// nothing. progress, which may be nil, is told the bytes that are here
// and the file's size (-1: unknown) a few times a second. When ctx ends the
// pull ends, with Interrupted, and what was received is kept. Other errors are
// those of Open and ReadAt, and NoSpace where the file can't be stored.
func (f *Fetcher) Pull(ctx context.Context, v *model.View, file *model.File, progress func(done, total int64)) error {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	for {
		if key := f.have(file); key != "" {
			f.name(key, v.Model, file)
			progress(file.Size, file.Size)
			return nil
		}
		if f.lies(ctx, file) {
			progress(file.Size, file.Size)
			return nil
		}
		l, err := f.join(ctx, v, file)
		if errors.Is(err, errOver) {
			continue
		}
		if err != nil {
			return err
		}
		err = l.download(ctx, progress)
		_ = f.leave(l)
		return err
	}
}

// liesWithin is how long a pull waits to see whether a file still lies
// elsewhere.
const liesWithin = time.Second

// lies reports whether the file lies on this machine, outside the backing dir,
// and can be read there.
func (f *Fetcher) lies(ctx context.Context, file *model.File) bool {
	place := f.elsewhere(file)
	if place == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, liesWithin)
	defer cancel()
	_, ok := file.OpensAt(ctx, place)
	return ok
}

// download waits until the fill is complete, and keeps it at work.
func (l *fill) download(ctx context.Context, progress func(done, total int64)) error {
	l.pulling(1)
	defer l.pulling(-1)
	ticker := time.NewTicker(progressTime)
	defer ticker.Stop()
	for {
		done, total, err := l.standing()
		if progress != nil {
			progress(done, total)
		}
		if err != nil {
			return err
		}
		select {
		case <-l.over:
			done, total, err := l.standing()
			if progress != nil {
				progress(done, total)
			}
			return err
		case <-ticker.C:
		case <-ctx.Done():
			return model.Errorf(model.Interrupted, "fetch %s of %s: %w", l.file.Path, l.repo, ctx.Err())
		}
	}
}

func (l *fill) pulling(n int) {
	l.mu.Lock()
	l.pulls += n
	l.progress = time.Now()
	l.mu.Unlock()
	l.f.rouse()
	l.poke()
}

// standing is how much is here, of how much, and why there will be no more.
func (l *fill) standing() (done, total int64, err error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	done, total = min(l.have.count*blockSize, max(l.size, 0)), l.size
	switch {
	case l.phase == completed || l.phase == verifying:
	case l.phase == failed || now.Before(l.failUntil):
		err = fmt.Errorf("fetch %s of %s: %w", l.file.Path, l.repo, l.fail)
	case now.Before(l.retry):
		err = model.Errorf(model.NoSpace, "fetch %s of %s: all of it is here, but can't be kept: %w", l.file.Path, l.repo, l.unkept)
	case l.storeOff(now) || !l.fits:
		err = model.Errorf(model.NoSpace, "fetch %s of %s: the backing dir has no room for its %d bytes; make room or raise the cache's size",
			l.file.Path, l.repo, l.size)
	}
	return done, total, err
}
