package fetcher

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/store"
)

// phase is how far a fill is.
type phase int

const (
	filling   phase = iota
	verifying       // every byte is here and is being checked, synced and linked
	completed
	failed // corrupt: this attempt is over
)

// remember is for how long an answer that an origin gave is given again.
const remember = 10 * time.Second

// A fill is the download that makes one file complete.
type fill struct {
	f     *Fetcher
	id    fillID
	file  model.File // of the first who asked; Size and hashes may be learnt later
	repo  string
	log   *slog.Logger
	ready chan struct{} // closed when part, or the error of opening it, is set
	err   error         // of opening the part
	part  *store.Part
	kick  chan struct{} // run has something to look at
	over  chan struct{} // closed when the attempt is completed or has failed
	gone  chan struct{} // closed when the part is, for whoever opens the file next

	// Guarded by Fetcher.mu.
	refs    int
	closing bool
	idle    time.Time // since when refs is 0

	closeOnce sync.Once

	mu        sync.Mutex   // guards all below; a leaf
	*board                 // what is here and on its way
	cands     []*candidate // the addresses that may give bytes, in order of preference; see newFill and holdTo
	phase     phase
	running   bool // run is, or is about to be
	digest    store.Digest
	links     []store.Link
	resolving *resolution
	view      *model.View // the last that it was opened through, for its set
	settled   bool        // no source that ranks higher was silent when it was opened
	touched   bool        // reading went past the head
	sibling   bool        // filled for the sake of its set
	spread    bool        // its set was looked at
	wanted    time.Time   // since when it wants its turn in the background
	pulls     int
	granted   bool // its turn in the background
	fail      error
	failUntil time.Time // until then reads of what is missing answer fail
	progress  time.Time // of the last byte, or since when somebody waits for one
	noStore   time.Time // until then nothing is stored
	fits      bool
	refitted  time.Time // when it was last asked whether it fits
	serial    bool      // one stream from the start is all that can be had; see oneStream
	retry     time.Time // when a completion that the disk did not allow is tried again
	unkept    error     // why it did not; not nil until then
	losses    int       // completions that a failed sync undid
	rests     time.Time // until then it has no turn in the background for that
	ticked    time.Time // last look at the speed
	tickBytes int64
	swept     time.Time
	tenth     int64 // of the size, last logged
	begun     time.Time
}

// active reports whether the fill has work to do.
func (l *fill) active() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running
}

// poke has run look at the board, and starts it if it is not running.
func (l *fill) poke() {
	l.mu.Lock()
	start := !l.running && l.phase == filling && l.part != nil
	running := l.running
	if start {
		l.running = true
	}
	l.mu.Unlock()
	if start && !l.f.spawn(func() { l.run(l.f.ctx) }) {
		l.shutdown(errClosed)
		return
	}
	if running {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
}

// run decides what is asked of the origins, as long as there is something to
// decide.
func (l *fill) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait, more := l.step(ctx)
		if !more {
			return
		}
		timer.Reset(wait)
		select {
		case <-l.kick:
		case <-timer.C:
		case <-ctx.Done():
			l.shutdown(errClosed)
			return
		}
	}
}

// step looks at everything once. more is false when nothing is left to do.
func (l *fill) step(ctx context.Context) (wait time.Duration, more bool) {
	now := time.Now()
	l.expire(now)
	l.tick(now)
	l.release()
	may, serial := l.mayStart(now)
	switch {
	case may && serial:
		l.f.slots.quitLane(l)
		l.startWhole(ctx, now)
	case may:
		l.startDemands(ctx, now)
		l.startLanes(ctx, now)
	default: // nobody waits behind a fill that rests
		l.f.slots.quitDemand(l)
		l.f.slots.quitLane(l)
	}
	l.climb(now)
	if l.verifyDue(now) {
		l.f.spawn(func() { l.verify(ctx) })
		return 0, false
	}
	return l.rest(now)
}

