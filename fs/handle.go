package fs

import (
	"os"
	"sync"

	"modelfs/internal/model"
)

// A handle is one open of a file or a directory.
type handle struct {
	node   *node
	reader model.Reader // of a file that is or was fetched
	file   *os.File     // of a file in place that this process serves
	data   []byte       // of a control or static file
	dir    *listing     // of a directory
	pinned bool         // holds a reference on the node's passthrough registration
}

// handleTable is every open that the kernel has not released. Numbers are
// never used again, so a release that comes twice finds nothing.
type handleTable struct {
	mu   sync.RWMutex // guards what follows; a leaf
	open map[uint64]*handle
	next uint64
}

func newHandleTable() *handleTable {
	return &handleTable{open: make(map[uint64]*handle), next: 1}
}

func (t *handleTable) add(h *handle) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	fh := t.next
	t.next++
	t.open[fh] = h
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
	delete(t.open, fh)
	return h
}

func (t *handleTable) clear() []*handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*handle, 0, len(t.open))
	for _, h := range t.open {
		all = append(all, h)
	}
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
	var err error
	if h.reader != nil {
		err = h.reader.Close()
	}
	if h.file != nil {
		err = firstError(err, h.file.Close())
	}
	if err != nil {
		r.log.Debug("closing a file", "cause", err)
	}
}
