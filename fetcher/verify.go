package fetcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"modelfs/internal/model"
	"modelfs/store"
)

const (
	// mostAttempts downloads may contradict their hash before the file is
	// given up for condemnedFor.
	mostAttempts = 2
	condemnedFor = 10 * time.Minute
	// verifyAgain is when a completion that the disk did not allow is tried
	// again; until then the fill serves what it has.
	verifyAgain = 30 * time.Second
	// mostRest is the longest that the background rests after failed syncs.
	mostRest = 10 * time.Minute
)

// A corruption is what is remembered of downloads that turned out corrupt, or
// that will be begun anew, maybe with another address's content.
type corruption struct {
	attempts uint32    // ever: each has handles and nodes of its own
	inRow    uint32    // since the last one that was right
	err      error     // of the last; nil once one was right
	until    time.Time // not downloaded again before; zero: it may be
}

// condemned is the error of a file that was corrupt too often.
func (f *Fetcher) condemned(id fillID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.corrupt[id]
	if c == nil || !time.Now().Before(c.until) {
		return nil
	}
	return model.Errorf(model.Corrupt, "downloaded %d times and never as stated; not tried again before %s: %w",
		c.inRow, c.until.Format(time.TimeOnly), c.err)
}

// condemn counts a corrupt download.
func (f *Fetcher) condemn(id fillID, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.nextAttempt(id)
	c.inRow++
	c.err = err
	if c.inRow >= mostAttempts {
		c.until = time.Now().Add(condemnedFor)
	}
}

// countAttempt counts a download that will be begun anew.
func (f *Fetcher) countAttempt(id fillID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nextAttempt(id)
}

// nextAttempt counts an attempt that is over. The caller holds the lock.
func (f *Fetcher) nextAttempt(id fillID) *corruption {
	c := f.corrupt[id]
	if c == nil {
		f.boundAttempts()
		c = &corruption{}
		f.corrupt[id] = c
	}
	c.attempts++
	return c
}

// boundAttempts makes room for one more attempt: files that nothing identifies
// have another key with each listing, so their entries are of no use for long.
// The caller holds the lock.
func (f *Fetcher) boundAttempts() {
	if len(f.corrupt) < mostRemembered {
		return
	}
	for id := range f.corrupt {
		if id.Key.Once() && f.fills[id] == nil {
			delete(f.corrupt, id)
			return
		}
	}
}

// redeem notes that a download was right.
func (f *Fetcher) redeem(id fillID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.corrupt[id]; c != nil {
		c.inRow, c.err, c.until = 0, nil, time.Time{}
	}
}

// verifyDue reports whether every byte is here and the file has to be checked,
// once requests that only double others are out of the way. Then it wants no
// connection: poke does not reach it any more, so whoever waits in line behind
// it would wait for ever.
func (l *fill) verifyDue(now time.Time) bool {
	l.mu.Lock()
	if l.phase != filling || !l.complete() || now.Before(l.retry) {
		l.mu.Unlock()
		return false
	}
	needless := l.dropAll()
	if len(needless) == 0 {
		l.phase = verifying
		l.running = false
	}
	l.mu.Unlock()
	cancel(needless)
	if len(needless) > 0 {
		return false
	}
	l.f.slots.quitDemand(l)
	l.f.slots.quitLane(l)
	return true
}

// verify completes the file, or ends the attempt.
func (l *fill) verify(ctx context.Context) {
	l.learnDigest(ctx)
	l.mu.Lock()
	digest, links := l.digest, l.links
	l.mu.Unlock()
	began := time.Now()
	err := l.part.Complete(ctx, digest, links)
	switch {
	case err == nil:
		l.log.Info("download complete", "bytes", l.Size(), "in", began.Sub(l.begunAt()).Round(time.Millisecond),
			"bytes_per_second", l.average(began), "verified_in", time.Since(began).Round(time.Millisecond))
		l.f.redeem(l.id)
		l.end(completed, nil)
	case model.IsKind(err, model.Corrupt):
		l.discard(fmt.Errorf("%s of %s from %s: %w", l.file.Path, l.repo, l.source(), err))
	case errors.Is(err, store.ErrMissing):
		l.log.Warn("bytes were lost before they were complete and are fetched again", "error", err)
		l.sync()
		l.lost(time.Now())
		l.resume(time.Time{}, nil)
	case ctx.Err() != nil:
	default:
		l.log.Error("a complete download can't be kept; it is served from its part", "error", err, "again_in", verifyAgain)
		l.resume(time.Now().Add(verifyAgain), err)
	}
}

