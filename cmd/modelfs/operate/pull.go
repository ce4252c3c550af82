package operate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"modelfs/cmd/modelfs/control"
	"modelfs/internal/model"
)

// atOnce is how many files of a model are asked for at a time: enough that
// small files don't cost a round trip each, few enough that what is on the
// screen moves. How many are downloaded at a time is the fetcher's to decide.
const atOnce = 4

// Pull is control.Puller's. A file that fails does not stop the others, unless
// its origin has been silent for the read timeout: that is waited for once and
// not for each file. The error then says how many failed, and the events which.
func (o *Operator) Pull(ctx context.Context, req control.PullRequest, report func(control.Event)) error {
	if req.Update {
		if err := o.Records.Update(req.Name); err != nil {
			return err
		}
	}
	n, v, err := o.find(ctx, req.Name)
	if err != nil {
		return err
	}
	if v.Kind.InPlace() {
		report(control.Event{State: control.Listed, Source: v.Source, Commit: v.Revision})
		return nil
	}
	files := o.chosen(n, v)
	report(listed(v, files))
	p := &pulling{o: o, name: req.Name, view: v, events: make(chan control.Event)}
	return p.run(ctx, files, report)
}

func listed(v *model.View, files []*model.File) control.Event {
	e := control.Event{State: control.Listed, Files: len(files), Source: v.Source, Commit: v.Revision}
	for _, f := range files {
		if f.Size < 0 {
			e.Total = -1
			break
		}
		e.Total += f.Size
	}
	return e
}

// pulling is one Pull. Its workers end before run returns.
type pulling struct {
	o      *Operator
	name   string
	view   *model.View
	events chan control.Event // from the workers to run
	stored sync.Once
	silent atomic.Pointer[error] // why a file timed out; nil: none has
}

// run pulls the files and reports events until all have ended.
func (p *pulling) run(ctx context.Context, files []*model.File, report func(control.Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan *model.File, len(files))
	for _, f := range files {
		queue <- f
	}
	close(queue)
	var workers sync.WaitGroup
	for range min(atOnce, len(files)) {
		workers.Go(func() { p.work(ctx, queue) })
	}
	go func() { workers.Wait(); close(p.events) }()
	var failed []error
	for e := range p.events {
		if e.State == control.Failed {
			failed = append(failed, errors.New(e.Error))
		}
		report(e)
	}
	switch {
	case ctx.Err() != nil:
		return model.Errorf(model.Interrupted, "pulling %s: %w", p.name, ctx.Err())
	case len(failed) == 1:
		return failed[0]
	case len(failed) > 1:
		return fmt.Errorf("%d of %d files failed; the first: %w", len(failed), len(files), failed[0])
	}
	return nil
}

func (p *pulling) work(ctx context.Context, queue <-chan *model.File) {
	for f := range queue {
		if ctx.Err() != nil {
			return
		}
		err := p.one(ctx, f)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			p.events <- control.Event{Path: f.Path, State: control.Failed, Total: f.Size, Error: err.Error()}
		default:
			p.note(1) // an empty file counts, too
			size := max(f.Size, p.o.here(f))
			p.events <- control.Event{Path: f.Path, State: control.Done, Done: size, Total: size}
		}
	}
}

// one pulls a file. Once another one has timed out, it goes on only if bytes of
// it are coming.
func (p *pulling) one(ctx context.Context, f *model.File) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := int64(-1)
	err := p.o.Filler.Pull(ctx, p.view, f, func(done, total int64) {
		if began < 0 {
			began = done
		}
		if silent := p.silent.Load(); silent != nil && done == began {
			cancel(fmt.Errorf("%s of %s was not waited for: %w", f.Path, p.name, *silent))
			return
		}
		p.note(done)
		p.events <- control.Event{Path: f.Path, State: control.Filling, Done: done, Total: total}
	})
	switch {
	case model.IsKind(err, model.Timeout):
		p.silent.CompareAndSwap(nil, &err)
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

// note records, once, that bytes of the model are here.
func (p *pulling) note(done int64) {
	if done > 0 {
		p.stored.Do(func() { p.o.Records.Stored(p.name, p.view.Model) })
	}
}
