package fetcher

import (
	"cmp"
	"regexp"
	"slices"
	"time"

	"modelfs/internal/model"
)

const (
	// idleTime is for how long a fill that nobody needs keeps its part open
	// and the origin's answer at hand.
	idleTime = time.Minute
	// mostIdle bounds the fills that are kept for idleTime.
	mostIdle   = 64
	manageTime = 10 * time.Second
)

// rouse has the manager look at the fills.
func (f *Fetcher) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// manage gives the fills their turns in the background and closes idle ones.
func (f *Fetcher) manage() {
	ticker := time.NewTicker(manageTime)
	defer ticker.Stop()
	for {
		select {
		case <-f.wake:
		case <-ticker.C:
		case <-f.ctx.Done():
			return
		}
		f.grant()
		f.closeIdle()
	}
}

// The order in which fills have their turn in the background.
const (
	turnRead     = iota // somebody reads it, or pulls it
	turnLeft            // somebody began to read it
	turnSibling         // somebody reads another file of its set
	turnHopeless        // its origins fail
)

// A turn is a fill that wants to be filled to its end.
type turn struct {
	l      *fill
	order  int
	since  time.Time // since when it wants it; of a hopeless one, its last failure
	pulled bool
}

// beside reports whether the fill works beside those whose turn it is: a pull
// whose origins fail has to see for itself whether they still do, or it would
// wait without end behind fills of which the same is true. It takes nothing
// from the others, and has to wait for its turn as soon as bytes come.
func (t turn) beside() bool { return t.pulled && t.order == turnHopeless }

// grant lets the first MaxFills fills work in the background, and no others but
// those that work beside them.
func (f *Fetcher) grant() {
	var turns []turn
	for _, l := range f.snapshot() {
		f.spread(l)
		if t, ok := l.turn(f.used(l)); ok {
			turns = append(turns, t)
		} else {
			l.allow(false)
		}
	}
	slices.SortFunc(turns, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.order, b.order), a.since.Compare(b.since))
	})
	working := 0
	failing := make(map[string]bool) // sources
	for i, t := range turns {
		t.l.allow(i < f.cfg.MaxFills || t.beside())
		if t.order == turnHopeless {
			failing[t.l.id.Source] = true
		} else {
			working++
		}
	}
	if working < f.cfg.MaxFills {
		f.nextSibling(failing)
	}
}

func (f *Fetcher) used(l *fill) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return l.refs > 0
}

// turn is the fill's wish for the background, if it has one.
func (l *fill) turn(used bool) (turn, bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	wish := l.pulls > 0 || !l.f.cfg.Touched && l.settled && l.fits && (l.touched || l.sibling)
	rests := now.Before(l.failUntil) || now.Before(l.rests) || l.storeOff(now)
	if !wish || rests || l.phase != filling || l.part == nil || l.complete() {
		l.wanted = time.Time{}
		return turn{}, false
	}
	if l.wanted.IsZero() {
		l.wanted = now
	}
	t := turn{l: l, order: turnLeft, since: l.wanted, pulled: l.pulls > 0}
	switch {
	case l.trouble(now) != nil:
		// The next failure is another one's: origins come back one by one.
		t.order, t.since = turnHopeless, l.lastFailure()
	case l.pulls > 0 || used && l.touched:
		t.order = turnRead
	case !l.touched:
		t.order = turnSibling
	}
	return t, true
}

// lastFailure is when an origin of the fill failed last. The caller holds the lock.
func (l *fill) lastFailure() time.Time {
	var last time.Time
	for _, c := range l.cands {
		if c.at.After(last) {
			last = c.at
		}
	}
	return last
}

// allow says whether it is the fill's turn.
func (l *fill) allow(granted bool) {
	l.mu.Lock()
	changed := l.granted != granted
	l.granted = granted
	if changed && granted && len(l.waiting) == 0 {
		l.progress = time.Now() // it was not this fill's fault that nothing came
	}
	l.mu.Unlock()
	if changed && granted {
		l.poke()
	}
}

// A sibling is a file of a set whose other parts are being read.
type sibling struct {
	view *model.View
	file *model.File
}

// spread puts the rest of the set of a fill that was read past its head in
// line, if the whole set has room.
func (f *Fetcher) spread(l *fill) {
	l.mu.Lock()
	due := l.touched && l.settled && !l.spread && !f.cfg.Touched
	l.spread = l.spread || due
	v := l.view
	l.mu.Unlock()
	if !due || !v.Settled {
		return
	}
	set := slices.DeleteFunc(siblingsOf(v.Model, l.file.Path), func(file *model.File) bool {
		return v.Hidden[file.Path] || f.elsewhere(file) != nil
	})
	if len(set) == 0 || !f.haveRoom(append(set, &l.file)) {
		return
	}
	var line []sibling
	for _, file := range set {
		line = append(line, sibling{v, file})
	}
	f.queue(line)
}

