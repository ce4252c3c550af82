package operate

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"modelfs/cmd/modelfs/control"
	"modelfs/internal/model"
)

const (
	// readers bounds the models of trees that are looked at in parallel.
	readers = 16

	// reading bounds the time in which one List reads files of models: some
	// MB each, which are in memory the second time. What it does not get to is
	// described by names.
	reading = 2 * time.Second
)

// List is control.Lister's. It waits for names no longer than a listing of the
// mount's root does, for each namespace; models of trees are read from them.
func (o *Operator) List(ctx context.Context, pattern string) ([]control.Model, error) {
	if _, err := matches(pattern, ""); err != nil {
		return nil, err
	}
	entries, err := o.entries(ctx)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e entry) bool {
		ok, err := matches(pattern, e.name)
		return !ok || err != nil
	})
	limited, cancel := context.WithTimeout(ctx, reading)
	defer cancel()
	list := make([]control.Model, len(entries))
	var group sync.WaitGroup
	slots := make(chan struct{}, readers)
	for i, e := range entries {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			list[i] = o.describe(ctx, limited, e)
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return nil, model.Errorf(model.Interrupted, "listing models: %w", ctx.Err())
	}
	return list, nil
}

// An entry is a model's, with its whole name.
type entry struct {
	name string
	model.Entry
}

// entries are those of all models, by name.
func (o *Operator) entries(ctx context.Context) ([]entry, error) {
	root, err := o.All.Entries(ctx, "")
	if err != nil {
		return nil, err
	}
	var list []entry
	for _, e := range root {
		if e.Kind != model.Namespace {
			list = append(list, entry{e.Name, e})
			continue
		}
		below, err := o.All.Entries(ctx, e.Name)
		if err != nil {
			return nil, err
		}
		for _, b := range below {
			if b.Kind != model.Namespace {
				list = append(list, entry{e.Name + "/" + b.Name, b})
			}
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return list, nil
}

// describe says what is known of a model without asking a network's source. Its
// files are read until the second context ends.
func (o *Operator) describe(ctx, reading context.Context, e entry) control.Model {
	line := control.Model{Name: e.name, Source: e.Source, Files: -1, Size: -1}
	m := o.Names.Known(e.name)
	if m == nil && o.InPlace(e.Source) {
		v, err := o.All.View(ctx, e.name)
		if err != nil {
			line.InPlace, line.Why = true, err.Error()
			return line
		}
		m = v.Model
	}
	if m == nil {
		return line
	}
	d := o.Describe(reading, m)
	line.Source, line.Revision, line.InPlace, line.Files = m.Source, m.Revision, m.Kind.InPlace(), len(m.Files)
	line.Format, line.Quant, line.Architecture, line.Parameters = d.Format, d.Quant, d.Architecture, d.Parameters
	line.Backends, line.Limited, line.Broken, line.Hidden, line.Why = d.Backends, d.Limited, d.Broken, d.Hidden, d.Why
	o.measure(&line, m)
	return line
}

// measure adds up a model's files.
func (o *Operator) measure(line *control.Model, m *model.Model) {
	line.Size = 0
	for i := range m.Files {
		f := &m.Files[i]
		if f.Size < 0 {
			line.Size = -1
		} else if line.Size >= 0 {
			line.Size += f.Size
		}
		if line.InPlace {
			continue
		}
		if f.SHA256 != "" && o.Elsewhere(f.SHA256, f.Size) != nil {
			line.Here += max(f.Size, 0)
		} else {
			line.Here += o.here(f)
		}
		for _, key := range keys(f) {
			line.Pinned = line.Pinned || o.Shelf.Pinned(key)
		}
	}
}
