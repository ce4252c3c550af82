package resolver

import (
	"context"
	"fmt"

	"modelfs/internal/model"
)

// Others lists what other sources than m's have under m's name, the one that
// is believed most first, and says why it does not know of some. It waits for
// what they say no longer than Config.LookupTimeout, and then for their
// listings no longer than Config.ListTimeout. Confinement holds.
func (r *Resolver) Others(ctx context.Context, m *model.Model) (views []*model.View, unasked []error) {
	n, err := model.ParseName(m.Name)
	if err != nil {
		return nil, []error{err}
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ListTimeout)
	defer cancel()
	looks := make([]look[verdict], len(r.askers))
	asked := func(a *asker) bool { return a.id != m.Source && r.confine.excludes(n, a) == "" }
	for i, a := range r.askers {
		if asked(a) {
			looks[i] = a.ask(n)
		}
	}
	soon, stop := context.WithTimeout(ctx, r.cfg.LookupTimeout)
	defer stop()
	for i, a := range r.askers {
		if !asked(a) {
			continue
		}
		v, err := wait(soon, &looks[i])
		var other *model.Model
		if err == nil {
			other, err = a.other(ctx, n, v)
		}
		if err != nil {
			unasked = append(unasked, fmt.Errorf("%s: %w", a.id, err))
		} else {
			views = append(views, &model.View{Model: other, Settled: true})
		}
	}
	return views, unasked
}

// other is the listing of what a source says of n.
func (a *asker) other(ctx context.Context, n model.Name, v verdict) (*model.Model, error) {
	switch {
	case v.opinion != present:
		return nil, v.err
	case v.found.Kind != model.ModelDir:
		return nil, model.Errorf(model.NotFound, "%s is no model there", n)
	}
	list := a.list(n, v.found)
	got, err := wait(ctx, &list)
	if err != nil {
		return nil, err
	}
	return got.model, got.err
}
