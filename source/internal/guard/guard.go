// Package guard answers: can this share be waited for?
//
// Invariants:
//
//  1. A call returns when its context ends, whatever the kernel does.
//  2. At most maxRunning+1 threads are ever stuck on one share, and those that
//     an operation makes itself.
//  3. A share that hangs is asked by one probe at a time; calls fail at once
//     until the probe has come back. That it hangs is found out within patience
//     and probeWithin, whether anybody gives up or not.
//
// It does not know what the operations do.
package guard

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"modelfs/internal/model"
)

const (
	// maxRunning bounds the operations that run on one share, stuck ones
	// included. A thread stuck in the kernel costs 18 KB and can't be got
	// back, and ten thousand end a Go program.
	maxRunning = 32

	// patience is how long an operation may run before the one who stops
	// waiting for it makes the share suspect. It is less than the shortest
	// wait that a lookup is given (300 ms), and far above a healthy round trip.
	patience = 250 * time.Millisecond

	// probeWithin is how long the probe may take that an operation which has run
	// for patience makes: a share that is only slow answers it.
	probeWithin = 100 * time.Millisecond
)

// A Guard lets operations on a share be left behind. An operation that its
// caller gave up on after patience makes the share hung: calls fail at once
// until a single background probe has come back from the share. One that goes
// on for longer than that begins the probe, too, and the share is hung if it
// does not answer that either.
type Guard struct {
	name    string
	timeout time.Duration
	probe   func() error // touches the share itself, not a cache of it
	log     *slog.Logger
	slots   chan struct{} // one element for each running operation
	ended   chan struct{} // closed by Close

	mu     sync.Mutex // guards the rest
	asked  bool       // the probe is under way
	probes int        // probes so far
	hung   bool       // and has not come back in time
	since  time.Time  // when the operation began that made it hung
	stuck  int        // running operations that nobody waits for
	closed bool
}

// New makes the guard of the share that is called name in messages. timeout
// bounds calls without a deadline of their own; probe touches the share itself,
// not a cache of it.
func New(name string, timeout time.Duration, probe func() error, log *slog.Logger) *Guard {
	return &Guard{name: name, timeout: timeout, probe: probe, log: log,
		slots: make(chan struct{}, maxRunning), ended: make(chan struct{})}
}

// A job is one running operation. Its fields are guarded by Guard.mu.
type job struct {
	finished bool
	left     bool // nobody waits any more
}

type result[T any] struct {
	value T
	err   error
}

// Run makes op through g and waits for it no longer than ctx and the guard's
// timeout. With a nil guard it just calls op. If nobody waits any more when
// op succeeds, drop (where not nil) gets its value.
func Run[T any](ctx context.Context, g *Guard, what string, op func() (T, error), drop func(T)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	if g == nil {
		return op()
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	if err := g.enter(ctx); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	j, done, start := &job{}, make(chan result[T], 1), time.Now()
	go work(g, j, op, drop, done)
	slow := time.AfterFunc(patience, g.doubt)
	defer slow.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	case <-g.ended:
	}
	if g.leave(j) {
		r := <-done // finished meanwhile: the result is in the channel or about to be
		return r.value, r.err
	}
	g.suspect(time.Since(start))
	return none, g.gaveUp(ctx, what)
}

// work runs op on its own goroutine; it ends when the kernel answers.
func work[T any](g *Guard, j *job, op func() (T, error), drop func(T), done chan<- result[T]) {
	v, err := recovered(op)
	left := g.finish(j)
	<-g.slots
	switch {
	case !left:
		done <- result[T]{v, err}
	case err == nil && drop != nil:
		drop(v)
	}
}

// recovered turns a panic of op into an error: no one above this goroutine
// could catch it, and it would take the mount along.
func recovered[T any](op func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = model.Errorf(model.Internal, "panic in an operation on a tree: %v", p)
		}
	}()
	return op()
}

// enter takes a slot, at once or as soon as a running operation ends.
func (g *Guard) enter(ctx context.Context) error {
	if err := g.open(); err != nil {
		return err
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return model.Errorf(kindOfWait(ctx), "%s is busy: %w", g.name, ctx.Err())
	case <-g.ended:
		return g.open()
	}
}

// open is nil if an operation may start.
func (g *Guard) open() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return model.Errorf(model.Unavailable, "%s is closed", g.name)
	case g.hung:
		return model.Errorf(model.Unavailable, "%s does not answer; a probe waits for it to come back", g.name)
	case g.stuck >= maxRunning:
		return model.Errorf(model.Unavailable, "%s: %d operations are stuck in it; check the share's server", g.name, g.stuck)
	}
	return nil
}

// finish records that j ended, and reports whether it had been left.
func (g *Guard) finish(j *job) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	j.finished = true
	if j.left {
		g.stuck--
	}
	return j.left
}

// leave gives j up unless it has finished; it reports whether it has.
func (g *Guard) leave(j *job) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if j.finished {
		return true
	}
	j.left = true
	g.stuck++
	return false
}

// suspect makes the share hung if an operation was given up after ran.
func (g *Guard) suspect(ran time.Duration) {
	if ran < patience {
		return
	}
	n, _ := g.probeNow(ran)
	g.hang(n)
}

// doubt begins the probe, because an operation has run for patience. The share
// is hung if that is not back in time.
func (g *Guard) doubt() {
	if n, first := g.probeNow(patience); first {
		time.AfterFunc(probeWithin, func() { g.hang(n) })
	}
}

// hang makes the share hung if its nth probe is under way.
func (g *Guard) hang(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.asked || g.hung || g.probes != n {
		return
	}
	g.hung = true
	g.log.Warn("share does not answer", "source", g.name, "waited", time.Since(g.since))
}

// probeNow begins the probe, unless one is under way: there is never more than
// one. It returns the probe's number, and whether it began it. An operation has
// run for ran.
func (g *Guard) probeNow(ran time.Duration) (n int, began bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asked || g.closed {
		return g.probes, false
	}
	g.asked, g.since = true, time.Now().Add(-ran)
	g.probes++
	go g.await()
	return g.probes, true
}

// Suspect makes the share one that has just hung: calls fail until a probe has
// come back. It is called before the first operation.
func (g *Guard) Suspect() { g.suspect(patience) }

// HungFor is since when the share has not answered; 0: it answers, as far as
// is known.
func (g *Guard) HungFor() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.hung {
		return 0
	}
	return time.Since(g.since)
}

// await makes the probe. Any answer will do: if it is an error, the calls
// that follow get it as quickly.
func (g *Guard) await() {
	start := time.Now()
	_, err := recovered(func() (struct{}, error) { return struct{}{}, g.probe() })
	g.mu.Lock()
	was := g.hung
	g.hung, g.asked = false, false
	g.mu.Unlock()
	if was {
		g.log.Info("share answers again", "source", g.name, "after", time.Since(start), "error", err)
	}
}

func (g *Guard) gaveUp(ctx context.Context, what string) error {
	if ctx.Err() == nil {
		return model.Errorf(model.Unavailable, "%s: %s is closed", what, g.name)
	}
	return model.Errorf(kindOfWait(ctx), "%s: %s did not answer in time: %w", what, g.name, ctx.Err())
}

// kindOfWait is Interrupted if the caller left and Unavailable if time ran out.
func kindOfWait(ctx context.Context) model.Kind { return model.KindOf(ctx.Err()) }

// Close ends every wait; calls after it fail. It does not wait for operations
// that are stuck in the kernel.
func (g *Guard) Close() {
	g.mu.Lock()
	first := !g.closed
	g.closed = true
	g.mu.Unlock()
	if first {
		close(g.ended)
	}
}
