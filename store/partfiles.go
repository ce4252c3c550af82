package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// partPerm is the mode of a part's files.
const partPerm = 0o600

// openFiles resumes the part's files, or starts over where they can't be
// believed.
func (s *Store) openFiles(id PartID, base string, size int64) (*Part, error) {
	p, err := s.resumeFiles(id, base, size)
	if err == nil {
		return p, nil
	}
	if !errors.Is(err, iofs.ErrNotExist) {
		s.log.Warn("a download starts over: what there is of it can't be used", "key", id.Key, "source", id.Source, "error", err)
	}
	p, err = s.createFiles(id, base, size)
	if s.remade(err) {
		p, err = s.createFiles(id, base, size)
	}
	if err != nil {
		_ = s.removePart(base) // of what was made, whatever there is; the error is the creation's
		return nil, diskError(err, "create the part of %s in %s", id.Key, s.path(fillsDir))
	}
	return p, nil
}

func (s *Store) newPart(id PartID, base string, data *os.File, rec *recordFile, kept durableCopy) *Part {
	p := &Part{
		s: s, id: id, base: base, data: data, rec: rec, hash: newHasher(kept.hash), kept: kept,
		have: newBitmap(rec.hdr.blocks), wake: make(chan struct{}, 1), jobs: make(chan func()), stop: make(chan struct{}),
	}
	p.settled = sync.NewCond(&p.mu)
	p.size.Store(rec.hdr.size)
	p.fits.Store(true)
	return p
}

// createFiles makes an empty part. What was there of another one is gone from
// the disk, durably, before the new data file exists: an old record must never
// be found beside new data.
func (s *Store) createFiles(id PartID, base string, size int64) (*Part, error) {
	_, err := s.root.Lstat(mapName(base))
	if err := s.removePart(base); err != nil {
		return nil, err
	}
	if err == nil {
		if err := s.syncDir(fillsDir); err != nil {
			return nil, err
		}
	}
	data, err := s.createFile(fillName(base))
	if err != nil {
		return nil, err
	}
	rec, err := s.createMap(id, base, size, data)
	if err != nil {
		_ = data.Close()
		return nil, err
	}
	return s.newPart(id, base, data, rec, durableCopy{}), nil
}

func (s *Store) createFile(name string) (*os.File, error) {
	return s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, partPerm)
}

func (s *Store) createMap(id PartID, base string, size int64, data *os.File) (*recordFile, error) {
	if err := data.Truncate(max(size, 0)); err != nil {
		return nil, fmt.Errorf("size the data: %w", err)
	}
	fi, err := data.Stat()
	if err != nil {
		return nil, err
	}
	f, err := s.createFile(mapName(base))
	if err != nil {
		return nil, err
	}
	h := header{id: id, size: size, blocks: capacity(size), boot: s.sys.boot, attempt: randomUint(), ino: inode(fi)}
	rec, err := createRecord(f, h)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return rec, nil
}

func randomUint() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// resumeFiles opens an earlier part. Any error means that it can't be used;
// it is iofs.ErrNotExist where there is none.
func (s *Store) resumeFiles(id PartID, base string, size int64) (_ *Part, err error) {
	var files []*os.File
	defer func() {
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
		}
	}()
	for _, name := range []string{fillName(base), mapName(base)} {
		f, err := s.openForWriting(name)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	data, mapFile := files[0], files[1]
	rec, err := readPair(data, mapFile)
	if err != nil {
		return nil, err
	}
	if rec.id != id || size >= 0 && rec.size != size || id.Key.Once() {
		return nil, fmt.Errorf("the record is that of %s (source %s, %d bytes)", rec.id.Key, rec.id.Source, rec.size)
	}
	if err := dropHoles(rec, data); err != nil {
		return nil, fmt.Errorf("look for holes in the data: %w", err)
	}
	words := s.believe(rec, data)
	rf, err := adoptRecord(mapFile, rec, s.sys.boot, s.sys.datasync)
	if err != nil {
		return nil, err
	}
	p := s.newPart(id, base, data, rf, durableCopy{words: rec.words, hash: rec.slot.hash})
	p.have.load(words)
	p.count.Store(p.have.bytes(p.Size()))
	p.resumed = p.Present()
	p.unsynced = p.Present() // the record has to be settled, and may lack some
	return p, nil
}

// openForWriting opens one of a part's files. The data may be read-only: it was
// about to become a blob when its process ended.
func (s *Store) openForWriting(name string) (*os.File, error) {
	f, err := s.root.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, iofs.ErrPermission) && s.root.Chmod(name, partPerm) == nil {
		f, err = s.root.OpenFile(name, os.O_RDWR, 0)
	}
	return f, err
}

// readPair reads a part's record and checks that it belongs to the data file.
func readPair(data, mapFile *os.File) (*record, error) {
	mi, err := mapFile.Stat()
	if err != nil {
		return nil, err
	}
	di, err := data.Stat()
	if err != nil {
		return nil, err
	}
	rec, err := readRecord(mapFile, mi.Size())
	switch {
	case err != nil:
		return nil, err
	case rec.ino != inode(di):
		return nil, fmt.Errorf("the data is not the file that was recorded: %w", errRecord)
	case rec.size >= 0 && di.Size() != rec.size:
		return nil, fmt.Errorf("the data has %d bytes, recorded are %d: %w", di.Size(), rec.size, errRecord)
	case max(lastBlock(rec.live), lastBlock(rec.words))-1 >= blocksFor(di.Size()):
		return nil, fmt.Errorf("the data ends before the last recorded block: %w", errRecord)
	}
	return rec, nil
}

// believe is the blocks that are certain: the durable copy, and in the boot of
// the record also the live bitmap, because the page cache is still there,
// unless the kernel failed to write some of it: a sync tells.
func (s *Store) believe(rec *record, data *os.File) []uint64 {
	if s.sys.boot == "" || rec.boot != s.sys.boot || lastBlock(rec.live) == 0 {
		return rec.words
	}
	if err := s.sys.datasync(data); err != nil {
		s.log.Error("a download lost what was not yet durable: the disk failed a sync", "key", rec.id.Key, "error", err)
		rec.boot = "" // so that the live bitmap is cleared
		return rec.words
	}
	words := slices.Clone(rec.live)
	for i, w := range rec.words { // what is durable need not be in the live bitmap
		words[i] |= w
	}
	return words
}

// dropHoles takes from the record the blocks that were never written: a bit
// that flipped on the disk or in memory must not make zeros of a hole. What is
// no hole is left to the hash. A filesystem that knows no holes has none.
func dropHoles(rec *record, data *os.File) error {
	fi, err := data.Stat()
	if err != nil {
		return err
	}
	fd, end := int(data.Fd()), min(fi.Size(), max(lastBlock(rec.live), lastBlock(rec.words))*BlockSize)
	for at := int64(0); at < end; {
		hole, err := unix.Seek(fd, at, unix.SEEK_HOLE)
		if err != nil || hole >= end {
			return err
		}
		at, err = unix.Seek(fd, hole, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			at, err = end, nil
		}
		if err != nil {
			return err
		}
		clearRange(rec.live, hole/BlockSize, blocksFor(at))
		clearRange(rec.words, hole/BlockSize, blocksFor(at))
	}
	rec.limit()
	return nil
}
