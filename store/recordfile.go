package store

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recordFile is an open record. mark may be called from anywhere; the other
// methods belong to the part's flusher, or to whoever opens or closes the part.
type recordFile struct {
	f    *os.File
	hdr  header
	last slot // the newest one that was written and, unless bad is set, synced; seq 0: none
	bad  bool // a sync of the record failed, or may have in another process: what the kernel shows need not be on the disk

	mapped []byte
	live   []uint64    // the live bitmap, in mapped
	dead   atomic.Bool // live is not to be touched any more
}

// createRecord writes an empty record. The live bitmap is written out as
// zeros, not left a hole: storing to a mapped hole on a full disk is a SIGBUS.
func createRecord(f *os.File, h header) (*recordFile, error) {
	if err := f.Truncate(recordLength(h.blocks)); err != nil {
		return nil, fmt.Errorf("size the record: %w", err)
	}
	if _, err := f.WriteAt(append(h.encode(), make([]byte, area(h.blocks))...), 0); err != nil {
		return nil, fmt.Errorf("write the record: %w", err)
	}
	r := &recordFile{f: f, hdr: h}
	return r, r.mmap()
}

// adoptRecord takes an existing record over. In another boot the live bitmap
// becomes empty, because the durable copy says it all, and only when that is
// on the disk is the header stamped with this boot: otherwise a failed sync
// could leave the stamp and bring old bits back.
func adoptRecord(f *os.File, rec *record, boot string, datasync func(*os.File) error) (*recordFile, error) {
	r := &recordFile{f: f, hdr: rec.header, last: rec.slot, bad: true}
	if rec.boot != boot || boot == "" {
		if _, err := f.WriteAt(make([]byte, area(rec.blocks)), pageSize); err != nil {
			return nil, fmt.Errorf("clear the live bitmap: %w", err)
		}
		if err := datasync(f); err != nil {
			return nil, fmt.Errorf("sync the cleared live bitmap: %w", err)
		}
		r.hdr.boot = boot
		if err := r.writeHeader(); err != nil {
			return nil, err
		}
	}
	return r, r.mmap()
}

func (r *recordFile) mmap() error {
	n := area(r.hdr.blocks)
	m, err := unix.Mmap(int(r.f.Fd()), pageSize, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the record: %w", err)
	}
	r.mapped = m
	r.live = unsafe.Slice((*uint64)(unsafe.Pointer(&m[0])), n/8)
	return nil
}

// mark sets the live bits of blocks [from, to), whose data is written. A
// fault (the file was cut short, or its disk is gone) ends the use of the live
// bitmap and nothing else: it knows less than there is, which is safe.
func (r *recordFile) mark(from, to int64) {
	if r.dead.Load() {
		return
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() != nil {
			r.dead.Store(true)
		}
	}()
	eachWord(from, to, func(i int64, mask uint64) { atomic.OrUint64(&r.live[i], mask) })
}

// voidLive makes the live bitmap say nothing, for good. It stores to memory
// only, so it works on a disk that takes no more writes.
func (r *recordFile) voidLive() {
	r.dead.Store(true)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { _ = recover() }() // what can't be reached can't be read as a bitmap either
	for i := range r.live {
		atomic.StoreUint64(&r.live[i], 0)
	}
}

// moveTo goes on in a new file, in which no boot is stamped and the newest
// slot says what is kept. The old file is closed, whatever the error.
func (r *recordFile) moveTo(f *os.File, kept durableCopy, datasync func(*os.File) error) error {
	old := r.f
	r.f, r.hdr.boot, r.bad = f, "", true
	r.last = slot{seq: 1, words: kept.words, hash: kept.hash}
	if err := f.Truncate(recordLength(r.hdr.blocks)); err != nil {
		return errors.Join(fmt.Errorf("size the record: %w", err), old.Close())
	}
	return errors.Join(r.settle(datasync), old.Close())
}

func (r *recordFile) setSize(n int64) error {
	r.hdr.size = n
	return r.writeHeader()
}

func (r *recordFile) writeHeader() error {
	if _, err := r.f.WriteAt(r.hdr.encode(), 0); err != nil {
		return fmt.Errorf("write the record's header: %w", err)
	}
	return nil
}

// writeSlot writes the next durable copy over the older one and syncs it. If
// that fails the newer one of before still holds.
func (r *recordFile) writeSlot(words []uint64, h hashState, datasync func(*os.File) error) error {
	if err := r.settle(datasync); err != nil {
		return err
	}
	next := slot{seq: r.last.seq + 1, words: words, hash: h}
	if err := r.putSlot(next); err != nil {
		return err
	}
	r.bad = true
	if err := datasync(r.f); err != nil {
		return fmt.Errorf("sync the record: %w", err)
	}
	r.last, r.bad = next, false
	return nil
}

// settle writes header and newest slot once more, byte for byte, and syncs
// them, if they are in doubt: only then may the other slot be given up.
func (r *recordFile) settle(datasync func(*os.File) error) error {
	if !r.bad {
		return nil
	}
	if err := r.writeHeader(); err != nil {
		return err
	}
	if r.last.seq > 0 {
		if err := r.putSlot(r.last); err != nil {
			return err
		}
	}
	if err := datasync(r.f); err != nil {
		return fmt.Errorf("sync the record: %w", err)
	}
	r.bad = false
	return nil
}

func (r *recordFile) putSlot(s slot) error {
	pg, bm := s.encode(r.hdr.attempt)
	if _, err := r.f.WriteAt(append(pg, bm...), slotOffset(r.hdr.blocks, s.seq)); err != nil {
		return fmt.Errorf("write the durable copy of the record: %w", err)
	}
	return nil
}

// close is called when no mark can be running.
func (r *recordFile) close() error {
	r.dead.Store(true)
	if r.mapped != nil {
		_ = unix.Munmap(r.mapped)
		r.mapped, r.live = nil, nil
	}
	return r.f.Close()
}
