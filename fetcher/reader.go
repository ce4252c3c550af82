package fetcher

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"modelfs/internal/model"
	"modelfs/store"
)

// mostPiece is the most that is waited for at once; longer reads are made in
// pieces that end at multiples of it.
const mostPiece = maxWait * blockSize

// A blobReader reads a file that is complete.
type blobReader struct {
	f    *Fetcher
	blob *store.Blob
}

func (r *blobReader) Size() int64    { return r.blob.Size() }
func (r *blobReader) File() *os.File { return r.blob.File() }
func (r *blobReader) Close() error   { return r.blob.Close() }

// ReadAt follows model.Reader. It waits for nothing but the disk.
func (r *blobReader) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, model.Errorf(model.Invalid, "read at %d", off)
	}
	n, err := r.blob.File().ReadAt(p, off)
	r.f.stats.served.Add(int64(n))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Ready follows fillReader.Ready: everything is here.
func (r *blobReader) Ready(int64, int64) bool { return true }

// A fillReader reads a file that is being fetched, and goes on on the same
// data when it is complete.
type fillReader struct {
	l      *fill
	closed atomic.Bool
}

func (r *fillReader) Size() int64    { return r.l.Size() }
func (r *fillReader) File() *os.File { return nil }

// Close leaves the fill, which stays.
func (r *fillReader) Close() error {
	if r.closed.Swap(true) {
		return os.ErrClosed
	}
	return r.l.f.leave(r.l)
}

// ReadAt follows model.Reader. Errors: Interrupted when ctx ended; Timeout,
// Denied, NotFound, Unavailable of the origin; Corrupt, for ever, once the
// fill's attempt has failed its hash.
func (r *fillReader) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	size := r.l.Size()
	if off < 0 {
		return 0, model.Errorf(model.Invalid, "read %s of %s at %d", r.l.file.Path, r.l.repo, off)
	}
	if off >= size {
		return 0, nil
	}
	p = p[:min(int64(len(p)), size-off)]
	done := 0
	for done < len(p) {
		at := off + int64(done)
		end := min(off+int64(len(p)), (at/mostPiece+1)*mostPiece)
		if err := r.l.readPiece(ctx, p[done:done+int(end-at)], at); err != nil {
			return done, err
		}
		done += int(end - at)
	}
	r.l.f.stats.served.Add(int64(done))
	return done, nil
}

// Ready reports whether [off, off+n) can be read without waiting, so that the
// caller can let go of a buffer before it waits. It does no I/O.
func (r *fillReader) Ready(off, n int64) bool {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	end := blocksOf(min(off+n, l.size))
	return l.phase == completed || l.board.have.nextMissing(off/blockSize, end) == end
}

// Size is the file's length; it is known by the time that a reader exists.
func (l *fill) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// readPiece fills p from off, within one aligned mostPiece.
func (l *fill) readPiece(ctx context.Context, p []byte, off int64) error {
	for {
		w, err := l.await(ctx, p, off, int64(len(p)))
		if err != nil {
			return err
		}
		err = l.pread(w, p, off)
		if !errors.Is(err, store.ErrMissing) {
			return err
		}
		if l.isComplete() {
			return model.Errorf(model.Internal, "read %s of %s: the backing dir lost bytes of a complete file: %w", l.file.Path, l.repo, err)
		}
		l.forget(off, int64(len(p)))
		if err := ctx.Err(); err != nil {
			return l.interrupted(err)
		}
	}
}

// pread reads what is in the part: all of p, but for the blocks that were
// copied into it already.
func (l *fill) pread(w *waiter, p []byte, off int64) error {
	if w == nil || w.got == 0 {
		return l.preadRun(p, off)
	}
	end := off + int64(len(p))
	for block := off / blockSize; block < blocksOf(end); block++ {
		if w.got&(1<<(block-w.first)) != 0 {
			continue
		}
		from, to := max(off, block*blockSize), min(end, (block+1)*blockSize)
		if err := l.preadRun(p[from-off:to-off], from); err != nil {
			return err
		}
	}
	return nil
}

