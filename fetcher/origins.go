package fetcher

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"modelfs/internal/model"
	"modelfs/internal/origin"
)

// A candidate is one place that the file can be fetched from.
type candidate struct {
	obj *origin.Object

	// Guarded by the fill's lock.
	until  time.Time // it is not asked before
	at     time.Time // of the last failure
	fails  int       // in a row
	err    error     // of the last failure; nil since bytes have come
	serial bool      // it does not serve ranges
}

// The pauses after failures that may pass.
const (
	leastBackoff = 250 * time.Millisecond
	mostBackoff  = 15 * time.Second
)

// final reports whether asking again at once is of no use.
func final(err error) bool {
	switch model.KindOf(err) {
	case model.Denied, model.NotFound, model.Corrupt, model.Invalid:
		return true
	}
	return false
}

func backoff(fails int) time.Duration {
	d := min(leastBackoff<<min(fails, 10), mostBackoff)
	return d/2 + rand.N(d/2)
}

// choose is the candidate to ask now: the first that is not resting, serves
// ranges if any does, and, where there is a choice, is not the one to avoid.
// The caller holds the lock.
func (l *fill) choose(now time.Time, avoid *candidate) *candidate {
	var second *candidate
	for _, c := range l.cands {
		if now.Before(c.until) || c.serial && !l.serial {
			continue
		}
		if c != avoid {
			return c
		}
		second = c
	}
	return second
}

// failure takes in that a candidate failed at what was begun at began, fails
// the reads that nobody can serve now, and says so once.
func (l *fill) failure(c *candidate, err error, began, now time.Time) {
	l.mu.Lock()
	before := c.fails
	woken := l.bad(c, err, began, now)
	fails, pause := c.fails, c.until.Sub(now)
	l.mu.Unlock()
	wake(woken)
	if fails > before {
		l.log.Warn("an origin failed", "origin", c.obj.Host(), "error", err, "in_a_row", fails, "again_in", pause.Round(time.Millisecond))
		l.f.rouse() // its turn in the background may be better used
	}
}

// bad records that a candidate failed. The caller holds the lock and wakes the
// returned readers when it no longer does.
func (l *fill) bad(c *candidate, err error, began, now time.Time) []*waiter {
	if errors.Is(err, origin.ErrNoRanges) {
		c.serial = true
		return nil
	}
	c.err = err
	if began.After(c.at) {
		c.fails++
		c.at = now
		l.ramp.setback(now)
		c.until = now.Add(backoff(c.fails))
		if final(err) {
			c.until = now.Add(remember)
		}
	}
	return l.giveUp(now)
}

// oneStream reports whether one stream from the start is all that can be had
// now: without a length there is nothing to cut into ranges, or the candidates
// that serve them are all resting. The caller holds the lock.
func (l *fill) oneStream(now time.Time) bool {
	serial := l.size < 0
	for _, c := range l.cands {
		if !c.serial && !now.Before(c.until) {
			return l.size < 0
		}
		serial = serial || c.serial
	}
	return serial
}

// giveUp fails what waits if every candidate gave an answer that asking again
// will not change.
func (l *fill) giveUp(now time.Time) []*waiter {
	var worst error
	for _, c := range l.cands {
		if c.err == nil || !final(c.err) || !now.Before(c.until) {
			return nil
		}
		if worst == nil {
			worst = c.err
		}
	}
	return l.failFor(worst, now)
}

// failFor answers waiting reads, and those that come within remember, with err.
func (l *fill) failFor(err error, now time.Time) []*waiter {
	l.fail, l.failUntil = err, now.Add(remember)
	l.granted = l.granted && l.pulls > 0
	l.touched = false // the next read past the head begins the background anew
	return l.failAll(err)
}

// expire fails reads, and pulls whose turn it is, when the fill has had no byte
// for the read timeout.
func (l *fill) expire(now time.Time) {
	l.mu.Lock()
	if !l.waitersNow() && !l.pulledNow() || now.Sub(l.progress) < l.f.cfg.ReadTimeout || now.Before(l.failUntil) {
		l.mu.Unlock()
		return
	}
	err := model.Errorf(model.Timeout, "read %s of %s: no byte came from %s for %v; last error: %w",
		l.file.Path, l.repo, l.source(), l.f.cfg.ReadTimeout, l.lastError())
	woken := l.failFor(err, now)
	dropped := l.dropAll()
	l.mu.Unlock()
	cancel(dropped)
	wake(woken)
	l.log.Error("the reads or pulls of a file timed out", "error", err)
}

