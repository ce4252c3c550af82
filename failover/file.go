package failover

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"modelfs/internal/model"
)

// A File is one content of a share as the kernel knows it: all opens of it
// share its pages, so they move together.
type File struct {
	f         *Failover
	view      *model.View
	file      model.File
	stat      model.Stat
	size      int64
	elsewhere string // not "": it had moved before this process, and the share is not read
	health    *health
	pieces    *atomic.Int64 // remembered of this file
	moved     atomic.Pointer[target]

	mu        sync.Mutex // guards the rest, and that moved is set while nothing is being noted
	served    map[extent][2]uint64
	unproven  string // not "": why what was served can't be compared any more
	searching chan struct{}
	searched  time.Time // when the last search ended
	nobody    string    // why the last one of this outage that found nobody did; "" before there was one
	failUntil time.Time // reads that nobody can answer fail at once
	err       error     // with which
}

type extent struct {
	off int64
	n   int
}

// A target is where a file has moved to.
type target struct {
	source  string
	content string // its identity, for a process that comes after this one
	open    func(ctx context.Context) (model.Reader, error)
}

// File makes what the kernel is about to learn of a file of a share, which has
// st's size. With older, its pages may hold bytes that an earlier process has
// served; moved is what Moved said in that process: then the share is not read.
func (f *Failover) File(v *model.View, file *model.File, st model.Stat, older bool, moved string) *File {
	x := &File{f: f, view: v, file: *file, stat: st, size: st.Size, health: f.healthOf(v.Source), pieces: &atomic.Int64{}, served: make(map[extent][2]uint64)}
	if older {
		x.unproven = "an earlier server has served some of it"
	}
	x.be(moved)
	runtime.AddCleanup(x, func(n *atomic.Int64) { f.pieces.Add(-n.Load()) }, x.pieces)
	return x
}

// The forms of a target's content.
const (
	bySHA256 = "sha256:"
	byGit    = "git:"
)

func contentOf(f *model.File) string {
	if f.SHA256 != "" {
		return bySHA256 + f.SHA256
	}
	return byGit + f.GitSHA1
}

// be makes the file the content that it had moved to.
func (x *File) be(moved string) {
	if moved == "" {
		return
	}
	x.elsewhere, x.file.SHA256, x.file.GitSHA1 = moved, "", ""
	if sum, ok := strings.CutPrefix(moved, bySHA256); ok {
		x.file.SHA256 = sum
	} else {
		x.file.GitSHA1 = strings.TrimPrefix(moved, byGit)
	}
}

// Moved is not "" once the file has left its share: the identity of what it
// is read from.
func (x *File) Moved() string {
	if t := x.moved.Load(); t != nil {
		return t.content
	}
	return x.elsewhere
}

// Reader reads the file, from the share as long as that answers. It takes
// over share, which may be nil: then the file is opened once the share answers,
// and is Stale if it is another one by then.
func (x *File) Reader(share model.Reader) model.Reader {
	r := &reader{x: x}
	if share != nil {
		r.share.Store(&opened{share})
	}
	return r
}

// states reports whether a file's listing states its hash.
func states(f *model.File) bool { return f.SHA256 != "" || f.GitSHA1 != "" }

