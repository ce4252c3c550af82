package fs

import (
	"context"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"modelfs/internal/model"
)

// notifier makes the kernel forget entries whose file has another state now.
// A notification waits for the directory's running lookups, so it is sent
// from here and never from a handler.
type notifier struct {
	raw  *rawFS
	wake chan struct{} // buffered: one wake-up covers all that is pending

	mu      sync.Mutex // guards pending; a leaf
	pending map[contentID]bool
}

type contentID struct {
	key    model.Key
	source string
}

func newNotifier(r *rawFS) *notifier {
	return &notifier{raw: r, wake: make(chan struct{}, 1), pending: make(map[contentID]bool)}
}

func (n *notifier) changed(key model.Key, source string) {
	n.mu.Lock()
	n.pending[contentID{key, source}] = true
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *notifier) loop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		n.mu.Lock()
		todo := n.pending
		n.pending = make(map[contentID]bool)
		n.mu.Unlock()
		for id := range todo {
			n.forgetEntries(id)
		}
	}
}

func (n *notifier) forgetEntries(id contentID) {
	for _, cold := range n.raw.nodes.coldNodes(id.key, id.source) {
		if cold.failed(n.raw) {
			n.raw.nodes.tellFailed(cold)
		}
		cold.mu.Lock()
		names := append([]nameIn(nil), cold.names...)
		cold.mu.Unlock()
		for _, e := range names {
			if st := n.raw.server.EntryNotify(e.parent, e.name); !st.Ok() && st != fuse.ENOENT {
				n.raw.log.Debug("the kernel did not forget an entry", "name", e.name, "cause", st)
			}
		}
	}
}
