package fetcher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"modelfs/internal/model"
	"modelfs/internal/origin"
	"modelfs/store"
)

// join returns the fill of a file with one more reference, making it if there
// is none.
func (f *Fetcher) join(ctx context.Context, v *model.View, file *model.File) (*fill, error) {
	id := fillID{Key: file.Key, Source: v.Source}
	if err := f.condemned(id); err != nil {
		return nil, err
	}
	for {
		l, mine, err := f.enter(id, v, file)
		if err != nil {
			return nil, err
		}
		if l.closing {
			if err := l.opening(ctx, l.gone); err != nil {
				return nil, err
			}
			continue
		}
		if mine {
			f.openPart(l)
		}
		if err = l.opening(ctx, l.ready); err == nil {
			if err = l.err; err == nil {
				return f.admit(ctx, l, v, file)
			}
			err = fmt.Errorf("open %s of %s: %w", file.Path, v.Name, err)
		}
		_ = f.leave(l)
		return nil, err
	}
}

// admit lets a reader into a fill that is not over. One that is about to be is
// waited for, which takes no network.
func (f *Fetcher) admit(ctx context.Context, l *fill, v *model.View, file *model.File) (*fill, error) {
	l.refit(time.Now())
	if l.joined(v, file) {
		return l, nil
	}
	err := l.opening(ctx, l.over)
	_ = f.leave(l)
	if err != nil {
		return nil, err
	}
	f.drop(l)
	return nil, errOver
}

func (l *fill) opening(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return model.Errorf(model.Interrupted, "open %s of %s: %w", l.file.Path, l.repo, ctx.Err())
	}
}

// enter finds or makes the fill and takes a reference, unless it is closing:
// then another one can be made when it is gone.
func (f *Fetcher) enter(id fillID, v *model.View, file *model.File) (l *fill, mine bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, false, errClosed
	}
	if l = f.fills[id]; l == nil || l.isGone() {
		l, mine = f.newFill(id, v, file), true
		f.fills[id] = l
	}
	if !l.closing {
		l.refs++
	}
	return l, mine, nil
}

func (f *Fetcher) newFill(id fillID, v *model.View, file *model.File) *fill {
	l := &fill{
		f: f, id: id, file: *file, repo: v.Name, ready: make(chan struct{}), gone: make(chan struct{}),
		over: make(chan struct{}), kick: make(chan struct{}, 1),
		log:    f.log.With("model", v.Name, "file", file.Path, "source", v.Source),
		digest: store.Digest{SHA256: file.SHA256, GitSHA1: file.GitSHA1},
		board:  newBoard(-1), // the memory for what is here is taken once the store has agreed to the size
	}
	l.again = &f.stats.again
	l.size = file.Size
	l.serial = file.Size < 0
	l.lanesOff = l.serial
	for i, u := range file.URLs {
		want := origin.Want{Size: file.Size}
		if i == 0 {
			want.Validator = file.Validator
		}
		l.cands = append(l.cands, &candidate{obj: f.cfg.Door.Object(u, want)})
	}
	if !l.hashed() && !id.Key.Once() {
		// The key was made of the first address, and so is what earlier processes kept.
		l.cands = l.cands[:min(1, len(l.cands))]
	}
	return l
}

// openPart opens the part of a new fill and takes in what is here already.
func (f *Fetcher) openPart(l *fill) {
	defer close(l.ready)
	if len(l.cands) == 0 {
		l.err = model.Errorf(model.Unavailable, "%s states no address for it", l.id.Source)
		f.drop(l)
		return
	}
	part, err := f.cfg.Store.OpenPart(l.id, l.file.Size)
	if err != nil {
		l.err = err
		f.drop(l)
		return
	}
	part.Expect(l.digest)
	l.mu.Lock()
	l.part, l.fits, l.refitted = part, part.Fits(), time.Now()
	l.have.grow(blocksOf(max(l.size, 0)))
	l.mu.Unlock()
	if n := part.Size(); l.file.Size < 0 && n >= 0 {
		l.mu.Lock()
		l.resize(n)
		l.mu.Unlock()
	}
	l.sync()
}

// refit asks again, now and then, whether a file that had no room has some: a
// model may have been removed since, or the disk may be writable again.
func (l *fill) refit(now time.Time) {
	l.mu.Lock()
	due := !l.fits && !now.Before(l.refitted.Add(storeAgain)) && l.phase == filling
	if due {
		l.refitted = now
	}
	l.mu.Unlock()
	if !due || !l.part.Refit() {
		return
	}
	l.mu.Lock()
	l.fits, l.noStore, l.lanesOff = true, time.Time{}, l.serial
	l.mu.Unlock()
	l.f.rouse()
}

// sync takes from the part what is here.
func (l *fill) sync() {
	size := l.part.Size()
	if size < 0 {
		return // serial: begun anew
	}
	at := int64(0)
	for at < size {
		off, n := l.part.Missing(at)
		if n == 0 {
			off = size
		}
		l.mu.Lock()
		for b := at / blockSize; b < blocksOf(off); b++ {
			l.have.add(b)
		}
		for b := off / blockSize; b < blocksOf(off+n); b++ {
			l.have.remove(b)
		}
		l.mu.Unlock()
		at = off + n
	}
}

// joined takes in what one more view says of the file. It reports false where
// the fill is over.
func (l *fill) joined(v *model.View, file *model.File) bool {
	link := linkOf(v.Model, file)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == completed || l.phase == failed {
		return false
	}
	l.settled = l.settled || v.Settled
	l.view = v
	if len(l.links) < mostLinks && !slices.Contains(l.links, link) {
		l.links = append(l.links, link)
	}
	return true
}

// leave gives a reference back.
func (f *Fetcher) leave(l *fill) error {
	f.mu.Lock()
	l.refs--
	last := l.refs == 0
	l.idle = time.Now()
	gone := last && f.fills[l.id] != l
	f.mu.Unlock()
	if last {
		l.calm()
		f.rouse()
	}
	if gone {
		return l.closePart()
	}
	return nil
}

// calm forgets where reading was: nobody reads any more.
func (l *fill) calm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.streams.last; s != nil {
		l.cursor = s.from()
	}
	l.streams = streams{}
}

// drop takes a fill out of the index, so that the next open begins another.
func (f *Fetcher) drop(l *fill) {
	f.mu.Lock()
	if f.fills[l.id] == l {
		delete(f.fills, l.id)
	}
	unused := l.refs == 0
	f.mu.Unlock()
	if unused {
		_ = l.closePart()
	}
}

// learn records a length that the listing did not state.
func (f *Fetcher) learn(id fillID, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sizes) >= mostRemembered {
		clear(f.sizes)
	}
	f.sizes[id] = n
}
