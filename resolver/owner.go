package resolver

import (
	"context"
	"sync"
)

// An owner starts goroutines and ends them.
type owner struct {
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // guards closed; wg grows only while it is false
	closed bool
}

func newOwner() *owner {
	o := &owner{}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

// start runs f; false if the owner is closed and f does not run.
func (o *owner) start(f func(context.Context)) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.wg.Go(func() { f(o.ctx) })
	return true
}

func (o *owner) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.cancel()
	o.wg.Wait()
}
