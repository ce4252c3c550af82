package resolver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"modelfs/internal/model"
)

// String is what a fault shows.
func (v verdict) String() string { return v.opinion.String() + " " + kindName(v.found.Kind) }

// A step is one thing that happens in a script.
type step struct {
	do     string // "pass", "mode", "delay", "toggle", "break", "look", "path", "view", "store"
	source int
	name   string
	mode   mode
	d      time.Duration
	n      int // callers at once, or which content
}

func (s step) String() string {
	return fmt.Sprintf("%s source=%d name=%s mode=%d d=%v n=%d", s.do, s.source, s.name, s.mode, s.d, s.n)
}

func drawSteps(t *rapid.T, modes []mode, kinds ...string) []step {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			do:     rapid.SampledFrom(kinds).Draw(t, "do"),
			source: rapid.IntRange(0, 3).Draw(t, "source"),
			name:   rapid.SampledFrom([]string{"m", "m", "o/m", "o"}).Draw(t, "name"),
			mode:   rapid.SampledFrom(modes).Draw(t, "mode"),
			d: rapid.SampledFrom([]time.Duration{0, 20 * msec, 400 * msec, 700 * msec, 1200 * msec, 1200 * msec, 5 * time.Second, 11 * time.Second,
				61 * time.Second, 11 * time.Minute}).Draw(t, "d"),
			n: rapid.IntRange(1, 3).Draw(t, "n"),
		}
	}), 20, 60).Draw(t, "steps")
}

// A state is what a source was like for a while.
type state struct {
	from  time.Time
	mode  mode
	delay time.Duration
	kind  model.SourceKind
	has   map[string]bool
	cut   map[string]string // why the model of that name is broken
}

// A script runs steps and remembers what each source was like and when.
type script struct {
	*world
	begun   time.Time
	past    [4][]state
	history []string
	faults  []string
}

