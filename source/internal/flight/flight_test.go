package flight

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestOneQuestionForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New[int](time.Minute)
		defer g.Close()
		asked := 0
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				v, err := g.Do(context.Background(), "k", func(context.Context) (int, error) {
					asked++
					<-time.After(time.Second)
					return 7, nil
				})
				if v != 7 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
			})
		}
		callers.Wait()
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

// The first caller leaves; the question goes on, and a later caller joins it.
func TestQuestionOutlivesItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New[string](time.Minute)
		defer g.Close()
		slow := func(ctx context.Context) (string, error) {
			select {
			case <-time.After(3 * time.Second):
				return "first", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := g.Do(ctx, "k", slow); !model.IsKind(err, model.Unavailable) {
			t.Errorf("deadline: %v", err)
		}
		start := time.Now()
		v, err := g.Do(context.Background(), "k", func(context.Context) (string, error) { return "second", nil })
		if v != "first" || err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("%q, %v after %v", v, err, time.Since(start))
		}
	})
}

// What was started is joined.
func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New[int](time.Minute)
		defer g.Close()
		g.Start("k", func(context.Context) (int, error) { <-time.After(time.Second); return 1, nil })
		v, err := g.Do(context.Background(), "k", func(context.Context) (int, error) { return 2, nil })
		if v != 1 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
	})
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New[int](time.Minute)
		defer g.Close()
		start := time.Now()
		_, err := g.Do(context.Background(), "k", func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
		if !model.IsKind(err, model.Unavailable) || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestCancelledCaller(t *testing.T) {
	g := New[int](time.Minute)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := g.Do(ctx, "k", func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
	if !model.IsKind(err, model.Interrupted) {
		t.Error(err)
	}
	g.Close()
}

func TestPanicIsAnError(t *testing.T) {
	g := New[int](time.Minute)
	defer g.Close()
	if _, err := g.Do(context.Background(), "k", func(context.Context) (int, error) { panic("defect") }); !model.IsKind(err, model.Internal) {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	g := New[int](time.Minute)
	g.Close()
	if _, err := g.Do(context.Background(), "k", func(context.Context) (int, error) { return 1, nil }); !model.IsKind(err, model.Unavailable) {
		t.Error(err)
	}
}