func (l *fill) preadRun(p []byte, off int64) error {
	n, err := l.part.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, store.ErrMissing) {
		return err
	}
	return model.Errorf(model.Internal, "read %s of %s from the backing dir: %w", l.file.Path, l.repo, err)
}

// forget takes from the board what the part no longer has: a failed sync, or
// a disk that lost data.
func (l *fill) forget(off, n int64) {
	for block := off / blockSize; block < blocksOf(off+n); block++ {
		if l.part.Has(block*blockSize, min(blockSize, l.Size()-block*blockSize)) {
			continue
		}
		l.mu.Lock()
		l.have.remove(block)
		l.mu.Unlock()
	}
}

// await waits for [off, off+n) to be here, or copied into p. It returns the
// waiter it waited with, or nil if there was no wait.
func (l *fill) await(ctx context.Context, p []byte, off, n int64) (*waiter, error) {
	w, err := l.register(p, off, n)
	if w == nil || err != nil {
		return nil, err
	}
	l.f.stats.waiting.Add(1)
	defer l.f.stats.waiting.Add(-1)
	select {
	case <-w.ready:
		return w, w.err
	case <-ctx.Done():
		l.mu.Lock()
		done := w.settled
		l.settle(w)
		l.mu.Unlock()
		if done {
			<-w.ready // whoever settled it is about to close it
			return w, w.err
		}
		return nil, l.interrupted(ctx.Err())
	}
}

func (l *fill) interrupted(err error) error {
	return model.Errorf(model.Interrupted, "read %s of %s: %w", l.file.Path, l.repo, err)
}

// register notes a read, and puts it on the board if it has to wait. Both
// results are nil if it has not.
func (l *fill) register(p []byte, off, n int64) (*waiter, error) {
	now := time.Now()
	l.mu.Lock()
	if l.phase == failed {
		defer l.mu.Unlock()
		return nil, l.fail
	}
	if l.phase == completed {
		l.mu.Unlock()
		return nil, nil
	}
	s := l.streams.note(off, n, l.speed)
	began := l.touch(off, n)
	more := began || l.moreAhead(s)
	w, err := l.enter(p, off, n, s, now)
	l.mu.Unlock()
	if began {
		l.f.rouse()
	}
	if w != nil || more {
		l.poke()
	}
	return w, err
}

// moreAhead reports whether a lane could fetch ahead of s. The caller holds
// the lock.
func (l *fill) moreAhead(s *stream) bool {
	if l.phase != filling || l.lanesOff || l.size < 0 || !s.moving() || l.lanes() >= l.ramp.target {
		return false
	}
	_, ok := l.aheadOf(s)
	return ok
}

// enter puts a read on the board, but one that has nothing to wait for, or is
// refused at once: that leaves nothing there. The caller holds the lock.
func (l *fill) enter(p []byte, off, n int64, s *stream, now time.Time) (*waiter, error) {
	end := blocksOf(off + n)
	switch {
	case l.have.nextMissing(off/blockSize, end) == end:
		return nil, nil
	case now.Before(l.failUntil):
		return nil, l.fail
	case p == nil && l.storeOff(now):
		return nil, nil
	}
	w := &waiter{off: off, n: n, p: p, stream: s, since: now, ready: make(chan struct{})}
	quiet := len(l.waiting) == 0
	l.wait(w)
	if quiet && now.After(l.progress) {
		l.progress = now
	}
	return w, nil
}

// touch notes what reading says about the background, and reports whether it
// now has something to do. The caller holds the lock.
func (l *fill) touch(off, n int64) bool {
	if l.touched || l.phase != filling || l.size <= headCost {
		return false
	}
	if off+n <= headSize || off >= l.size-tailSize {
		return false
	}
	l.touched, l.cursor = true, off
	return true
}

// tailSize is the end of a file that some formats keep an index in; reading it
// says nothing about the rest.
const tailSize = 2 << 20