func (s *script) faultf(format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// remember notes what the sources are like from now on.
func (s *script) remember() {
	for i, f := range s.fakes() {
		st := state{from: time.Now(), kind: f.kind, has: map[string]bool{}}
		f.set(func() {
			st.cut = maps.Clone(f.broken)
			st.mode, st.delay = f.mode, f.delay
			for name := range f.models {
				st.has[name] = true
			}
		})
		s.past[i] = append(s.past[i], st)
	}
}

// between are the states of a source at any time from a to b.
func (s *script) between(source int, a, b time.Time) []state {
	var in []state
	past := s.past[source]
	for i, st := range past {
		if !st.from.After(b) && (i+1 == len(past) || past[i+1].from.After(a)) {
			in = append(in, st)
		}
	}
	return in
}

// answers reports whether a source in this state says something that counts.
func (st state) answers() bool {
	return st.mode == healthy || st.mode == denying || st.mode == lying && st.kind.InPlace()
}

// truth is what a source in this state, which answers, is taken to say of a name.
func (st state) truth(name string) verdict {
	switch {
	case st.mode == lying && name == "o/m":
		return verdict{opinion: absent} // a namespace below a namespace is nothing
	case st.mode == lying:
		return verdict{opinion: present, found: model.Found{Kind: model.Namespace}}
	case st.mode == denying:
		return verdict{opinion: denied}
	case st.has[name]:
		return verdict{opinion: present, found: model.Found{Kind: model.ModelDir, Broken: st.cut[name]}}
	case name == "o" && st.has["o/m"]:
		return verdict{opinion: present, found: model.Found{Kind: model.Namespace}}
	}
	return verdict{opinion: absent}
}

// kept is how long the specification lets a verdict be used.
func kept(kind model.SourceKind, o opinion) time.Duration {
	return map[model.SourceKind]map[opinion]time.Duration{
		model.Hub:    {present: 10 * time.Minute, absent: time.Minute, denied: time.Minute},
		model.Router: {present: time.Minute, absent: 10 * time.Second, denied: 10 * time.Second},
	}[kind][o]
}

// mayHaveSaid are the verdicts that a source may be taken to have given on a
// name to a caller who asked at a and was answered at b.
func (s *script) mayHaveSaid(source int, name string, a, b time.Time) []verdict {
	var vs []verdict
	kind := s.fakes()[source].kind
	for _, st := range s.between(source, a.Add(-time.Hour), b) {
		if st.answers() {
			v := st.truth(name)
			if slices.ContainsFunc(s.between(source, a.Add(-kept(kind, v.opinion)), b), func(o state) bool { return o.from.Equal(st.from) }) {
				vs = append(vs, v)
			}
		}
	}
	// A question that was not answered in time counts for a second more, and
	// the shortest deadline is a child's.
	slow := func(st state) bool { return !st.answers() || st.delay >= 300*msec }
	if slices.ContainsFunc(s.between(source, a.Add(-4*time.Second), b), slow) {
		vs = append(vs, verdict{opinion: unknown})
	}
	fails := 0
	s.fakes()[source].set(func() { fails = s.fakes()[source].fails })
	if fails >= tripAfter && slices.ContainsFunc(s.between(source, a.Add(-silence-2*retryAfter), b), slow) {
		vs = append(vs, verdict{opinion: down})
	}
	return vs
}

// allowed reports whether some choice of verdicts that the sources may have
// given adds up to the answer.
func (s *script) allowed(name string, a, b time.Time, got answer) bool {
	late := !strings.Contains(name, "/") && got.took >= 600*msec
	if late && got.err == model.Unavailable.String() && s.mayBeNamespace(name, a, b) {
		return true // it was found out too late for its child
	}
	var try func(chosen []verdict) bool
	try = func(chosen []verdict) bool {
		if len(chosen) == 4 {
			return s.agrees(chosen, got)
		}
		for _, v := range s.mayHaveSaid(len(chosen), name, a, b) {
			if try(append(slices.Clone(chosen), v)) {
				return true
			}
		}
		return false
	}
	return try(nil)
}

func (s *script) mayBeNamespace(name string, a, b time.Time) bool {
	for i := range s.past {
		if slices.ContainsFunc(s.mayHaveSaid(i, name, a, b), func(v verdict) bool { return v.found.Kind == model.Namespace && v.opinion == present }) {
			return true
		}
	}
	return false
}

func (s *script) agrees(vs []verdict, got answer) bool {
	winner, settled, kind := specified(vs)
	if winner < 0 {
		return got.err == kind.String()
	}
	source, _, _ := strings.Cut(s.fakes()[winner].id, ":")
	return got == answer{source: source, kind: vs[winner].found.Kind, settled: settled, took: got.took}
}

// lookup asks for a name with several callers at once and checks each answer.
func (s *script) lookup(name string, callers int) (took time.Duration, last answer) {
	began := time.Now()
	answers := make([]answer, callers)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = s.look(name) })
	}
	wg.Wait()
	for _, got := range answers {
		if got.took > 900*msec {
			s.faultf("%s took %v", name, got.took)
		}
		if !s.allowed(name, began, began.Add(got.took), got) {
			s.faultf("%s = %+v is not what the sources may have said:", name, got)
			for i := range s.past {
				s.faultf("  source %d: %v", i, s.mayHaveSaid(i, name, began, began.Add(got.took)))
			}
		}
	}
	return time.Since(began), answers[0]
}

// change is a step that changes a source, at a moment when nothing else
// happens: everything else takes whole milliseconds.
func (s *script) change(st step) {
	pass(137 * time.Microsecond)
	f := s.fakes()[st.source]
	switch st.do {
	case "mode":
		f.become(st.mode)
	case "delay":
		f.takes(min(st.d, 1200*msec))
	case "toggle":
		name := map[string]string{"m": "m", "o": "o/m", "o/m": "o/m"}[st.name]
		if f.has(name) {
			f.remove(name)
		} else {
			f.add(name, fmt.Sprintf("a-Q4_K_M.gguf=%d", st.n))
		}
	case "break":
		name := map[string]string{"m": "m", "o": "o/m", "o/m": "o/m"}[st.name]
		if why := map[int]string{1: "a part is missing"}[st.n]; f.kind.InPlace() {
			f.breaks(name, why)
		}
	}
	s.remember()
}

