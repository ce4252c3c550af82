package huggingface

import (
	"net/http"
	"sync"
	"time"

	"modelfs/internal/origin"
)

// A budget keeps lookups of unknown names to half of the quota that the Hub
// states in each answer. While none is stated there is no limit.
type budget struct {
	mu     sync.Mutex // guards the rest
	quota  int        // requests in a window; 0: none stated
	spent  int        // by lookups of unknown names in this window
	endsAt time.Time  // of the window; zero while no answer has stated it
}

// A spentError is why the Hub was not asked.
type spentError struct {
	anew time.Time // when the next window begins
}

func (e *spentError) Error() string {
	return "lookups of unknown names have spent half of the Hub's quota; it starts anew at " + e.anew.Format(time.TimeOnly)
}

// Throttled says that this is no sign of an outage.
func (e *spentError) Throttled() bool { return true }

// reserve spends one request, unless half is spent.
func (b *budget) reserve(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.endsAt.IsZero() && !now.Before(b.endsAt) {
		b.spent, b.endsAt = 0, time.Time{}
	}
	if !b.endsAt.IsZero() && b.spent >= b.quota/2 {
		return false
	}
	b.spent++
	return true
}

// refund takes a reservation back: the name is there.
func (b *budget) refund() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(b.spent-1, 0)
}

// note learns from an answer. The end of a window is stated in whole seconds,
// so it wavers; only one that is much later is the end of another window.
func (b *budget) note(h http.Header, now time.Time) {
	_, quota, reset, window, ok := origin.ParseRateLimit(h)
	if !ok || quota <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.quota = quota
	if end := now.Add(reset); end.After(b.endsAt.Add(window / 2)) {
		if !b.endsAt.IsZero() {
			b.spent = 0
		}
		b.endsAt = end
	}
}

func (b *budget) end() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.endsAt
}
