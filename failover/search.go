package failover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"modelfs/internal/model"
)

// search looks for a source with the same content, unless somebody does so
// already or has just found none. The channel is closed when that has ended.
func (x *File) search(cause error) <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.searching != nil {
		return x.searching
	}
	done := make(chan struct{})
	if x.moved.Load() != nil || !x.searched.IsZero() && time.Since(x.searched) < searchAgain {
		close(done)
		return done
	}
	x.searching = done
	run := func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(x.f.ctx, x.f.cfg.ReadTimeout)
		defer cancel()
		x.look(ctx, cause)
		x.mu.Lock()
		x.searching, x.searched = nil, time.Now()
		x.mu.Unlock()
	}
	if !x.f.goRun(run) {
		x.searching = nil
		close(done)
	}
	return done
}

// A candidate is a place that may have the same content.
type candidate struct {
	target
	proven  bool   // its hash is the one that the share's listing states
	arrives func() // bytes of it are kept here
}

// look tries one candidate after the other, and moves to the first that has
// the same content.
func (x *File) look(ctx context.Context, cause error) {
	log := x.f.cfg.Log.With("model", x.view.Name, "file", x.file.Path, "share", x.view.Source)
	list, passed := x.candidates(ctx)
	for _, c := range list {
		err := x.try(ctx, c)
		if err == nil {
			log.Warn("a share does not answer; the rest of a file that is open comes from elsewhere", "to", c.source, "cause", cause)
			x.f.note(x.view.Name, fmt.Sprintf("%s: reads moved from %s to %s, which has the same content (%s): %v",
				x.file.Path, x.view.Source, c.source, evidence(c), cause))
			if c.arrives != nil {
				c.arrives()
			}
			return
		}
		passed = append(passed, fmt.Errorf("%s: %w", c.source, err))
	}
	why := errors.Join(passed...)
	if why == nil {
		why = errors.New("no other source has it")
	}
	level := slog.LevelDebug // a search comes every few seconds as long as somebody reads
	if x.alone(why.Error()) {
		level = slog.LevelWarn
	}
	log.Log(ctx, level, "a share does not answer, and nobody else is known to have the same content", "cause", cause, "others", why)
	x.f.note(x.view.Name, fmt.Sprintf("%s: reads wait for %s: %v", x.file.Path, x.view.Source, why))
}

// alone notes why a search found nobody, and reports whether that is news.
func (x *File) alone(why string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	news := x.nobody != why
	x.nobody = why
	return news
}

func evidence(c candidate) string {
	if c.proven {
		return "by the hash that both state"
	}
	return "it states a hash, and all that was read before is the same there"
}

// candidates are those that could be it by what is stated of them, and why
// others are not.
func (x *File) candidates(ctx context.Context) (list []candidate, passed []error) {
	list = x.byHash()
	if v := x.view; !v.Kind.InPlace() { // a share spared the download
		own := x.file
		own.Place = nil
		list = append(list, candidate{proven: true, target: target{v.Source, contentOf(&own), func(ctx context.Context) (model.Reader, error) {
			return x.f.cfg.Content.Open(ctx, v, &own)
		}}})
	}
	views, passed := x.f.cfg.Names.Others(ctx, x.view.Model)
	for _, v := range views {
		f := v.File(x.file.Path)
		if f == nil {
			passed = append(passed, fmt.Errorf("%s has no %s", v.Source, x.file.Path))
			continue
		}
		proven, why := x.compare(f)
		if why != "" {
			passed = append(passed, fmt.Errorf("%s %s", v.Source, why))
			continue
		}
		c := candidate{target: target{source: v.Source, content: contentOf(f)}, proven: proven}
		if f.Place != nil {
			c.open = openPlace(f.Place)
		} else {
			c.open = func(ctx context.Context) (model.Reader, error) { return x.f.cfg.Content.Open(ctx, v, f) }
			if x.f.cfg.Stored != nil {
				c.arrives = func() { x.f.cfg.Stored(x.view.Name, v.Model) }
			}
		}
		list = append(list, c)
	}
	return list, passed
}

