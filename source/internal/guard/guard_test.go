package guard

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

// A share is a fake that blocks operations and probes until it is released.
type share struct {
	g      *Guard
	back   chan struct{} // closed when the share answers again
	began  atomic.Int32
	probes atomic.Int32
	drops  atomic.Int32
}

func TestMain(m *testing.M) { leaktest.Main(m) }

func newShare(timeout time.Duration) *share {
	s := &share{back: make(chan struct{})}
	s.g = New("shared:/mnt", timeout, func() error {
		s.probes.Add(1)
		<-s.back
		return nil
	}, slog.New(slog.DiscardHandler))
	return s
}

// call makes an operation that gets stuck, with a deadline.
func (s *share) call(wait time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	return Run(ctx, s.g, "reading", func() (int, error) {
		s.began.Add(1)
		<-s.back
		return 1, nil
	}, func(int) { s.drops.Add(1) })
}

func quick(g *Guard) (int, error) {
	return Run(context.Background(), g, "reading", func() (int, error) { return 7, nil }, nil)
}

func TestHungShareIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(time.Minute)
		defer s.g.Close()
		if v, err := quick(s.g); v != 7 || err != nil {
			t.Fatalf("healthy: %v, %v", v, err)
		}
		start := time.Now()
		if _, err := s.call(time.Second); !model.IsKind(err, model.Unavailable) || time.Since(start) != time.Second {
			t.Errorf("stuck call: %v after %v", err, time.Since(start))
		}
		for range 100 {
			if _, err := s.call(time.Second); !model.IsKind(err, model.Unavailable) {
				t.Errorf("call on a hung share: %v", err)
			}
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("the calls after the first took %v", took-time.Second)
		}
		synctest.Wait()
		if s.began.Load() != 1 || s.probes.Load() != 1 {
			t.Errorf("%d operations and %d probes began, want one of each", s.began.Load(), s.probes.Load())
		}
		close(s.back)
		synctest.Wait()
		if v, err := quick(s.g); v != 7 || err != nil {
			t.Errorf("after it came back: %v, %v", v, err)
		}
		if s.drops.Load() != 1 {
			t.Errorf("%d values of abandoned operations were dropped, want 1", s.drops.Load())
		}
	})
}

// Where the probe answers and operations don't, no more than maxRunning get stuck.
func TestStuckOperationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(time.Minute)
		defer s.g.Close()
		s.g.probe = func() error { s.probes.Add(1); return errors.New("answers at once") }
		for range maxRunning + 5 {
			if _, err := s.call(time.Second); !model.IsKind(err, model.Unavailable) {
				t.Errorf("stuck call: %v", err)
			}
			synctest.Wait() // for the probe
		}
		if n := s.began.Load(); n != maxRunning {
			t.Errorf("%d operations began, want %d", n, maxRunning)
		}
		start := time.Now()
		if _, err := s.call(time.Second); !model.IsKind(err, model.Unavailable) || time.Since(start) != 0 {
			t.Errorf("full of stuck operations: %v after %v", err, time.Since(start))
		}
		close(s.back)
		synctest.Wait()
		if v, err := quick(s.g); v != 7 || err != nil {
			t.Errorf("after they ended: %v, %v", v, err)
		}
	})
}

// A caller that leaves early says nothing about the share.
func TestCancelledCallerIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(time.Minute)
		defer s.g.Close()
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(patience/2, cancel)
		_, err := Run(ctx, s.g, "reading", func() (int, error) { <-s.back; return 0, nil }, nil)
		if !model.IsKind(err, model.Interrupted) {
			t.Errorf("cancelled: %v", err)
		}
		if v, err := quick(s.g); v != 7 || err != nil {
			t.Errorf("the next call: %v, %v", v, err)
		}
		if s.probes.Load() != 0 {
			t.Errorf("%d probes", s.probes.Load())
		}
		close(s.back)
		if _, err := Run(ctx, s.g, "reading", func() (int, error) { t.Error("ran"); return 0, nil }, nil); !model.IsKind(err, model.Interrupted) {
			t.Errorf("already cancelled: %v", err)
		}
	})
}

// Without a deadline of the caller's own the guard's ends the wait.
func TestGuardHasATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(3 * time.Second)
		defer s.g.Close()
		defer close(s.back)
		start := time.Now()
		if _, err := s.call(time.Hour); !model.IsKind(err, model.Unavailable) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// More operations than slots wait for each other, in a share that is slow.
func TestBusyShareIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(time.Minute)
		defer s.g.Close()
		s.g.probe = func() error { s.probes.Add(1); return nil }
		errs := make(chan error, 3*maxRunning)
		for range cap(errs) {
			go func() {
				_, err := Run(context.Background(), s.g, "reading", func() (int, error) { <-time.After(time.Second); return 0, nil }, nil)
				errs <- err
			}()
		}
		start := time.Now()
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v, want three rounds of a second", took)
		}
	})
}

// A share that hangs is found out although nobody gives up on it, and calls
// that come then fail at once.
func TestAHangIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(time.Minute)
		defer s.g.Close()
		go func() { _, _ = s.call(time.Minute) }()
		<-time.After(patience + probeWithin - time.Nanosecond)
		if n := s.g.HungFor(); n != 0 {
			t.Errorf("hung for %v before the probe is late", n)
		}
		<-time.After(2 * time.Nanosecond)
		start := time.Now()
		if _, err := quick(s.g); !model.IsKind(err, model.Unavailable) || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if n := s.g.HungFor(); n < patience+probeWithin || s.probes.Load() != 1 {
			t.Errorf("hung for %v, %d probes", n, s.probes.Load())
		}
		close(s.back)
		synctest.Wait()
		if v, err := quick(s.g); v != 7 || err != nil || s.g.HungFor() != 0 {
			t.Errorf("after it came back: %v, %v", v, err)
		}
	})
}

// A child that comes after one that was stuck lets nobody in before it has
// asked.
func TestSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(time.Minute)
		defer s.g.Close()
		s.g.Suspect()
		if _, err := quick(s.g); !model.IsKind(err, model.Unavailable) {
			t.Errorf("suspected: %v", err)
		}
		close(s.back)
		synctest.Wait()
		if v, err := quick(s.g); v != 7 || err != nil {
			t.Errorf("after the probe: %v, %v", v, err)
		}
	})
}

func TestCloseEndsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShare(time.Minute)
		time.AfterFunc(time.Second, s.g.Close)
		start := time.Now()
		if _, err := s.call(time.Hour); !model.IsKind(err, model.Unavailable) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, err := quick(s.g); !model.IsKind(err, model.Unavailable) {
			t.Errorf("closed: %v", err)
		}
		s.g.Close()
		close(s.back)
	})
}

func TestPanicIsAnError(t *testing.T) {
	s := newShare(time.Minute)
	defer s.g.Close()
	_, err := Run(context.Background(), s.g, "reading", func() (int, error) { panic("defect") }, nil)
	if !model.IsKind(err, model.Internal) {
		t.Error(err)
	}
}
