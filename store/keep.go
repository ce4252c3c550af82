package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"modelfs/internal/model"
)

const (
	// pushStep is how much is written before it is pushed out. At 400 MB/s
	// steps of 8 MiB leave 36 MiB for the sync of each second, instead of 743.
	pushStep  = 8 << 20
	syncEvery = time.Second
)

// nudge tells the keeper to look.
func (p *Part) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// keep is the keeper's goroutine. Only it syncs the data: the kernel reports a
// lost write to one sync only, and that one has to forget what was lost.
func (p *Part) keep() {
	defer p.gone.Done()
	var due <-chan time.Time
	failing := false
	for {
		select {
		case <-p.stop:
			return
		case job := <-p.jobs:
			job()
		case <-p.wake:
			push, sync := p.takePush()
			if push {
				pushOut(p.data)
			}
			if sync && due == nil {
				due = time.After(syncEvery)
			}
		case <-due:
			due = nil
			err := p.persist()
			if err != nil && !failing {
				p.s.log.Error("a part could not be made durable", "key", p.id.Key, "error", err)
			}
			failing = err != nil
		}
	}
}

// takePush reports whether there is a step to push out, and anything to sync.
func (p *Part) takePush() (push, sync bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	push, sync = p.unpushed >= pushStep, p.unsynced > 0
	if push {
		p.unpushed = 0
	}
	return push, sync && !p.dropped
}

// do has the keeper do a job and waits for its result.
func (p *Part) do(ctx context.Context, job func() error) error {
	done := make(chan error, 1)
	select {
	case p.jobs <- func() { done <- job() }:
	case <-p.stop:
		return model.Errorf(model.Invalid, "part of %s: %w", p.id.Key, errEnded)
	case <-ctx.Done():
		return fmt.Errorf("part of %s: %w", p.id.Key, ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("part of %s: %w", p.id.Key, ctx.Err())
	}
}

// persist makes what is here durable, if there is anything new. It belongs to
// the keeper. What fails is tried again a second later.
func (p *Part) persist() error {
	p.mu.Lock()
	fresh := p.unsynced > 0 && !p.dropped
	p.unsynced, p.unpushed = 0, 0
	p.mu.Unlock()
	if !fresh {
		return nil
	}
	err := p.syncAll()
	if err != nil {
		p.mu.Lock()
		p.unsynced++
		p.mu.Unlock()
		p.nudge()
	}
	return err
}

// syncAll syncs the data and then records what was there before the sync
// began.
func (p *Part) syncAll() error {
	// The hash covers no more than the bitmap that is copied after it.
	next := durableCopy{hash: p.hash.save()}
	next.words = p.have.words()
	if err := p.s.sys.datasync(p.data); err != nil {
		return errors.Join(diskError(err, "sync the part of %s", p.id.Key), p.forget())
	}
	// Even if the record fails: a slot that was written and not synced is found
	// by the next process, so what it names is never forgotten here.
	p.kept = next
	if err := p.record(next); err != nil {
		return diskError(err, "part of %s", p.id.Key)
	}
	return nil
}

// record writes a durable copy, and before the first one the part's names.
func (p *Part) record(next durableCopy) error {
	if p.rec.last.seq == 0 {
		if err := p.s.syncDir(fillsDir); err != nil {
			return err
		}
	}
	return p.rec.writeSlot(next.words, next.hash, p.s.sys.datasync)
}

// forget goes back to the last durable copy after a failed sync: any block
// since then may be lost, and the kernel will not say so again. The error is
// that of renewing the record.
func (p *Part) forget() error {
	p.rec.voidLive()
	err := p.renewRecord()
	p.mu.Lock()
	p.forgetLocked(p.kept.words)
	p.mu.Unlock()
	p.hash.reset(p.kept.hash)
	return err
}

// renewRecord puts a record in the old one's place that has nothing in common
// with it. Corrections of the old one could fail to be written as well, and
// then its former content would come back and be believed.
func (p *Part) renewRecord() error {
	if err := p.s.remove(mapName(p.base)); err != nil {
		return err
	}
	f, err := p.s.createFile(mapName(p.base))
	if err != nil {
		return diskError(err, "create %s", p.s.path(mapName(p.base)))
	}
	if err := p.rec.moveTo(f, p.kept, p.s.sys.datasync); err != nil {
		return err
	}
	return p.s.syncDir(fillsDir)
}

// forgetLocked makes exactly the blocks of words present, and none in a part
// that was discarded.
func (p *Part) forgetLocked(words []uint64) {
	if p.dropped {
		words = nil
	}
	p.gen++
	p.have.load(words)
	p.count.Store(p.have.bytes(p.Size()))
}
