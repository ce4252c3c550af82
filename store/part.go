package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"modelfs/internal/model"
)

// ErrMissing is what Part.ReadAt wraps when a range is not present, or no
// longer (a failed sync forgets): ask Has again and wait.
var ErrMissing = errors.New("the bytes are not here")

// errEnded is what a part answers that was completed, discarded or closed.
var errEnded = errors.New("the part takes no more data")

// A PartID names a part: one per key and source.
type PartID struct {
	Key    model.Key
	Source string // a source's ID, at most 1024 bytes
}

// base is the name of the part's files in fills/, without their endings.
func (id PartID) base() string {
	if id.Source == "" {
		return string(id.Key)
	}
	h := sha256.Sum256([]byte(id.Source))
	return string(id.Key) + "." + hex.EncodeToString(h[:4])
}

func fillName(base string) string { return fillsDir + "/" + base + ".part" }
func mapName(base string) string  { return fillsDir + "/" + base + ".map" }

// A Part is a file that is being filled. Its methods may be called from any
// goroutine, but not after Close. It owns two goroutines, which end in Close:
// the keeper makes data and record durable, the hasher follows the front.
type Part struct {
	s    *Store
	id   PartID
	base string
	data *os.File
	rec  *recordFile // the keeper's, but for mark
	hash *hasher

	resumed int64 // bytes that were present when it was opened

	// Read without a lock; mu is held to change them.
	have  bitmap
	count atomic.Int64 // bytes present
	size  atomic.Int64 // -1: unknown
	fits  atomic.Bool
	void  atomic.Pointer[error] // why there are no files; nil: data and rec are there

	reserves bool     // guarded by Store.mu: the rest of the file has its place promised
	content  *content // guarded by Store.mu: the blob that completion made of it, held until Close

	wake chan struct{}  // tells the keeper that there is something to push out or to sync
	jobs chan func()    // work that only the keeper may do
	stop chan struct{}  // closed by Close
	gone sync.WaitGroup // the goroutines
	kept durableCopy    // the keeper's

	// mu guards what follows. Nothing blocks under it but settled.Wait.
	mu       sync.Mutex
	settled  *sync.Cond // signalled when a write ends
	writing  []span     // block ranges that are being written; they don't overlap
	gen      uint64     // counts the times that data was forgotten
	ended    bool       // no more writes: completed, discarded or closed
	dropped  bool       // discarded: nothing is present ever again
	closed   bool
	unpushed int64 // bytes written and not yet pushed out
	unsynced int64 // bytes written and not yet in a durable copy
}

// span is the blocks [from, to).
type span struct{ from, to int64 }

// durableCopy is what was there when the last good data sync began; the
// newest slot says the same, or less.
type durableCopy struct {
	words []uint64
	hash  hashState
}

// OpenPart creates or resumes the part of a key and source. size is the file's
// length in bytes, or -1 while no one has stated it. What can't be known to be
// there of an earlier download is forgotten. The error is of kind InUse if the
// part is open already, Invalid if the id or the size can't be, NoSpace if no
// file can be so long. Where the disk takes no new files there is a Part that
// stores nothing (see voidPart). The caller closes the Part.
func (s *Store) OpenPart(id PartID, size int64) (*Part, error) {
	if !id.Key.Valid() || len(id.Source) > maxSource || size < -1 {
		return nil, model.Errorf(model.Invalid, "open a part of %q (source %q, %d bytes): not a key, a source and a size", id.Key, id.Source, size)
	}
	if size > maxPartSize {
		return nil, model.Errorf(model.NoSpace, "open a part of %s: %d bytes are more than one file can hold", id.Key, size)
	}
	base := id.base()
	if err := s.takeBase(base, id); err != nil {
		return nil, err
	}
	p, err := s.openFiles(id, base, size)
	for model.IsKind(err, model.NoSpace) && s.evictOne() {
		p, err = s.openFiles(id, base, size)
	}
	if err != nil {
		p = s.voidPart(id, base, size, err)
	}
	s.mu.Lock()
	s.open[base] = p
	s.mu.Unlock()
	if err == nil {
		p.fits.Store(s.reserve(p))
	}
	p.start()
	return p, nil
}

// takeBase makes the caller the only one that has the part's files.
func (s *Store) takeBase(base string, id PartID) error {
	release, err := s.claim(context.Background(), fillName(base))
	if err != nil {
		return err
	}
	defer release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[base] != nil {
		return model.Errorf(model.InUse, "open a part of %s: it is being filled already", id.Key)
	}
	opening := &Part{id: id}
	opening.size.Store(s.sizeLocked(id, base))
	delete(s.idle, base)
	s.open[base] = opening
	return nil
}

func (p *Part) start() {
	p.gone.Add(2)
	go p.keep()
	go p.follow()
	p.nudge()
}

// Size is the length in bytes, or -1 while it is unknown.
func (p *Part) Size() int64 { return p.size.Load() }

// Present is the number of bytes that are here.
func (p *Part) Present() int64 { return p.count.Load() }

// Fits reports whether the file was promised its place, if need be by
// evicting others. Where it is false nothing is evicted for it, and WriteAt
// gives NoSpace once the room is used up. OpenPart and SetSize decide it; it is
// true while the size is unknown.
func (p *Part) Fits() bool { return p.fits.Load() }

// SetSize states the length of a part that was opened without one. Stating the
// same length again does nothing. The error is of kind Invalid if the part has
// another length, or data beyond n.
func (p *Part) SetSize(n int64) error {
	if p.Size() == n {
		return nil
	}
	if n < 0 || n > maxPartSize {
		return model.Errorf(model.Invalid, "size of the part of %s: %d bytes", p.id.Key, n)
	}
	err := p.do(context.Background(), func() error { return p.setSize(n) })
	if err != nil {
		return err
	}
	p.fits.Store(p.void.Load() == nil && p.s.reserve(p))
	p.hash.kick()
	return nil
}

