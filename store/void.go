package store

import "context"

// voidPart is a part whose files can't be made: the disk is full to the last
// inode, read-only or broken. It has nothing and takes nothing, until a write
// finds that the files can be made after all. Its readers are served what only
// passes through.
func (s *Store) voidPart(id PartID, base string, size int64, why error) *Part {
	rec := &recordFile{hdr: header{id: id, size: size, blocks: capacity(size)}}
	rec.dead.Store(true)
	p := s.newPart(id, base, nil, rec, durableCopy{})
	p.void.Store(&why)
	p.fits.Store(false)
	s.log.Error("a download can't be stored; it is tried again while it is read", "key", id.Key, "error", why)
	return p
}

// filed makes sure that the part has its files. The error is why it has none.
// The caller is a write, which Close waits for.
func (p *Part) filed() error {
	if p.void.Load() == nil {
		return nil
	}
	release, err := p.s.claim(context.Background(), fillName(p.base))
	if err != nil {
		return err
	}
	defer release()
	why := p.void.Load()
	switch {
	case why == nil:
		return nil // another writer made them
	case p.Size() < 0:
		return *why // readers look at the record's header then, and take no lock
	}
	made, err := p.s.openFiles(p.id, p.base, p.Size())
	if err != nil {
		return err
	}
	p.adopt(made)
	return nil
}

// adopt takes over the files of a part that nobody else has. Readers and the
// part's goroutines look at them only after a block is present.
func (p *Part) adopt(made *Part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data, p.rec, p.kept, p.resumed, p.unsynced = made.data, made.rec, made.kept, made.resumed, made.unsynced
	p.have.load(made.have.words())
	p.count.Store(made.count.Load())
	p.hash.reset(made.kept.hash)
	p.void.Store(nil)
}

// closeVoid closes a part that never had files; what another run left of it on
// the disk goes back into the index.
func (p *Part) closeVoid() {
	var idle *idlePart
	if !p.id.Key.Once() {
		idle = p.s.readIdle(p.base)
	}
	p.s.leaveOpen(p, idle)
}

// Refit asks again for the place of a part that did not fit when it was opened,
// and reports whether it fits now.
func (p *Part) Refit() bool {
	p.mu.Lock()
	if p.Fits() || p.ended {
		p.mu.Unlock()
		return p.Fits()
	}
	p.writing = append(p.writing, span{}) // overlaps no write, and Close waits for it
	p.mu.Unlock()
	defer p.endWrite(span{})
	if p.filed() == nil {
		p.fits.Store(p.s.reserve(p))
	}
	return p.Fits()
}
