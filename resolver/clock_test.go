package resolver

import (
	"context"
	"testing"
	"time"

	"modelfs/internal/model"
)

// By a real clock a timer is always a little late. A namespace that is decided
// when its own limit ends is in time all the same.
func TestANamespaceIsDecidedInTimeByARealClock(t *testing.T) {
	shared, hub := newFake(model.Shared), newFake(model.Hub)
	shared.become(hanging)
	hub.add("org/m", "a=1")
	r := New(Config{Sources: []Source{shared, hub}, LookupTimeout: 300 * time.Millisecond})
	defer r.Close()
	e, err := r.Lookup(context.Background(), "org")
	if err != nil || e.Kind != model.Namespace {
		t.Errorf("got %+v, %v, want the namespace", e, err)
	}
}
