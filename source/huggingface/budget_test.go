package huggingface

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What each quota leaves to unknown names, at once and in a window; the last
// of its half is there when the next window begins.
func TestBudgetOfEachQuota(t *testing.T) {
	for _, c := range []struct {
		quota          int
		stated, window time.Duration
		burst, within  int
	}{
		{500, 300 * time.Second, 300 * time.Second, 125, 249},
		{1000, 300 * time.Second, 300 * time.Second, 250, 499},
		{500, 0, 300 * time.Second, 125, 249},
		{20, 300 * time.Second, 300 * time.Second, 5, 9},
		{7, 10 * time.Second, 10 * time.Second, 2, 2},
		{3, 10 * time.Second, 10 * time.Second, 1, 1},
		{1, 10 * time.Second, 10 * time.Second, 0, 0},
	} {
		t.Run(fmt.Sprintf("%d in %v", c.quota, c.stated), func(t *testing.T) {
			b, began := &budget{}, time.Unix(1e9, 0)
			b.note(stating(c.quota, c.stated), began)
			burst, within := 0, 0
			for at := time.Duration(0); at < c.window; at += 100 * time.Millisecond {
				for b.reserve(1, began.Add(at)) == nil {
					within++
				}
				if at == 0 {
					burst = within
				}
			}
			if burst != c.burst || within != c.within {
				t.Errorf("%d at once and %d in a window, want %d and %d", burst, within, c.burst, c.within)
			}
		})
	}
}

// What was spent before a quota was stated, or under another one, stays spent.
func TestBudgetLearns(t *testing.T) {
	now := time.Unix(1e9, 0)
	wait := func(b *budget) time.Duration { // for the next request
		var refused *spentError
		if errors.As(b.reserve(1, now), &refused) {
			return refused.next.Sub(now)
		}
		b.refund(1)
		return 0
	}
	for spent, want := range map[int]time.Duration{0: 0, 124: 0, 125: 2400 * time.Millisecond, 126: 4800 * time.Millisecond,
		250: 302400 * time.Millisecond, 10_000: 302400 * time.Millisecond} {
		b := &budget{}
		for range spent {
			if err := b.reserve(1, now); err != nil {
				t.Fatalf("no quota is stated, but %v", err)
			}
		}
		b.note(stating(500, 300*time.Second), now)
		if got := wait(b); got != want {
			t.Errorf("%d spent before: the next one after %v, want %v", spent, got, want)
		}
	}
	b := &budget{}
	b.note(stating(500, 300*time.Second), now)
	for range 125 {
		if err := b.reserve(1, now); err != nil {
			t.Fatal(err)
		}
	}
	b.note(stating(1000, 300*time.Second), now) // a token came: 250 at once, half of them are spent
	for i := range 126 {
		if err := b.reserve(1, now); (err == nil) != (i < 125) {
			t.Errorf("request %d of a greater quota: %v", i, err)
		}
	}
	b.note(nil, now)
	if got := wait(b); got != 1200*time.Millisecond {
		t.Errorf("an answer that states nothing changes the quota: next after %v", got)
	}
}

// Whoever asks however, no window sees more than half of the quota, and what
// was refused is let through at the time that the refusal names.
func TestBudgetHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		quota := rapid.IntRange(1, 60).Draw(t, "quota")
		window := time.Duration(rapid.IntRange(1, 300).Draw(t, "window")) * time.Second
		b, now := &budget{}, time.Unix(1e9, 0)
		b.note(stating(quota, window), now)
		var spent []time.Time
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(window/8)).Draw(t, "pause")))
			for range rapid.IntRange(0, 20).Draw(t, "asked at once") {
				n := rapid.IntRange(1, 2).Draw(t, "requests")
				err := b.reserve(n, now)
				var refused *spentError
				if errors.As(err, &refused) {
					if !refused.next.After(now) {
						t.Fatalf("refused until %v, at %v", refused.next, now)
					}
					again := budget{half: b.half, every: b.every, full: b.full}
					if n <= b.burst() && again.reserve(n, refused.next) != nil {
						t.Fatalf("refused again at %v", refused.next)
					}
					continue
				}
				if rapid.Bool().Draw(t, "present") {
					b.refund(n)
					continue
				}
				for range n {
					spent = append(spent, now)
				}
			}
		}
		for i, from := range spent {
			n := 0
			for _, at := range spent[i:] {
				if at.Before(from.Add(window)) {
					n++
				}
			}
			if n > quota/2 {
				t.Fatalf("%d requests in the window from %v, with a quota of %d", n, from, quota)
			}
		}
	})
}
