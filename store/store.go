// Package store is the disk's door: it answers which bytes of which file are
// in the backing dir, keeps them there, and makes room.
//
// Files are known by their [model.Key]. A file that is being downloaded is a
// Part: sparse data with a record of the blocks that are present. A complete,
// verified file is a Blob, one inode under all its keys and under the names
// below models/ that people look for.
//
// Invariants:
//
//  1. A block is reported present only after its data was written, and after
//     a crash only if it can't have been lost: in the same boot what the live
//     bitmap says, in another one what a data sync had covered.
//  2. A block that is present is never written again.
//  3. A name in blobs/ is only ever made of a complete file, whose hash agreed
//     with the one that was stated, and after its data was synced.
//  4. Nothing that came from outside decides a path: keys are checked, names
//     under models/ are escaped, facts are named by a hash, and everything
//     goes through one os.Root.
//  5. Nothing that is open, pinned or being filled is evicted.
//  6. Names of one key (in blobs/, models/ or fills/) are changed by one
//     goroutine at a time, the one that claimed it; no lock is held over I/O.
//  7. One process has the backing dir, by a lock on the file "lock".
//
// It does not download, wait for bytes, decide what to fetch, or touch
// anything outside the backing dir.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modelfs/internal/model"
)

// BlockSize is the unit of presence in a Part: 64 KiB.
const BlockSize = 64 << 10

// Options says how a backing dir is used.
type Options struct {
	MaxSize int64        // bytes of blobs and parts above which eviction starts; 0: keep a tenth of the disk free
	Private bool         // nobody but the owner may read what is kept; else its modes are left as they are
	Lock    *os.File     // the backing dir's lock, from Lock; the Store closes it, even if Open fails. nil: Open takes it
	Log     *slog.Logger // required
}

// A Store is an open backing dir. Its methods may be called from any
// goroutine.
type Store struct {
	dir    string
	opt    Options
	log    *slog.Logger
	sys    system
	root   *os.Root
	rootFD *os.File // the directory itself, for statfs
	lock   *os.File

	// mu guards the index below. It is a leaf: nothing blocks under it.
	mu      sync.RWMutex
	keys    map[model.Key]*content
	inodes  map[uint64]*content
	pins    map[model.Key]bool
	open    map[string]*Part     // by base; a stand-in that only has its id and size while it is being opened
	idle    map[string]*idlePart // by base: parts that nobody has open
	claims  map[string]chan struct{}
	bytes   int64 // sum of the contents' sizes
	leaving int64 // bytes that are out of the index and not yet off the disk
	clock   int64 // the last time given out by tick, or found on the disk; Unix nanoseconds
	passing int64 // bytes that admit has let in and that are not yet present
}

// system is what the store asks of the machine and tests replace.
type system struct {
	boot     string // this boot's id; "" where the kernel has none
	now      func() time.Time
	datasync func(f *os.File) error
	space    func(dir *os.File) (free, total int64, err error)
}

// Open takes the backing dir over, creating it if need be, reads what is in
// it and removes what nothing owns. The error is of kind InUse, and names the
// holder, if another process has it; Invalid if the directory is not a backing
// dir or has a newer layout.
func Open(dir string, o Options) (*Store, error) {
	return open(dir, o, system{boot: bootID(), now: time.Now, datasync: datasync, space: diskSpace})
}

func open(dir string, o Options, sys system) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("backing dir %s: %w", dir, err)
	}
	s := &Store{
		dir: dir, opt: o, log: o.Log, sys: sys, lock: o.Lock,
		keys: make(map[model.Key]*content), inodes: make(map[uint64]*content), pins: make(map[model.Key]bool),
		open: make(map[string]*Part), idle: make(map[string]*idlePart), claims: make(map[string]chan struct{}),
	}
	if err := s.start(); err != nil {
		_ = s.release()
		return nil, err
	}
	return s, nil
}

func (s *Store) start() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return diskError(err, "create backing dir %s", s.dir)
	}
	var err error
	if s.root, err = os.OpenRoot(s.dir); err != nil {
		return diskError(err, "open backing dir %s", s.dir)
	}
	if s.rootFD, err = s.root.Open("."); err != nil {
		return diskError(err, "open backing dir %s", s.dir)
	}
	for _, step := range []func() error{s.checkLayout, s.takeLock, s.makeLayout, s.scanBlobs, s.scanNames, s.scanParts, s.scanMeta} {
		if err := step(); err != nil {
			return err
		}
	}
	s.trim()
	return nil
}

// Close gives the backing dir up. Parts and blobs must be closed before.
func (s *Store) Close() error {
	s.mu.Lock()
	busy := len(s.open)
	for _, c := range s.inodes {
		busy += c.opens
	}
	s.mu.Unlock()
	if busy > 0 {
		return fmt.Errorf("close backing dir %s: %d files are still open", s.dir, busy)
	}
	return s.release()
}

func (s *Store) release() error {
	var errs []error
	if s.rootFD != nil {
		errs = append(errs, s.rootFD.Close())
	}
	if s.root != nil {
		errs = append(errs, s.root.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Dir is the absolute path of the backing dir.
func (s *Store) Dir() string { return s.dir }

// Has reports whether the file is here, complete and verified. It does no I/O.
func (s *Store) Has(key model.Key) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.keys[key] != nil
}

// Size is the length of a file of which something is here, complete or as a
// part; -1 where none is known. It does no I/O.
func (s *Store) Size(id PartID) int64 {
	base := id.base()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.sizeLocked(id, base)
}

func (s *Store) sizeLocked(id PartID, base string) int64 {
	if c := s.keys[id.Key]; c != nil {
		return c.size
	}
	if p := s.open[base]; p != nil && p.id == id {
		return p.Size()
	}
	if p := s.idle[base]; p != nil && p.id == id {
		return p.size
	}
	return -1
}

// claim waits until nobody else changes the given names (files of the backing
// dir) and then keeps others from it until release is called. Holders only do
// directory operations, so the wait is short.
func (s *Store) claim(ctx context.Context, names ...string) (release func(), err error) {
	for {
		s.mu.Lock()
		busy := s.claimedLocked(names)
		if busy == nil {
			release = s.claimLocked(names)
			s.mu.Unlock()
			return release, nil
		}
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a change of %s: %w", names[0], ctx.Err())
		}
	}
}

func (s *Store) claimedLocked(names []string) chan struct{} {
	for _, n := range names {
		if c := s.claims[n]; c != nil {
			return c
		}
	}
	return nil
}

func (s *Store) claimLocked(names []string) (release func()) {
	done := make(chan struct{})
	for _, n := range names {
		s.claims[n] = done
	}
	return func() {
		s.mu.Lock()
		for _, n := range names {
			delete(s.claims, n)
		}
		s.mu.Unlock()
		close(done)
	}
}
