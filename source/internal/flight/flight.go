// Package flight answers: is someone already asking that?
//
// Invariants:
//
//  1. Of all callers with one key at one time one question is asked, and all
//     get its answer.
//  2. A question is tied to the Group, not to a caller: whoever leaves, it
//     goes on until it is answered or the group's limit is reached.
//  3. A panic in a question is every caller's error; it ends nothing else.
//
// It remembers no answers.
package flight

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"modelfs/internal/model"
)

// A Group is a set of questions under way. It is safe for concurrent use.
type Group[T any] struct {
	limit   time.Duration
	owner   context.Context // ends with Close
	cancel  context.CancelFunc
	flights singleflight.Group
	asking  sync.WaitGroup

	mu     sync.Mutex // guards closed, and orders asking.Add before Close's Wait
	closed bool
}

// New makes a group whose questions take at most limit. The caller closes it.
func New[T any](limit time.Duration) *Group[T] {
	owner, cancel := context.WithCancel(context.Background())
	return &Group[T]{limit: limit, owner: owner, cancel: cancel}
}

// Close ends every question and waits for it.
func (g *Group[T]) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel()
	g.asking.Wait()
}

// Do asks, or joins those who ask the same. ctx ends the wait, not the
// question; the error is then of kind Unavailable (deadline) or Interrupted.
func (g *Group[T]) Do(ctx context.Context, key string, ask func(context.Context) (T, error)) (T, error) {
	answer := g.flights.DoChan(key, func() (any, error) { return g.ask(ask) })
	var none T
	select {
	case r := <-answer:
		if r.Err != nil {
			return none, r.Err
		}
		return r.Val.(T), nil
	case <-ctx.Done():
		return none, model.Errorf(model.KindOf(ctx.Err()), "no answer in time: %w", ctx.Err())
	}
}

// Start asks without waiting for the answer, unless somebody already asks the
// same.
func (g *Group[T]) Start(key string, ask func(context.Context) (T, error)) {
	g.flights.DoChan(key, func() (any, error) { return g.ask(ask) })
}

// ask recovers by itself: singleflight would panic again on its own
// goroutine, where nothing can catch it.
func (g *Group[T]) ask(question func(context.Context) (T, error)) (v any, err error) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil, model.Errorf(model.Unavailable, "closed")
	}
	g.asking.Add(1)
	g.mu.Unlock()
	defer g.asking.Done()
	defer func() {
		if p := recover(); p != nil {
			v, err = nil, fmt.Errorf("panic while asking: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(g.owner, g.limit)
	defer cancel()
	return question(ctx)
}
