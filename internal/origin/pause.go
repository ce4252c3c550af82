package origin

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"modelfs/internal/model"
)

const (
	defaultPause = 5 * time.Second  // for a 429 that does not say how long
	maxPause     = 10 * time.Minute // twice the window of the Hub's quotas
)

// A pauseKey is what a 429 pauses: one kind of request to one site.
type pauseKey struct {
	site  site
	class string
}

// pauses remembers whom not to ask, and until when.
type pauses struct {
	mu    sync.Mutex // guards until; a leaf
	until map[pauseKey]time.Time
}

// A pausedError is in the chain of a request that was not sent because of an earlier 429.
type pausedError struct {
	key  pauseKey
	left time.Duration
}

func (e *pausedError) Error() string {
	return e.key.site.bare() + " said that it is asked too often; it is asked again in " +
		e.left.Round(time.Second).String() + ", at " + time.Now().Add(e.left).Format(time.TimeOnly)
}

// Throttled says that this is no sign of an outage: the server answers.
func (e *pausedError) Throttled() bool { return true }

func (p *pauses) check(k pauseKey) error {
	p.mu.Lock()
	left := time.Until(p.until[k])
	p.mu.Unlock()
	if left <= 0 {
		return nil
	}
	return model.Errorf(model.Unavailable, "%w", &pausedError{k, left})
}

// set also drops what is over, so that the map holds only pauses that run.
func (p *pauses) set(k pauseKey, d time.Duration) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until == nil {
		p.until = make(map[pauseKey]time.Time)
	}
	for other, t := range p.until {
		if !now.Before(t) {
			delete(p.until, other)
		}
	}
	if t := now.Add(d); t.After(p.until[k]) {
		p.until[k] = t
	}
}

func (d *Door) pause(k pauseKey, h http.Header) {
	t := pauseOf(h, time.Now())
	d.paused.set(k, t)
	d.log.Warn("asked too often; pausing", "host", k.site.bare(), "class", k.class, "for", t)
}

// pauseOf is how long a 429 says to wait, between 1 s and maxPause.
func pauseOf(h http.Header, now time.Time) time.Duration {
	t := defaultPause
	if r, _, reset, _, ok := ParseRateLimit(h); ok && r == 0 {
		t = reset
	} else if ra := h.Get("Retry-After"); ra != "" {
		if secs, err := strconv.ParseUint(ra, 10, 31); err == nil {
			t = time.Duration(secs) * time.Second
		} else if at, err := http.ParseTime(ra); err == nil {
			t = at.Sub(answeredAt(h, now))
		}
	}
	return min(max(t, time.Second), maxPause)
}

// answeredAt is the server's own clock at its answer, which is what the times
// it states are to be compared with.
func answeredAt(h http.Header, now time.Time) time.Time {
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		return t
	}
	return now
}