func (f *fake) has(name string) (have bool) {
	f.set(func() { have = f.models[name] != nil })
	return have
}

// Sources come, go, hang, fail, refuse, lie and break, and clocks advance: each answer is
// one that the specification allows, and in time.
func TestLookupsAreWhatIsSpecified(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := drawSteps(rt, []mode{healthy, healthy, hanging, failing, denying, throttle, lying},
			"pass", "mode", "delay", "toggle", "toggle", "break", "look", "look", "look", "path")
		var faults []string
		bubble(t, func(t *testing.T, w *world) {
			s := &script{world: w}
			s.remember()
			for i, st := range steps {
				switch st.do {
				case "pass":
					pass(st.d)
				case "look":
					s.lookup(st.name, st.n)
				case "path":
					first, a := s.lookup("o", 1)
					if a.err == "" && a.kind == model.Namespace {
						if second, _ := s.lookup("o/m", 1); first+second > 900*msec {
							s.faultf("a path of two names took %v and %v", first, second)
						}
					}
				default:
					s.change(st)
				}
				if len(s.faults) > 0 {
					faults = append(s.faults, fmt.Sprintf("at step %d of %v", i, steps))
					return
				}
			}
		})
		if faults != nil {
			rt.Fatal(strings.Join(faults, "\n"))
		}
	})
}

// What a name shows stays the same model while the source that answered it
// has not given it up: another content comes only from that source, from one
// that ranks higher, or after it said absent.
func TestTheSameNameStaysTheSameModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := drawSteps(rt, []mode{healthy, hanging, failing, denying, throttle}, "pass", "mode", "toggle", "toggle", "view", "view", "store")
		var faults []string
		bubble(t, func(t *testing.T, w *world) {
			s := &script{world: w, begun: time.Now()}
			s.remember()
			last := map[string]seen{}
			for i, st := range steps {
				switch st.do {
				case "pass":
					pass(st.d)
				case "view", "store":
					s.checkView(last, st)
				default:
					s.change(st)
					s.history = append(s.history, fmt.Sprintf("%v %v", time.Since(s.begun), st))
				}
				if len(s.faults) > 0 {
					faults = append(s.faults, fmt.Sprintf("at step %d", i))
					faults = append(faults, s.history...)
					return
				}
			}
		})
		if faults != nil {
			rt.Fatal(strings.Join(faults, "\n"))
		}
	})
}

// seen is what a name showed last.
type seen struct {
	source int
	size   int64
	at     time.Time
}

func (s *script) checkView(last map[string]seen, st step) {
	began := time.Now()
	v, err := s.View(context.Background(), st.name)
	if took := time.Since(began); took > 900*msec+10*time.Second {
		s.faultf("view of %s took %v", st.name, took)
	}
	if err != nil {
		return
	}
	n, _ := model.ParseName(st.name)
	s.history = append(s.history, fmt.Sprintf("%v %s of %s after %v: %d bytes of %s, settled %v, recorded %+v, pinned %+v", time.Since(s.begun), st.do, st.name, time.Since(began),
		v.Files[0].Size, v.Source, v.Settled, recordedOf(s.records.get(nameID(n))), recordedOf(s.records.anyPin(n))))
	now := seen{source: slices.IndexFunc(s.fakes(), func(f *fake) bool { return f.id == v.Source }), size: v.Files[0].Size, at: time.Now()}
	before, have := last[st.name]
	gaveUp := func(o state) bool { return (o.mode == healthy || o.mode == denying) && !o.has[st.name] }
	switch {
	case !have || now.source <= before.source || now.size == before.size:
	case slices.ContainsFunc(s.between(before.source, before.at.Add(-time.Minute), now.at), gaveUp):
	default:
		s.faultf("%s was %d bytes at source %d, which has not given it up, and is %d bytes at source %d", st.name, before.size, before.source, now.size, now.source)
	}
	if !have || now.source <= before.source || now.size != before.size {
		last[st.name] = now
	}
	if st.do == "store" {
		s.Stored(st.name, v.Model)
	}
	synctest.Wait()
}
