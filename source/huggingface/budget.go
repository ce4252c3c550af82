package huggingface

import (
	"net/http"
	"sync"
	"time"

	"modelfs/internal/origin"
)

// quotaWindow is the Hub's, for an answer that states a quota but no window.
const quotaWindow = 5 * time.Minute

// A budget keeps lookups of unknown names to half of the quota that the Hub
// states in each answer: half of that half at once, and the rest spread evenly
// over the window. So a real name that nobody has asked for yet gets through
// within seconds, whatever was asked before; and a window never sees more than
// half of the quota, wherever it begins. While no quota is stated there is no
// limit.
type budget struct {
	mu    sync.Mutex    // guards the rest
	half  int           // requests that may be spent in a window; 0 is a limit too
	every time.Duration // one more request may be made; 0: no quota is stated
	spent int           // requests, while none is stated
	full  time.Time     // when all of the burst may be made again
}

// A spentError is why the Hub was not asked.
type spentError struct {
	next time.Time // when the question can be asked, if no other is before
}

func (e *spentError) Error() string {
	// Rounded up, so that it holds at the second that it names.
	return "lookups of unknown names have spent their share of the Hub's quota; the next one may be made at " +
		e.next.Add(time.Second-1).Truncate(time.Second).Format(time.TimeOnly)
}

// Throttled says that this is no sign of an outage.
func (e *spentError) Throttled() bool { return true }

// burst is the part of half that may be spent at once.
func (b *budget) burst() int { return b.half - b.half/2 }

// reserve spends n requests, all or none: a question that takes two would
// never be answered if it could lose the first. The error is a *spentError.
func (b *budget) reserve(n int, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.every == 0 {
		b.spent += n
		return nil
	}
	full := later(b.full, now).Add(time.Duration(n) * b.every)
	if next := full.Add(-time.Duration(b.burst()) * b.every); next.After(now) {
		return &spentError{next}
	}
	b.full = full
	return nil
}

// refund takes a reservation of n back: the name is there.
func (b *budget) refund(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(b.spent-n, 0)
	b.full = b.full.Add(-time.Duration(n) * b.every)
}

// note learns the quota from an answer. What was spent under another one, or
// before any was stated, stays spent; a window at most makes up for it.
func (b *budget) note(h http.Header, now time.Time) {
	_, quota, _, window, ok := origin.ParseRateLimit(h)
	if !ok || quota <= 0 {
		return
	}
	if window <= 0 {
		window = quotaWindow
	}
	half := quota / 2
	every := spread(window, half/2)
	b.mu.Lock()
	defer b.mu.Unlock()
	if half == b.half && every == b.every {
		return
	}
	spent := b.spent
	if b.every > 0 {
		spent = int((later(b.full, now).Sub(now) + b.every - 1) / b.every)
	}
	b.half, b.every, b.spent = half, every, 0
	b.full = now.Add(time.Duration(min(spent, half)) * every)
}

// spread is the time between n requests in a window, rounded up; the whole
// window where there are none.
func spread(window time.Duration, n int) time.Duration {
	if n == 0 {
		return window
	}
	return (window + time.Duration(n) - 1) / time.Duration(n)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
