package resolver

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"modelfs/internal/model"
)

func newTestBook(o *owner, limit int) *book[string] {
	return newBook(o, limit, func(err error) reply[string] {
		return reply[string]{value: "lost: " + model.KindOf(err).String(), keep: failureKept, failed: true}
	})
}

func says(s string) func(context.Context) reply[string] {
	return func(context.Context) reply[string] { return reply[string]{value: s, keep: asking} }
}

func TestABookIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwner()
		defer o.close()
		b := newTestBook(o, 100)
		for i := range 1000 {
			b.ask(fmt.Sprint(i), says("x"))
			pass(msec)
			b.ask("used", says("kept"))
		}
		pass(msec)
		if len(b.pages) > 100 || b.total > 100 {
			t.Errorf("%d pages of weight %d", len(b.pages), b.total)
		}
		if l := b.ask("used", says("anew")); l.value != "kept" {
			t.Errorf("a page in use was dropped: %+v", l)
		}
	})
}

func TestABooksWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwner()
		defer o.close()
		b := newTestBook(o, 100)
		b.weigh = func(s string) int { return len(s) }
		for i := range 20 {
			b.ask(fmt.Sprint(i), says(fmt.Sprintf("%030d", i)))
			pass(msec)
		}
		if b.total > 100 || len(b.pages) != 3 {
			t.Errorf("%d pages of weight %d, want 3", len(b.pages), b.total)
		}
		b.ask("huge", says(fmt.Sprintf("%0200d", 1)))
		pass(msec)
		if _, ok := b.peek("huge"); !ok || len(b.pages) != 1 {
			t.Errorf("%d pages; one above the limit is kept alone", len(b.pages))
		}
	})
}

func TestWhatIsForgottenUnderWayIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwner()
		defer o.close()
		b := newTestBook(o, 100)
		l := b.ask("k", func(ctx context.Context) reply[string] {
			pass2(ctx)
			return reply[string]{value: "old", keep: asking}
		})
		b.forget(func(key string) bool { return key == "k" })
		again := b.ask("k", says("new"))
		if v, err := wait(t.Context(), &l); v != "old" || err != nil {
			t.Errorf("who asked before got %q, %v", v, err)
		}
		if v, err := wait(t.Context(), &again); v != "new" || err != nil {
			t.Errorf("who asked after got %q, %v", v, err)
		}
		if now := b.ask("k", says("third")); now.value != "new" {
			t.Errorf("remembered %q", now.value)
		}
	})
}

// pass2 waits a virtual 10 ms.
func pass2(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*msec)
	defer cancel()
	<-ctx.Done()
}

func TestAQuestionEndsAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwner()
		defer o.close()
		b := newTestBook(o, 100)
		b.ask("k", func(ctx context.Context) reply[string] {
			<-ctx.Done()
			return b.lost(ctx.Err())
		})
		pass(asking - msec)
		if b.underWay() != 1 {
			t.Error("it ended early")
		}
		pass(msec)
		if l := b.ask("k", says("x")); b.underWay() != 1 || l.value != "lost: unavailable" {
			t.Errorf("got %+v", l)
		}
	})
}
