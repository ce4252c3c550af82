package store

import (
	"cmp"
	"errors"
	"path"
	"slices"

	"modelfs/internal/model"
)

// A victim is something that left the index and is about to leave the disk.
// Exactly one of c and p is set.
type victim struct {
	c       *content
	keys    []model.Key
	names   []string
	p       *idlePart
	bytes   int64
	used    int64
	release func() // gives up the claim on its names
}

// evictLocked takes the least recently used blobs and idle parts out of the
// index until they make up need bytes; dispose has to follow, without the
// lock. Where all of them are not enough it takes none and reports false.
func (s *Store) evictLocked(need int64) ([]victim, bool) {
	if need <= 0 {
		return nil, true
	}
	all := s.evictableLocked()
	slices.SortFunc(all, func(a, b victim) int { return cmp.Compare(a.used, b.used) })
	var sum int64
	for i, v := range all {
		if sum += v.bytes; sum >= need {
			for j := range all[:i+1] {
				s.takeLocked(&all[j])
			}
			return all[:i+1], true
		}
	}
	return nil, false
}

func (s *Store) evictableLocked() []victim {
	var all []victim
	for _, c := range s.inodes {
		if c.opens == 0 && !s.pinnedLocked(c) && s.claimedLocked(claimNames(c.keys)) == nil {
			all = append(all, victim{c: c, bytes: c.size, used: c.used})
		}
	}
	for base, p := range s.idle {
		if !s.pins[p.id.Key] && s.claimedLocked([]string{fillName(base)}) == nil {
			all = append(all, victim{p: p, bytes: p.bytes, used: p.used})
		}
	}
	return all
}

// takeLocked takes a victim out of the index and claims its names, none of
// which may be claimed.
func (s *Store) takeLocked(v *victim) {
	if v.c != nil {
		s.dropLocked(v.c)
		v.keys, v.names = slices.Clone(v.c.keys), slices.Clone(v.c.names)
		v.release = s.claimLocked(claimNames(v.keys))
	} else {
		delete(s.idle, v.p.base)
		v.release = s.claimLocked([]string{fillName(v.p.base)})
	}
	s.leaving += v.bytes
}

// dispose removes evicted things from the disk, and reports whether all of
// them are gone.
func (s *Store) dispose(victims []victim) bool {
	all := true
	for _, v := range victims {
		if err := s.disposeOne(v); err != nil {
			s.log.Error("can't evict", "dir", s.dir, "error", err)
			all = false
			continue
		}
		s.log.Info("evicted", "key", v.key(), "complete", v.c != nil, "bytes", v.bytes)
	}
	return all
}

// disposeOne removes a victim from the disk. A descriptor that someone still
// has stays good: the inode lives as long as it is open. What can't be removed
// goes back into the index.
func (s *Store) disposeOne(v victim) error {
	err := s.unlinkVictim(v)
	s.mu.Lock()
	s.leaving -= v.bytes
	if err != nil {
		s.restoreLocked(v)
	}
	s.mu.Unlock()
	v.release()
	return err
}

func (v *victim) key() model.Key {
	if v.p != nil {
		return v.p.id.Key
	}
	return v.keys[0]
}

func (s *Store) unlinkVictim(v victim) error {
	if v.p != nil {
		return s.removePart(v.p.base)
	}
	for _, n := range v.names {
		s.removeName(n, v.c.ino)
	}
	for _, k := range v.keys {
		if err := s.remove(blobName(k)); err != nil {
			return err
		}
	}
	return nil
}

// restoreLocked puts a victim that can't be removed back into the index, as
// the one to be tried last.
func (s *Store) restoreLocked(v victim) {
	used := s.tickLocked()
	if v.p != nil {
		v.p.used = used
		s.idle[v.p.base] = v.p
		return
	}
	for _, k := range v.keys {
		s.addLocked(k, v.c.ino, v.c.size, used)
	}
	if c := s.inodes[v.c.ino]; c != nil {
		c.names = v.names
	}
}

// removeName removes a name below models/, if it is still that inode's, and
// the directories that it leaves empty.
func (s *Store) removeName(name string, ino uint64) {
	fi, err := s.root.Lstat(name)
	if err != nil || inode(fi) != ino {
		return
	}
	if err := s.remove(name); err != nil {
		s.log.Warn("can't remove the name of an evicted blob", "error", err)
		return
	}
	for dir := path.Dir(name); dir != namesDir && dir != "."; dir = path.Dir(dir) {
		if s.root.Remove(dir) != nil {
			return
		}
	}
}

// removePart removes a part's record first: data without a record is void,
// a record is never without its data.
func (s *Store) removePart(base string) error {
	if err := s.remove(mapName(base)); err != nil {
		return err
	}
	return s.remove(fillName(base))
}

// Remove drops a file from the backing dir: the blob with all its names, and
// what there is of unfinished downloads. The error is of kind InUse while it
// is open or being filled, Denied if it is pinned, NotFound if there is
// nothing of it.
func (s *Store) Remove(key model.Key) error {
	victims, err := s.takeKey(key)
	for _, v := range victims {
		err = errors.Join(err, s.disposeOne(v))
	}
	return err
}

// takeKey takes all that there is of a key out of the index.
func (s *Store) takeKey(key model.Key) ([]victim, error) {
	for {
		s.mu.Lock()
		victims, busy, err := s.keyVictimsLocked(key)
		if err == nil && busy == nil {
			for i := range victims {
				s.takeLocked(&victims[i])
			}
			s.mu.Unlock()
			return victims, nil
		}
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		<-busy // held for directory operations only
	}
}

// keyVictimsLocked lists what there is of a key. busy is not nil while some of
// its names are claimed.
func (s *Store) keyVictimsLocked(key model.Key) (victims []victim, busy chan struct{}, err error) {
	for _, p := range s.open {
		if p.id.Key == key {
			return nil, nil, model.Errorf(model.InUse, "remove %s: it is being downloaded", key)
		}
	}
	c := s.keys[key]
	switch {
	case c != nil && c.opens > 0:
		return nil, nil, model.Errorf(model.InUse, "remove %s: it is open", key)
	case s.pins[key], c != nil && s.pinnedLocked(c):
		return nil, nil, model.Errorf(model.Denied, "remove %s: it is pinned; unpin it first", key)
	case c != nil:
		busy = s.claimedLocked(claimNames(c.keys))
		victims = append(victims, victim{c: c, bytes: c.size})
	}
	for base, p := range s.idle {
		if p.id.Key == key {
			busy = cmp.Or(busy, s.claims[fillName(base)])
			victims = append(victims, victim{p: p, bytes: p.bytes})
		}
	}
	if len(victims) == 0 {
		return nil, nil, model.Errorf(model.NotFound, "remove %s: it is not in %s", key, s.dir)
	}
	return victims, busy, nil
}