// setSize runs in the keeper.
func (p *Part) setSize(n int64) error {
	p.mu.Lock()
	p.waitWritesLocked()
	was, end := p.Size(), lastBlock(p.have.words())*BlockSize
	ok := !p.ended && was == -1 && end <= n
	if ok {
		p.size.Store(n)
	}
	p.mu.Unlock()
	if !ok {
		return model.Errorf(model.Invalid, "size of the part of %s: stated as %d bytes, but it has %d (-1: unknown) and data up to %d", p.id.Key, n, was, end)
	}
	if p.void.Load() != nil {
		return nil
	}
	err := p.data.Truncate(n)
	if err == nil {
		err = p.rec.setSize(n)
	}
	if err != nil {
		p.size.Store(-1)
		return diskError(err, "size the part of %s", p.id.Key)
	}
	return nil
}

// Has reports whether all of [off, off+n) is present; what lies beyond the
// end of the file counts as present. It does no I/O.
func (p *Part) Has(off, n int64) bool {
	r := p.blocks(off, n)
	return off >= 0 && n >= 0 && r.to <= p.limit() && p.have.all(r.from, r.to)
}

// blocks is the range of blocks that [off, off+n), cut at the end of the file,
// touches.
func (p *Part) blocks(off, n int64) span {
	end := p.Size()
	if end < 0 {
		end = maxPartSize
	}
	n = min(n, end-off)
	if n <= 0 || off < 0 {
		return span{}
	}
	return span{off / BlockSize, (off+n-1)/BlockSize + 1}
}

// limit is the number of blocks that the part may have.
func (p *Part) limit() int64 {
	if size := p.Size(); size >= 0 {
		return blocksFor(size)
	}
	return p.rec.hdr.blocks
}

// Missing is the next range at or after from that is not here; n is 0 where
// there is none. While the size is unknown the last range ends at 1 TiB.
func (p *Part) Missing(from int64) (off, n int64) {
	limit := p.limit()
	first := p.have.next(min(max(from, 0)/BlockSize, limit), limit, false)
	if first == limit {
		return 0, 0
	}
	end := p.have.next(first, limit, true) * BlockSize
	if size := p.Size(); size >= 0 {
		end = min(end, size)
	}
	off = max(first*BlockSize, from)
	return off, end - off
}

// Expect announces the digest that Complete will be given, so that it is
// computed while data arrives. The sha256 always is.
func (p *Part) Expect(d Digest) {
	if d.GitSHA1 != "" {
		p.hash.wantGit()
	}
}

// Discard removes data and record, and frees the id: the next OpenPart starts
// a new attempt. From then on nothing of this part is present and it takes no
// data. Of a completed part it removes nothing. Close is still due.
func (p *Part) Discard() error {
	if !p.end() {
		return nil
	}
	err := p.do(context.Background(), func() error {
		p.mu.Lock()
		p.dropped = true
		p.waitWritesLocked()
		p.forgetLocked(nil)
		p.mu.Unlock()
		p.hash.reset(hashState{})
		return p.s.removePart(p.base)
	})
	p.s.leaveOpen(p, nil)
	return err
}

// end makes the part refuse writes, and reports whether it was not ended
// before.
func (p *Part) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.ended
	p.ended = true
	return !was
}

// Close makes durable what is here and keeps it for resuming; ReadAt goes on
// working until then. It waits for the part's goroutines and running writes.
// Further calls do nothing.
func (p *Part) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	unfinished := !p.ended
	p.ended = true
	p.waitWritesLocked()
	p.mu.Unlock()

	close(p.stop)
	p.gone.Wait()
	if p.void.Load() != nil {
		p.closeVoid()
		return nil
	}
	var idle *idlePart
	var err error
	switch {
	case unfinished && p.id.Key.Once():
		err = p.s.removePart(p.base)
	case unfinished:
		err = p.persist()
		idle = p.asIdle()
	}
	err = errors.Join(err, p.rec.close(), p.data.Close())
	p.s.leaveOpen(p, idle)
	p.s.releaseContent(p)
	if err != nil {
		return fmt.Errorf("close the part of %s: %w", p.id.Key, err)
	}
	return nil
}

// asIdle is what remains of a part that is closed. What has grown is the last
// that was used, whatever the clock says; the file's own time says so to the
// next process.
func (p *Part) asIdle() *idlePart {
	idle := &idlePart{base: p.base, id: p.id, size: p.Size(), bytes: p.Present()}
	fi, err := p.data.Stat()
	if err != nil {
		return idle
	}
	idle.bytes, idle.used = diskBytes(fi), fi.ModTime().UnixNano()
	if p.Present() > p.resumed {
		p.s.mu.Lock()
		idle.used = p.s.tickLocked()
		p.s.mu.Unlock()
		_ = p.s.root.Chtimes(fillName(p.base), time.Time{}, time.Unix(0, idle.used))
	}
	return idle
}

// leaveOpen takes a part out of the open ones. idle, if not nil, is what
// remains of it.
func (s *Store) leaveOpen(p *Part, idle *idlePart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.reserves = false
	if s.open[p.base] == p {
		delete(s.open, p.base)
		if idle != nil {
			s.idle[p.base] = idle
		}
	}
}

// releaseContent lets go of the blob that a closed part became.
func (s *Store) releaseContent(p *Part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.content != nil {
		p.content.opens--
		p.content = nil
	}
}