var errSilent = errors.New("the connection is silent")

func (l *fill) lastError() error {
	for _, c := range l.cands {
		if c.err != nil {
			return c.err
		}
	}
	return errSilent
}

func (l *fill) source() string { return l.id.Source }

// A resolution is what the origins said when the file was opened.
type resolution struct {
	done chan struct{} // closed when the rest is set
	err  error
	at   time.Time
}

// hashed reports whether the listing states a hash of the file, which shows in
// the end whether bytes of several addresses belong together.
func (l *fill) hashed() bool { return l.file.SHA256 != "" || l.file.GitSHA1 != "" }

func (l *fill) candidates() []*candidate {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cands
}

// holdTo makes c the only candidate of a file without a hash, because something
// of it came from c and nothing shows that others have the same content. It
// reports false where another one is it. The caller holds the lock, and cancels
// the returned transfers when it no longer does.
func (l *fill) holdTo(c *candidate) (others []*transfer, ok bool) {
	at := slices.Index(l.cands, c)
	if at < 0 || len(l.cands) == 1 || l.hashed() {
		return nil, at >= 0
	}
	l.cands = l.cands[at : at+1]
	return l.drop(func(t *transfer) bool { return t.origin != c }), true
}

// errOther ends what is done with the answer of an address when another one
// gives the file.
var errOther = errors.New("another address gives the file")

// resolve asks the candidates, in order, until one answers, and takes in what
// it says. One question serves all opens of the fill; it goes on when its
// caller leaves.
func (l *fill) resolve() *resolution {
	now := time.Now()
	l.mu.Lock()
	r := l.resolving
	if r != nil && r.over() && r.err != nil && now.Sub(r.at) > remember/10 {
		r = nil
	}
	fresh := r == nil
	if fresh {
		r = &resolution{done: make(chan struct{})}
		l.resolving = r
	}
	l.mu.Unlock()
	if fresh && !l.f.spawn(func() { l.ask(l.f.ctx, r) }) {
		r.err = errClosed
		close(r.done)
	}
	return r
}

func (r *resolution) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (l *fill) ask(ctx context.Context, r *resolution) {
	defer close(r.done)
	var first error
	for _, c := range l.candidates() {
		began := time.Now()
		info, err := c.obj.Resolve(ctx)
		if err == nil {
			err = l.takeIn(c, info)
		}
		if err == nil {
			return
		}
		if ctx.Err() == nil && !errors.Is(err, errOther) {
			l.failure(c, err, began, time.Now())
		}
		// Denied and the like say more than "could not be asked".
		if first == nil || final(err) && !final(first) {
			first = err
		}
	}
	r.err, r.at = first, time.Now()
}

// takeIn checks an origin's word against the listing's, and learns from it
// what the listing did not say.
func (l *fill) takeIn(c *candidate, info origin.Info) error {
	l.mu.Lock()
	err := l.contradicts(c, info)
	learns := err == nil && l.size < 0 && info.Size >= 0
	var others []*transfer
	if learns {
		others, _ = l.holdTo(c) // the length is that of its content
	}
	l.mu.Unlock()
	cancel(others)
	if learns {
		err = l.setSize(info.Size)
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	if info.SHA256 != "" {
		l.digest.SHA256 = info.SHA256
	}
	c.serial = info.NoRanges
	digest := l.digest
	l.mu.Unlock()
	l.part.Expect(digest)
	return nil
}

// contradicts is why an origin's word can't be about this file. The caller
// holds the lock.
func (l *fill) contradicts(c *candidate, info origin.Info) error {
	switch {
	case !slices.Contains(l.cands, c):
		return errOther
	case l.size >= 0 && info.Size >= 0 && l.size != info.Size:
		return model.Errorf(model.Corrupt, "%s of %s: the origin states %d bytes, the listing of %s %d",
			l.file.Path, l.repo, info.Size, l.source(), l.size)
	case l.digest.SHA256 != "" && info.SHA256 != "" && l.digest.SHA256 != info.SHA256:
		return model.Errorf(model.Corrupt, "%s of %s: the origin states sha256 %s, the listing of %s %s",
			l.file.Path, l.repo, info.SHA256, l.source(), l.digest.SHA256)
	}
	return nil
}

// setSize states the length that the listing did not.
func (l *fill) setSize(n int64) error {
	if err := l.part.SetSize(n); err != nil {
		return err
	}
	fits := l.part.Fits()
	l.mu.Lock()
	l.resize(n)
	l.fits = fits
	l.mu.Unlock()
	l.f.learn(l.id, n)
	return nil
}