// queue puts files in line for the time when nothing else is left to fill.
func (f *Fetcher) queue(line []sibling) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.siblings)+len(line) <= mostRemembered {
		f.siblings = append(f.siblings, line...)
	}
}

// haveRoom reports whether the files fit in the backing dir together. What
// else is there may have to go, but nothing of the set itself.
func (f *Fetcher) haveRoom(set []*model.File) bool {
	var sum int64
	for _, file := range set {
		if file.Size < 0 {
			return false
		}
		sum += file.Size
	}
	return sum <= f.cfg.Store.Usage().Budget
}

// nextSibling opens the fill of the next file in line that is not here, and
// whose source is not failing.
func (f *Fetcher) nextSibling(failing map[string]bool) {
	for {
		s, ok := f.unqueue(failing)
		if !ok {
			return
		}
		if f.have(s.file) == "" && f.elsewhere(s.file) == nil && f.condemned(fillID{Key: s.file.Key, Source: s.view.Source}) == nil {
			f.adopt(s)
			return
		}
	}
}

func (f *Fetcher) unqueue(failing map[string]bool) (sibling, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.siblings, func(s sibling) bool { return !failing[s.view.Source] })
	if i < 0 {
		return sibling{}, false
	}
	s := f.siblings[i]
	f.siblings = slices.Delete(f.siblings, i, i+1)
	return s, true
}

// elsewhere is where the file lies on this machine, outside the backing dir,
// or nil. It may be gone by now.
func (f *Fetcher) elsewhere(file *model.File) model.Place {
	if file.SHA256 == "" {
		return nil
	}
	return f.cfg.Elsewhere(file.SHA256, file.Size)
}

func (f *Fetcher) adopt(s sibling) {
	l, err := f.join(f.ctx, s.view, s.file)
	if err != nil {
		f.log.Warn("a file of a set can't be filled", "model", s.view.Name, "file", s.file.Path, "error", err)
		f.rouse()
		return
	}
	l.mu.Lock()
	l.sibling, l.spread = true, true
	l.mu.Unlock()
	_ = f.leave(l) // and has the manager look again
}

// shard is the name of one part of a set: a prefix, a number, a count, an ending.
var shard = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})(\.[a-z]+)$`)

// siblingsOf is the other files of path's set, those after it first. nil
// where path is not part of a set.
func siblingsOf(m *model.Model, path string) []*model.File {
	own := shard.FindStringSubmatch(path)
	if own == nil {
		return nil
	}
	var before, after []*model.File
	for i := range m.Files {
		p := shard.FindStringSubmatch(m.Files[i].Path)
		if p == nil || p[1] != own[1] || p[3] != own[3] || p[4] != own[4] || p[2] == own[2] {
			continue
		}
		if p[2] > own[2] {
			after = append(after, &m.Files[i])
		} else {
			before = append(before, &m.Files[i])
		}
	}
	return append(after, before...)
}

// closeIdle closes the parts of fills that nobody needs: after idleTime, and at
// once the oldest if there are many, and what may get on when it is begun anew.
// One that still waits for its turn in the background is closed only if there
// are many, and gets in line as a sibling.
func (f *Fetcher) closeIdle() {
	var idle []*fill
	waits, stuck := make(map[*fill]bool), make(map[*fill]bool)
	now := time.Now()
	for _, l := range f.snapshot() {
		busy, turn := l.busy()
		if !busy {
			idle = append(idle, l)
			waits[l], stuck[l] = turn, l.stuck(now)
		}
	}
	f.mu.Lock()
	idle = slices.DeleteFunc(idle, func(l *fill) bool { return l.refs > 0 || l.closing })
	slices.SortFunc(idle, func(a, b *fill) int { return a.idle.Compare(b.idle) })
	var closing []*fill
	for i, l := range idle {
		if now.Sub(l.idle) >= idleTime && !waits[l] || stuck[l] || len(idle)-i > mostIdle {
			l.closing = true
			closing = append(closing, l)
		}
	}
	f.mu.Unlock()
	for _, l := range closing {
		if waits[l] {
			f.queue([]sibling{{l.lastView(), &l.file}})
		}
		if err := l.closePart(); err != nil {
			l.log.Warn("closing an idle download", "error", err)
		}
		f.drop(l)
	}
}

// busy reports whether the fill does something, and whether it waits for its turn.
func (l *fill) busy() (busy, waits bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running || l.granted || l.phase == verifying || l.part == nil, !l.wanted.IsZero()
}

// stuck reports whether the fill is held to an address that gives nothing more,
// and another one might, but for that. An answer that is remembered is given first.
func (l *fill) stuck(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id.Key.Once() && len(l.cands) < len(l.file.URLs) && l.trouble(now) != nil && !now.Before(l.failUntil)
}

func (l *fill) lastView() *model.View {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.view
}
