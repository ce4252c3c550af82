package store

import (
	"slices"

	"modelfs/internal/model"
)

// ReadAt reads what is present: like io.ReaderAt, but it returns fewer bytes
// without an error at the end of the file. A range that is not wholly present
// is an error that wraps ErrMissing. It holds no lock.
func (p *Part) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, model.Errorf(model.Invalid, "read the part of %s at %d", p.id.Key, off)
	}
	if size := p.Size(); size >= 0 {
		b = b[:max(0, min(int64(len(b)), size-off))]
	}
	if len(b) == 0 {
		return 0, nil
	}
	if !p.Has(off, int64(len(b))) {
		return 0, model.Errorf(model.Unavailable, "read %d bytes at %d of the part of %s: %w", len(b), off, p.id.Key, ErrMissing)
	}
	n, err := p.data.ReadAt(b, off)
	if err != nil {
		return n, diskError(err, "read the part of %s", p.id.Key)
	}
	return n, nil
}

// WriteAt stores bytes of the file. off is a multiple of BlockSize, and so is
// len(b) unless it reaches the end of a file of known size. Blocks that are
// present already are left alone. Calls run in parallel unless they overlap.
// When the disk is full it evicts and tries again; the error is of kind
// NoSpace when there is nothing to evict (or the part does not fit anyway),
// Invalid for a wrong range or after Complete, Discard or Close.
func (p *Part) WriteAt(b []byte, off int64) error {
	if len(b) == 0 {
		return nil
	}
	r := span{off / BlockSize, (off + int64(len(b)) + BlockSize - 1) / BlockSize}
	gen, err := p.beginWrite(r, off, int64(len(b)))
	if err != nil {
		return err
	}
	defer p.endWrite(r)
	if err := p.filed(); err != nil {
		return err
	}
	for {
		r.from = p.have.next(r.from, r.to, false)
		if r.from == r.to {
			return nil
		}
		run := span{r.from, p.have.next(r.from, r.to, true)}
		data := b[run.from*BlockSize-off : min(run.to*BlockSize-off, int64(len(b)))]
		if err := p.writeRun(run, data, gen); err != nil {
			return err
		}
		r.from = run.to
	}
}

// beginWrite enters a write once no running one overlaps it: of two writers
// of one block, what the first stored is what the hasher reads, so the second
// must not touch it. gen goes to mark.
func (p *Part) beginWrite(r span, off, n int64) (gen uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	overlaps := func(o span) bool { return o.from < r.to && r.from < o.to }
	for slices.ContainsFunc(p.writing, overlaps) {
		p.settled.Wait()
	}
	size := p.Size()
	switch {
	case p.ended:
		return 0, model.Errorf(model.Invalid, "write to the part of %s: %w", p.id.Key, errEnded)
	case off < 0, off%BlockSize != 0, r.to > p.limit(), size >= 0 && off+n > size, n%BlockSize != 0 && off+n != size:
		return 0, model.Errorf(model.Invalid, "write to the part of %s: %d bytes at %d are no blocks of a file of %d bytes", p.id.Key, n, off, size)
	}
	p.writing = append(p.writing, r)
	return p.gen, nil
}

func (p *Part) endWrite(r span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.writing, func(o span) bool { return o.to == r.to })
	p.writing = slices.Delete(p.writing, i, i+1)
	p.settled.Broadcast()
}

// waitWritesLocked waits until no write is running. It gives up the lock
// meanwhile; a running write ends with its system call.
func (p *Part) waitWritesLocked() {
	for len(p.writing) > 0 {
		p.settled.Wait()
	}
}

// writeRun stores blocks that are missing: room, data, live bitmap, bitmap, in
// that order.
func (p *Part) writeRun(r span, b []byte, gen uint64) error {
	if p.Size() < 0 || !p.Fits() {
		if err := p.s.admit(p, int64(len(b))); err != nil {
			return err
		}
		defer p.s.admitted(int64(len(b)))
	}
	for {
		_, err := p.data.WriteAt(b, r.from*BlockSize)
		if err == nil {
			break
		}
		if !noSpace(err) || !p.Fits() || !p.s.evictOne() {
			return diskError(err, "store %d bytes of %s", len(b), p.id.Key)
		}
	}
	p.rec.mark(r.from, r.to)
	return p.mark(r, int64(len(b)), gen)
}

// mark makes written blocks present, unless a sync has failed since: it may
// have been their data that was lost.
func (p *Part) mark(r span, n int64, gen uint64) error {
	p.mu.Lock()
	if p.gen != gen {
		p.mu.Unlock()
		return model.Errorf(model.Internal, "store %d bytes of %s: the disk failed a sync meanwhile", n, p.id.Key)
	}
	p.have.set(r.from, r.to)
	p.count.Add(n)
	p.unpushed += n
	wake := p.unsynced == 0 || p.unpushed >= pushStep
	p.unsynced += n
	p.mu.Unlock()
	if wake {
		p.nudge()
	}
	p.hash.kick()
	return nil
}