// byHash are the places that have the hash which the share states.
func (x *File) byHash() []candidate {
	if x.file.SHA256 == "" {
		return nil
	}
	var list []candidate
	f := model.File{Path: x.file.Path, Size: x.size, ModTime: x.file.ModTime, Key: model.SHA256Key(x.file.SHA256), SHA256: x.file.SHA256}
	if x.f.cfg.Content.State(x.view.Model, &f).Complete {
		open := func(ctx context.Context) (model.Reader, error) { return x.f.cfg.Content.Open(ctx, x.view, &f) }
		list = append(list, candidate{target: target{"the backing dir", contentOf(&f), open}, proven: true})
	}
	if x.f.cfg.Elsewhere != nil {
		for _, p := range x.f.cfg.Elsewhere(x.file.SHA256, x.size) {
			if x.file.Place == nil || p.Path() != x.file.Place.Path() {
				list = append(list, candidate{target: target{p.Path(), contentOf(&f), openPlace(p)}, proven: true})
			}
		}
	}
	return list
}

func openPlace(p model.Place) func(context.Context) (model.Reader, error) {
	return func(ctx context.Context) (model.Reader, error) {
		r, _, err := p.Reader(ctx)
		return r, err
	}
}

// compare says whether f, by what its listing states, is the same content
// (proven), or why it can't be; neither: what was served has to be compared.
func (x *File) compare(f *model.File) (proven bool, why string) {
	h := &x.file
	switch {
	case f.Size >= 0 && f.Size != x.size:
		return false, fmt.Sprintf("has %d bytes instead of %d", f.Size, x.size)
	case h.SHA256 != "" && f.SHA256 != "":
		return same(h.SHA256 == f.SHA256)
	case h.GitSHA1 != "" && f.GitSHA1 != "":
		return same(h.GitSHA1 == f.GitSHA1)
	case states(h):
		return false, "states no hash of the kind that the share states"
	case !states(f):
		return false, "states no hash, so nothing shows that it has the same content"
	}
	return false, ""
}

func same(equal bool) (bool, string) {
	if equal {
		return true, ""
	}
	return false, "states another hash"
}

// try moves to a candidate, if that has the content.
func (x *File) try(ctx context.Context, c candidate) error {
	r, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	if r.Size() != x.size {
		return model.Errorf(model.NotFound, "it has %d bytes instead of %d", r.Size(), x.size)
	}
	compared := make(map[extent]bool)
	for {
		todo, done, err := x.moveIf(c, compared)
		if done || err != nil {
			return err
		}
		if err := x.check(ctx, r, todo, compared); err != nil {
			return err
		}
	}
}

// moveIf moves, unless something was served that has not been compared yet:
// the share may answer now and then.
func (x *File) moveIf(c candidate, compared map[extent]bool) (todo map[extent][2]uint64, done bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !c.proven {
		if x.unproven != "" {
			return nil, false, model.Errorf(model.Unavailable, "what was served can't be compared: %s", x.unproven)
		}
		todo = maps.Clone(x.served)
		for e := range compared {
			delete(todo, e)
		}
		if len(todo) > 0 {
			return todo, false, nil
		}
	}
	t := c.target
	x.moved.Store(&t)
	x.f.pieces.Add(-x.pieces.Swap(0))
	x.served = nil
	return nil, true, nil
}

// check compares what was served with what r has.
func (x *File) check(ctx context.Context, r model.Reader, todo map[extent][2]uint64, compared map[extent]bool) error {
	order := slices.SortedFunc(maps.Keys(todo), func(a, b extent) int { return int(min(1, max(-1, a.off-b.off))) })
	var buf []byte
	for _, e := range order {
		if e.n > len(buf) {
			buf = make([]byte, e.n)
		}
		n, err := r.ReadAt(ctx, buf[:e.n], e.off)
		if err != nil {
			return fmt.Errorf("comparing what was read: %w", err)
		}
		if n != e.n || x.f.fingerprint(buf[:n]) != todo[e] {
			return model.Errorf(model.Corrupt, "it has other bytes at %d than were read from the share", e.off)
		}
		compared[e] = true
	}
	return nil
}
