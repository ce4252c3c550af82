package store

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"sync"

	"modelfs/internal/model"
)

// hasher computes the content hashes of a part from its start on, as far as
// data is present without a gap. Its bytes come from the page cache, because
// it stays right behind the front.
type hasher struct {
	wake chan struct{} // there may be more to hash

	// mu guards what follows; it is held while bytes that were read are hashed
	// (40 us a block), never while they are read.
	mu      sync.Mutex
	pos     int64 // bytes hashed
	sha256  hash.Hash
	git     hash.Hash     // sha1 of the git blob; nil while it is not wanted or the size is unknown
	want    bool          // git is wanted
	epoch   uint64        // counts restarts: bytes read before one are void
	err     error         // why the data could not be read
	changed chan struct{} // closed when pos stops growing, or err is set
}

func newHasher(st hashState) *hasher {
	h := &hasher{wake: make(chan struct{}, 1), changed: make(chan struct{})}
	h.resetLocked(st)
	return h
}

// resetLocked goes back to a saved state, or to the start where it can't be
// used.
func (h *hasher) resetLocked(st hashState) {
	h.epoch++
	h.pos, h.err = 0, nil
	h.sha256, h.git = sha256.New(), nil
	if st.pos == 0 {
		return
	}
	if h.want && st.sha1 == nil {
		return // the git hash has to begin at the start
	}
	if unmarshal(h.sha256, st.sha256) != nil {
		h.sha256 = sha256.New()
		return
	}
	if st.sha1 != nil {
		h.git, h.want = sha1.New(), true
		if unmarshal(h.git, st.sha1) != nil {
			h.sha256, h.git = sha256.New(), nil
			return
		}
	}
	h.pos = st.pos
}

func unmarshal(h hash.Hash, b []byte) error {
	return h.(encoding.BinaryUnmarshaler).UnmarshalBinary(b)
}

func (h *hasher) reset(st hashState) {
	h.mu.Lock()
	h.resetLocked(st)
	h.mu.Unlock()
	h.kick()
}

func (h *hasher) kick() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *hasher) wantGit() {
	h.mu.Lock()
	if !h.want {
		h.want = true
		h.resetLocked(hashState{})
	}
	h.mu.Unlock()
	h.kick()
}

// save is the state so far.
func (h *hasher) save() hashState {
	h.mu.Lock()
	defer h.mu.Unlock()
	st := hashState{pos: h.pos}
	if h.pos > 0 {
		st.sha256 = marshal(h.sha256)
		if h.git != nil {
			st.sha1 = marshal(h.git)
		}
	}
	return st
}

func marshal(h hash.Hash) []byte {
	b, _ := h.(encoding.BinaryMarshaler).MarshalBinary() // never fails for the standard hashes
	return b
}

// position is where the next bytes are needed, and the epoch that they are
// needed in. size is the length of the file, -1 for unknown; the git hash
// begins with it, so it starts when the size is known.
func (h *hasher) position(size int64) (pos int64, epoch uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.want && h.git == nil && size >= 0 {
		if h.pos > 0 {
			h.resetLocked(hashState{})
		}
		h.startGitLocked(size)
	}
	return h.pos, h.epoch
}

// add hashes bytes that were read at the position of that epoch.
func (h *hasher) add(b []byte, epoch uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch != epoch {
		return
	}
	h.sha256.Write(b)
	if h.git != nil {
		h.git.Write(b)
	}
	h.pos += int64(len(b))
}

func (h *hasher) startGitLocked(size int64) {
	h.git = sha1.New()
	fmt.Fprintf(h.git, "blob %d\x00", size)
}

// pause tells the waiters that pos stays as it is for now.
func (h *hasher) pause(epoch uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch == epoch {
		h.err = err
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// sum is the digests of a file of that size. ok is false while it is not
// wholly hashed; changed is closed when that may have changed. err is why the
// data could not be read; it is told once.
func (h *hasher) sum(size int64) (d Digest, ok bool, changed chan struct{}, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	err, h.err = h.err, nil
	if h.pos != size || h.want && h.git == nil {
		return Digest{}, false, h.changed, err
	}
	d.SHA256 = hex.EncodeToString(h.sha256.Sum(nil))
	if h.git != nil {
		d.GitSHA1 = hex.EncodeToString(h.git.Sum(nil))
	}
	return d, true, nil, nil
}

// digest waits until all of the part is hashed. It fails if data is missing,
// because a failed sync can forget some at any time.
func (p *Part) digest(ctx context.Context) (Digest, error) {
	for {
		size := p.Size()
		if size < 0 || p.Present() != size {
			return Digest{}, model.Errorf(model.Unavailable, "part of %s: %d of %d bytes present: %w", p.id.Key, p.Present(), size, ErrMissing)
		}
		d, ok, changed, err := p.hash.sum(size)
		if ok || err != nil {
			return d, err
		}
		p.hash.kick()
		select {
		case <-changed:
		case <-p.stop:
			return Digest{}, errEnded
		case <-ctx.Done():
			return Digest{}, fmt.Errorf("hash the part of %s: %w", p.id.Key, ctx.Err())
		}
	}
}

// follow is the hasher's goroutine.
func (p *Part) follow() {
	defer p.gone.Done()
	buf := make([]byte, BlockSize)
	for {
		select {
		case <-p.stop:
			return
		case <-p.hash.wake:
		}
		more, epoch, err := true, uint64(0), error(nil)
		for more && err == nil && !p.stopped() {
			more, epoch, err = p.hashNext(buf)
		}
		p.hash.pause(epoch, err)
	}
}

func (p *Part) stopped() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

// hashNext hashes the next block if it is present.
func (p *Part) hashNext(buf []byte) (more bool, epoch uint64, err error) {
	size := p.Size()
	pos, epoch := p.hash.position(size)
	n := int64(len(buf))
	if size >= 0 {
		n = min(n, size-pos)
	}
	if n <= 0 || !p.Has(pos, n) {
		return false, epoch, nil
	}
	if _, err := p.data.ReadAt(buf[:n], pos); err != nil {
		return false, epoch, diskError(err, "read the part of %s for hashing", p.id.Key)
	}
	p.hash.add(buf[:n], epoch)
	return true, epoch, nil
}