// rest says how long run may sleep, or that it may end. Whatever step would act
// on has to keep run going: a change that came since step looked was followed
// by a kick, which a run that ends does not hear.
func (l *fill) rest(now time.Time) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiters := l.waitersNow()
	if !waiters && len(l.transfers) == 0 && !l.wantsMore() {
		l.running = false
		return 0, false
	}
	switch {
	case waiters:
		return sweepTime, true
	case len(l.transfers) > 0:
		return rampTime, true
	case l.complete():
		return max(0, l.retry.Sub(now)), true // to be verified
	}
	wait := l.pausedUntil(now).Sub(now)
	if l.pulledNow() { // expire has to look in time
		wait = min(wait, l.progress.Add(l.f.cfg.ReadTimeout).Sub(now))
	}
	return max(wait, rampTime), true
}

func (l *fill) waitersNow() bool { return len(l.waiting) > 0 }

// pulledNow reports whether a pull waits for bytes, and not for its turn.
func (l *fill) pulledNow() bool {
	return l.pulls > 0 && l.granted && l.phase == filling && !l.complete()
}

// wantsMore reports whether the fill would start something if it could.
func (l *fill) wantsMore() bool {
	if l.phase != filling {
		return false
	}
	return l.complete() || l.granted || l.streamsWant()
}

func (l *fill) streamsWant() bool {
	if l.lanesOff || l.size < 0 || l.storeOff(time.Now()) {
		return false
	}
	_, ok := l.nextAhead()
	return ok
}

// mayStart reports whether requests may be made now, and whether there can be
// only the one from the start.
func (l *fill) mayStart(now time.Time) (may, serial bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.phase == filling && !now.Before(l.pausedUntil(now)), l.serial
}

// pausedUntil is when an origin may be asked again.
func (l *fill) pausedUntil(now time.Time) time.Time {
	if now.Before(l.failUntil) {
		return l.failUntil
	}
	var soonest time.Time
	for i, c := range l.cands {
		if i == 0 || c.until.Before(soonest) {
			soonest = c.until
		}
	}
	return soonest
}

// drop ends the transfers that match; the caller cancels them when it no longer
// holds the lock.
func (l *fill) drop(match func(*transfer) bool) []*transfer {
	var dropped []*transfer
	for _, t := range l.transfers {
		if match(t) {
			t.dropped = true
			dropped = append(dropped, t)
		}
	}
	return dropped
}

func (l *fill) dropAll() []*transfer { return l.drop(func(*transfer) bool { return true }) }

func cancel(ts []*transfer) {
	for _, t := range ts {
		t.cancel()
	}
}

// wake tells readers that their bytes, or their error, are here.
func wake(ws []*waiter) {
	for _, w := range ws {
		close(w.ready)
	}
}

// failAll takes every waiting read off the board with an error. The caller
// holds the lock, and wakes them when it no longer does.
func (l *fill) failAll(err error) []*waiter {
	var woken []*waiter
	for _, w := range l.queue {
		if !w.settled {
			w.err = err
			l.settle(w)
			woken = append(woken, w)
		}
	}
	l.sweep()
	return woken
}

// shutdown fails what waits and lets nothing start again.
func (l *fill) shutdown(err error) {
	l.mu.Lock()
	if l.phase == filling || l.phase == verifying {
		l.phase = failed
		l.fail = err
		close(l.over)
	}
	l.running = false
	woken := l.failAll(err)
	l.mu.Unlock()
	wake(woken)
}

func (l *fill) closePart() error {
	var err error
	l.closeOnce.Do(func() {
		defer close(l.gone)
		if l.part == nil {
			return
		}
		if l.id.Key.Once() && !l.isComplete() {
			_ = l.part.Discard() // nothing shows that what comes next belongs to it; what is left is removed at the next start
			if l.mayDiffer() {
				l.f.countAttempt(l.id)
			}
		}
		err = l.part.Close()
	})
	return err
}

// mayDiffer reports whether another download of the file may bring another
// address's content than was received.
func (l *fill) mayDiffer() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fetched > 0 && len(l.file.URLs) > 1
}

func (l *fill) isGone() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

func (l *fill) isComplete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.phase == completed
}
