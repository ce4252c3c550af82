package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"modelfs/internal/model"
)

// refreshEvery is how often a finder looks whether a store has changed.
const refreshEvery = time.Second

// A hashed store names files by their sha256.
type hashed interface {
	ID() string
	Refresh(ctx context.Context) error
	BySHA256(hex string) (model.Place, int64, bool)
}

// A finder knows where content lies in the stores. It answers from memory and
// looks at the stores behind, each in a goroutine of its own: one that hangs
// holds up no other.
type finder struct {
	stores []hashed
	asked  []chan struct{} // one for each store, holding one token while somebody has asked
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// newFinder makes a finder for those of the trees that name files by hash. The
// caller closes it, before the trees.
func newFinder(trees []tree, log *slog.Logger) *finder {
	ctx, cancel := context.WithCancel(context.Background())
	f := &finder{cancel: cancel}
	for _, t := range trees {
		h, ok := t.(hashed)
		if !ok {
			continue
		}
		asked := make(chan struct{}, 1)
		asked <- struct{}{}
		f.stores, f.asked = append(f.stores, h), append(f.asked, asked)
		f.wg.Go(func() { refresh(ctx, h, asked, log) })
	}
	return f
}

// close ends the looking and waits for it.
func (f *finder) close() {
	f.cancel()
	f.wg.Wait()
}

// refresh brings a store's index up to date when somebody has asked.
func refresh(ctx context.Context, h hashed, asked <-chan struct{}, log *slog.Logger) {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	for {
		select {
		case <-asked:
		case <-ctx.Done():
			return
		}
		if err := h.Refresh(ctx); err != nil && ctx.Err() == nil {
			log.Debug("what lies in a store is not known", "source", h.ID(), "cause", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// find is where a file with this sha256 and size (-1: any) lies, as of the
// last look at the stores, or nil. It does no I/O.
func (f *finder) find(sha256 string, size int64) model.Place {
	if all := f.findAll(sha256, size); len(all) > 0 {
		return all[0]
	}
	return nil
}

// findAll is find for all the stores that have the file.
func (f *finder) findAll(sha256 string, size int64) []model.Place {
	var found []model.Place
	for i, h := range f.stores {
		select {
		case f.asked[i] <- struct{}{}:
		default:
		}
		if p, n, ok := h.BySHA256(sha256); ok && (size < 0 || n == size) {
			found = append(found, p)
		}
	}
	return found
}
