package fs

import (
	"maps"
	"slices"
	"sync"

	"modelfs/internal/model"
)

// A handle is one open of a file or a directory.
type handle struct {
	node   *node
	unique uint64       // of the request that made it, without uniqueResent
	reader model.Reader // what READ gets its bytes from; nil for directories and a tree's passthrough files
	dir    *listing     // of a directory
	stored sync.Once    // says that bytes of it are here
	pinned bool         // holds a reference on the node's passthrough registration

	// inherited is not nil for an open that an earlier server answered: what it
	// needs is opened again by the first request for it.
	inherited *inheritance
}

// handleTable is every open that the kernel has not released. Each is in the
// ledger before the reply is sent.
type handleTable struct {
	ledger *ledger

	mu   sync.RWMutex // guards what follows; a leaf but for the ledger's
	open map[uint64]*handle
	// resent finds the opens of an earlier server by the request that made
	// them: their replies may have been lost.
	resent map[uint64]uint64
}

func newHandleTable(l *ledger) *handleTable {
	return &handleTable{ledger: l, open: make(map[uint64]*handle), resent: make(map[uint64]uint64)}
}

// add gives an open its number, which is never used again: a release that
// comes twice finds nothing.
func (t *handleTable) add(h *handle) uint64 {
	fh := t.ledger.nextHandle()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[fh] = h
	if err := t.ledger.put(handleID(fh), h.node.id, 0, h.marshal()); err != nil {
		t.ledger.remove(handleID(fh))
	}
	return fh
}

func (t *handleTable) get(fh uint64) *handle {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.open[fh]
}

func (t *handleTable) remove(fh uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[fh]
	if h == nil {
		return nil
	}
	delete(t.open, fh)
	delete(t.resent, h.unique)
	t.ledger.remove(handleID(fh))
	return h
}

func (t *handleTable) all() []*handle {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Values(t.open))
}

// clear empties the table, but not the ledger, and returns what was open.
func (t *handleTable) clear() []*handle {
	all := t.all()
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.open)
	return all
}

func (t *handleTable) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.open)
}

// closeHandle gives back what a handle holds.
func (r *rawFS) closeHandle(h *handle) {
	if h.pinned {
		r.passthrough.release(h.node)
	}
	h.inherited.close()
	if h.reader == nil {
		return
	}
	if err := h.reader.Close(); err != nil {
		r.log.Debug("closing a file", "cause", err)
	}
}
