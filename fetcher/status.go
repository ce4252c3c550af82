package fetcher

import (
	"cmp"
	"slices"
	"time"

	"modelfs/internal/model"
)

// A FillStatus is one fill as status.json shows it.
type FillStatus struct {
	Name        string  `json:"name"`   // of the model
	Path        string  `json:"path"`   // of the file in it
	Key         string  `json:"key"`    // of its content
	Source      string  `json:"source"` // ID
	State       string  `json:"state"`  // filling, queued, waiting, verifying, idle, failed
	Size        int64   `json:"size"`   // bytes; -1 while unknown
	Present     int64   `json:"present"`
	Speed       int64   `json:"speed"`                 // bytes a second
	ETA         float64 `json:"eta_seconds,omitempty"` // to the end of the file at this speed; 0: not going there
	Waiters     int     `json:"waiters"`               // reads that wait for bytes
	Connections int     `json:"connections"`
	Error       string  `json:"error,omitempty"` // the last one that matters still
}

// Status describes the fills whose parts are open, by name and path.
func (f *Fetcher) Status() []FillStatus {
	all := []FillStatus{}
	for _, l := range f.snapshot() {
		all = append(all, l.status())
	}
	slices.SortFunc(all, func(a, b FillStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Key, b.Key))
	})
	return all
}

func (l *fill) status() FillStatus {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := FillStatus{
		Name: l.repo, Path: l.file.Path, Key: string(l.id.Key), Source: l.id.Source, State: l.state(now),
		Size: l.size, Present: min(l.have.count*blockSize, max(l.size, 0)),
		Connections: len(l.transfers), Waiters: l.waitersCount(),
	}
	if len(l.transfers) > 0 {
		s.Speed = int64(l.speed)
	}
	if l.granted && s.Speed > 0 {
		s.ETA = float64(s.Size-s.Present) / float64(s.Speed)
	}
	if err := l.trouble(now); err != nil {
		s.Error = err.Error()
	}
	return s
}

// Trouble is why the bytes of a source's file do not come: what its last
// downloads ended with, or what the one that runs waits for; nil for nothing.
// It does no I/O.
func (f *Fetcher) Trouble(source string, key model.Key) error {
	id := fillID{Key: key, Source: source}
	f.mu.Lock()
	l := f.fills[id]
	var last error
	if c := f.corrupt[id]; c != nil {
		last = c.err
	}
	f.mu.Unlock()
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if err := l.trouble(time.Now()); err != nil {
			return err
		}
	}
	if last == nil || f.have(&model.File{Key: key}) != "" {
		return nil
	}
	return last
}

func (l *fill) waitersCount() int {
	n := 0
	for _, w := range l.queue {
		if !w.settled {
			n++
		}
	}
	return n
}

// state is the word for what the fill does. The caller holds the lock.
func (l *fill) state(now time.Time) string {
	switch {
	case l.phase == verifying:
		return "verifying"
	case l.phase == failed || now.Before(l.failUntil):
		return "failed"
	case len(l.transfers) > 0 && l.trouble(now) == nil:
		return "filling"
	case len(l.waiting) > 0 || len(l.transfers) > 0 || l.granted:
		return "waiting"
	case !l.wanted.IsZero():
		return "queued"
	}
	return "idle"
}

// trouble is the error that keeps the fill from going on, or nil: that an origin
// fails is none while there is another one. The caller holds the lock.
func (l *fill) trouble(now time.Time) error {
	if l.phase == failed || now.Before(l.failUntil) {
		return l.fail
	}
	var first error
	for _, c := range l.cands {
		if c.err == nil {
			return nil
		}
		first = cmp.Or(first, c.err)
	}
	return first
}

// newTenths is how many tenths of the file are here if that is worth a line in
// the log, else 0. The caller holds the lock.
func (l *fill) newTenths() int64 {
	tenths := l.have.count * 10 / max(l.blocks(), 1)
	if l.size <= headCost || l.phase != filling || tenths <= l.tenth || tenths == 10 {
		return 0
	}
	l.tenth = tenths
	return tenths
}