// note remembers what was served of the file. false: it has moved meanwhile,
// and the bytes must not be served.
func (x *File) note(p []byte, off int64) bool {
	needed := !states(&x.file) && len(p) > 0
	var sum [2]uint64
	if needed {
		sum = x.f.fingerprint(p)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.moved.Load() != nil {
		return false
	}
	x.nobody = "" // the share answers: the next outage is news
	if !needed || x.unproven != "" {
		return true
	}
	e := extent{off, len(p)}
	old, have := x.served[e]
	switch {
	case have && old != sum:
		x.forgetLocked("it changed while it was read")
	case have:
	case len(x.served) >= maxPieces || x.f.pieces.Load() >= maxAllPieces:
		x.forgetLocked("too much of it was read to be compared")
	default:
		x.served[e] = sum
		x.pieces.Add(1)
		x.f.pieces.Add(1)
	}
	return true
}

// forgetLocked gives up being able to compare.
func (x *File) forgetLocked(why string) {
	x.unproven = why
	x.f.pieces.Add(-x.pieces.Swap(0))
	x.served = nil
}

// A reader is one open of a File.
type reader struct {
	x     *File
	share atomic.Pointer[opened]
	alt   atomic.Pointer[opened]
}

type opened struct{ model.Reader }

func (r *reader) Size() int64    { return r.x.size }
func (r *reader) File() *os.File { return nil }

// Ready reports whether a read would not have to wait, so that the caller can
// let go of its buffer.
func (r *reader) Ready(off, n int64) bool {
	alt := r.alt.Load()
	if alt == nil {
		return !r.x.health.stalled.Load()
	}
	w, ok := alt.Reader.(interface{ Ready(off, n int64) bool })
	return !ok || w.Ready(off, n)
}

// Close follows model.Reader.
func (r *reader) Close() error {
	var err error
	if alt := r.alt.Load(); alt != nil {
		err = alt.Close()
	}
	if share := r.share.Load(); share != nil {
		if e := share.Close(); err == nil {
			err = e
		}
	}
	return err
}

// ReadAt follows model.Reader. Errors: Timeout, if the share has not answered
// for the read timeout and nobody else has the content; those of the share,
// and those of the source that the file has moved to; Interrupted.
func (r *reader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	began := time.Now()
	for {
		if t := r.x.moved.Load(); t != nil {
			return r.readMoved(ctx, t, p, off)
		}
		asked := time.Now()
		n, err := r.readShare(ctx, p, off)
		switch {
		case err == nil && r.x.note(p[:n], off):
			return n, nil
		case err == nil:
			continue
		case ctx.Err() != nil:
			return 0, r.x.interrupted(ctx)
		case !model.IsKind(err, model.Unavailable):
			return r.readFailed(ctx, p, off, n, err)
		}
		if err := r.x.wait(ctx, began, asked, err); err != nil {
			return 0, err
		}
	}
}

func (x *File) interrupted(ctx context.Context) error {
	return model.Errorf(model.Interrupted, "reading %s: %w", at(&x.file, x.view.Model), ctx.Err())
}

// readShare reads from the share, which it waits for no longer than patience.
func (r *reader) readShare(ctx context.Context, p []byte, off int64) (int, error) {
	if r.x.elsewhere != "" {
		return 0, errElsewhere
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	share, err := opening(limited, &r.share, r.x.openShare)
	n := 0
	if err == nil {
		n, err = share.ReadAt(limited, p, off)
	}
	if err == nil {
		r.x.health.answered(time.Now())
	}
	return n, err
}

// openShare opens the file of the share, if it still is that.
func (x *File) openShare(ctx context.Context) (model.Reader, error) {
	r, st, err := x.file.Place.Reader(ctx)
	if err != nil {
		return nil, err
	}
	if st.Dev != x.stat.Dev || st.Ino != x.stat.Ino || st.Size != x.size || !st.ModTime.Equal(x.stat.ModTime) {
		r.Close()
		return nil, model.Errorf(model.Stale, "%s was replaced by another file", x.file.Place.Path())
	}
	return r, nil
}

// opening is what at holds, or what open makes.
func opening(ctx context.Context, at *atomic.Pointer[opened], open func(context.Context) (model.Reader, error)) (model.Reader, error) {
	if have := at.Load(); have != nil {
		return have, nil
	}
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	if !at.CompareAndSwap(nil, &opened{r}) {
		r.Close()
	}
	return at.Load(), nil
}

// readFailed is for a share that answers, with an error: the same bytes from
// somebody else, or that error.
func (r *reader) readFailed(ctx context.Context, p []byte, off int64, n int, cause error) (int, error) {
	select {
	case <-r.x.search(cause):
	case <-ctx.Done():
		return 0, r.x.interrupted(ctx)
	}
	if t := r.x.moved.Load(); t != nil {
		return r.readMoved(ctx, t, p, off)
	}
	return n, cause
}

// readMoved reads from where the file has moved to.
func (r *reader) readMoved(ctx context.Context, t *target, p []byte, off int64) (int, error) {
	alt, err := opening(ctx, &r.alt, t.open)
	if err != nil {
		return 0, fmt.Errorf("reading %s, which has moved to %s: %w", at(&r.x.file, r.x.view.Model), t.source, err)
	}
	return alt.ReadAt(ctx, p, off)
}

// errElsewhere is what a share is taken to say of a file that has left it.
var errElsewhere = &model.Error{Kind: model.Unavailable, Err: left{}}

type left struct{}

func (left) Error() string {
	return "the file had moved to another source, which has to be found again"
}
func (left) Hung() bool { return true }

// silent reports whether no read of the share has come back for patience, by
// a read that began then.
func (x *File) silent(began time.Time) bool {
	last := began
	if good := x.health.good.Load(); good != nil && good.After(began) {
		last = *good
	}
	return time.Since(last) >= patience
}

// wait waits until it is worth asking again: the share, or where the file has
// moved. The read began then; the share, last asked at asked, failed with
// cause. An error ends the read.
func (x *File) wait(ctx context.Context, began, asked time.Time, cause error) error {
	if err := x.givesUp(began, cause); err != nil {
		return err
	}
	var search <-chan struct{}
	if hung(cause) || x.silent(began) {
		x.health.stalled.Store(true)
		search = x.search(cause)
	}
	pause := time.NewTimer(time.Until(asked.Add(retryAfter)))
	defer pause.Stop()
	for {
		select {
		case <-search:
			if x.moved.Load() != nil {
				return nil
			}
			search = nil // it found nothing, which is no reason to ask the share sooner
		case <-pause.C:
			return nil
		case <-ctx.Done():
			return x.interrupted(ctx)
		case <-x.f.ctx.Done():
			return model.Errorf(model.Unavailable, "modelfs is shutting down")
		}
	}
}

// givesUp is the error of a read that nobody has answered for too long, and
// of those that come right after it.
func (x *File) givesUp(began time.Time, cause error) error {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if now.Before(x.failUntil) {
		return x.err
	}
	if now.Sub(began) < x.f.cfg.ReadTimeout {
		return nil
	}
	x.failUntil = now.Add(failedFor)
	x.err = model.Errorf(model.Timeout, "reading %s: %s has not answered for %v, and no other source is known to have the same content: %w",
		at(&x.file, x.view.Model), x.view.Source, x.f.cfg.ReadTimeout, cause)
	return x.err
}