// lost counts completions that a failed sync undid. Fetching the file once more
// is worth it for the first; a disk that fails each sync must not have it fetched
// again and again, so the background then rests for longer and longer.
func (l *fill) lost(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.losses++; l.losses > 1 {
		l.rests = now.Add(min(verifyAgain<<min(l.losses-2, 10), mostRest))
	}
}

// learnDigest asks the origin for a hash where the listing states none and
// nobody has asked. No answer is no hash.
func (l *fill) learnDigest(ctx context.Context) {
	l.mu.Lock()
	known := l.digest != store.Digest{} || len(l.cands) == 0 || l.size == 0
	l.mu.Unlock()
	if known {
		return
	}
	timer := time.NewTimer(digestTime)
	defer timer.Stop()
	select {
	case <-l.resolve().done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// digestTime bounds the wait for an origin that has just served the file.
const digestTime = 10 * time.Second

func (l *fill) begunAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.begun
}

// average is the speed of what this process fetched of the file.
func (l *fill) average(now time.Time) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := now.Sub(l.begun); d > 0 && !l.begun.IsZero() {
		return int64(float64(l.fetched) / d.Seconds())
	}
	return 0
}

// resume goes on filling, or serving until another try, after a completion that
// failed. err is why the disk did not keep it; nil: bytes of it were lost.
func (l *fill) resume(again time.Time, err error) {
	l.mu.Lock()
	l.phase = filling
	l.retry, l.unkept = again, err
	l.mu.Unlock()
	l.poke()
}

// discard ends an attempt whose content is wrong: nothing of it is served again.
func (l *fill) discard(err error) {
	l.log.Error("a download is corrupt and is dropped", "error", err)
	l.mu.Lock()
	l.phase = failed // before the data goes, so that no read finds it half gone
	l.fail = err
	woken := l.failAll(err)
	l.mu.Unlock()
	wake(woken)
	l.f.condemn(l.id, err)
	if derr := l.part.Discard(); derr != nil {
		l.log.Error("a corrupt download can't be removed", "error", derr)
	}
	l.end(failed, err)
}

// end takes the fill out of the index and tells whoever wants to know.
func (l *fill) end(p phase, err error) {
	l.mu.Lock()
	l.phase, l.fail, l.granted = p, err, false
	woken := l.failAll(err) // without an error these look again
	l.mu.Unlock()
	close(l.over)
	wake(woken)
	l.f.drop(l)
	l.f.rouse()
	l.f.cfg.OnChange(l.id.Key, l.id.Source)
}

// A linkID is a name that a blob has been given.
type linkID struct {
	key  model.Key
	link store.Link
}

func linkOf(m *model.Model, file *model.File) store.Link {
	return store.Link{Source: m.Source, Repo: m.Name, Revision: m.Revision, Path: file.Path}
}

// name links a complete file under one more name, once. That it fails costs a
// person a name in the backing dir, and no reader anything.
func (f *Fetcher) name(key model.Key, m *model.Model, file *model.File) {
	id := linkID{key, linkOf(m, file)}
	f.mu.Lock()
	known := f.linked[id]
	if len(f.linked) >= mostRemembered {
		clear(f.linked)
	}
	f.linked[id] = true
	f.mu.Unlock()
	if known {
		return
	}
	if err := f.cfg.Store.Link(key, id.link); err != nil {
		f.log.Warn("a complete file can't be given its name in the backing dir", "model", m.Name, "file", file.Path, "error", err)
	}
}
