package resolver

import (
	"context"
	"fmt"
	"time"

	"modelfs/internal/model"
)

// What a verdict can come from, other than the source itself.
const (
	fromPin    = "pin"
	fromRecord = "record"
)

// An inquiry is one caller's question for a name: whom it asked, and until
// when it waits. It is used by one goroutine.
type inquiry struct {
	r     *Resolver
	n     model.Name
	began time.Time
	limit time.Duration
	seats []seat // one for each source, in order

	record   *record // what is recorded of the name, or nil
	recorded int     // the seat of the source that it names, or -1
	stored   bool    // bytes of it, or of a model below it, are on this machine
	prepared bool    // no comparison is to be prepared
	final    []verdict
}

// A seat is one source's place in an inquiry.
type seat struct {
	a    *asker
	out  string // not "": it is not asked, and why
	sat  bool   // it has been asked
	look look[verdict]
	// checked says that its model was compared with the recorded one, clash
	// how they differ. What was compared is what is shown: another listing
	// might differ again.
	checked  bool
	clash    string
	compared *model.Model
}

// A mark is a moment of an inquiry: until then it waits, and then it takes
// what there is if accept says so.
type mark struct {
	at     time.Time
	accept func(outcome) bool
}

func (r *Resolver) inquire(n model.Name, limit time.Duration) *inquiry {
	q := &inquiry{r: r, n: n, began: time.Now(), limit: limit, recorded: -1}
	q.record = r.records.of(n)
	q.stored = r.records.stored(n)
	for i, a := range r.askers {
		s := seat{a: a, out: r.confine.excludes(n, a)}
		if q.record != nil && q.record.by() == a.id {
			q.recorded = i
		}
		q.seats = append(q.seats, s)
	}
	return q
}

// left is what remains of the limit.
func (q *inquiry) left() time.Duration { return q.limit - time.Since(q.began) }

// ask asks the sources that were not asked yet; trees or all.
func (q *inquiry) ask(all bool) {
	for i := range q.seats {
		s := &q.seats[i]
		if s.out == "" && !s.sat && (all || s.a.kind.InPlace()) {
			s.sat, s.look = true, s.a.ask(q.n)
		}
	}
}

// run waits for the outcome. The error is that of ctx.
func (q *inquiry) run(ctx context.Context) (outcome, error) {
	q.ask(false)
	never := func(outcome) bool { return false }
	last := mark{q.began.Add(min(headStart, q.limit)), never}
	o, done, err := q.until(ctx, last)
	if !done && err == nil {
		q.ask(true)
		for _, last = range q.marks() {
			if o, done, err = q.until(ctx, last); done || err != nil {
				break
			}
		}
	}
	if err != nil {
		return o, err
	}
	if q.tooLate(o, last) {
		o = outcome{winner: -1, waitFor: -1, kind: model.Unavailable, rule: ruleLate}
	}
	q.giveUp()
	q.name(&o)
	return o, nil
}

// ruleLate keeps the promise of one second for a path of two names.
const ruleLate = "it is a namespace, but that was found out too late for a name below it to be looked up in the same second; the next lookup finds it at once"

// marks are the moments after the head start. A name whose bytes are here
// waits for nobody for long. A namespace is decided early enough for a child
// to be looked up in the same second.
func (q *inquiry) marks() []mark {
	var ms []mark
	if q.stored && patience < q.limit {
		ms = append(ms, mark{q.began.Add(patience), outcome.answered})
	}
	if at := q.namespaceLimit(); at > 0 {
		ms = append(ms, mark{q.began.Add(at), func(o outcome) bool { return o.answered() && o.found.Kind == model.Namespace }})
	}
	return append(ms, mark{q.began.Add(q.limit), func(outcome) bool { return true }})
}

// namespaceLimit is the time within which the name may turn out to be a
// namespace; 0 if it can't be one.
func (q *inquiry) namespaceLimit() time.Duration {
	if q.n.Org != "" || q.n.Quant != "" || q.n.Revision != "" {
		return 0
	}
	return q.limit - q.r.cfg.LookupTimeout/childShare
}

// tooLate reports whether a namespace was found while waiting for a mark
// beyond its limit. What the limit's own mark accepts is in time, though by
// the clock that is always a little later.
func (q *inquiry) tooLate(o outcome, waited mark) bool {
	at := q.namespaceLimit()
	return at > 0 && o.answered() && o.found.Kind == model.Namespace &&
		waited.at.After(q.began.Add(at)) && time.Since(q.began) > at
}

// until waits for an outcome, at most until the mark. done says that o is it.
func (q *inquiry) until(ctx context.Context, m mark) (o outcome, done bool, err error) {
	timer := time.NewTimer(time.Until(m.at))
	defer timer.Stop()
	for {
		o, change := q.judge(false)
		switch {
		case change == nil && o.waitFor < 0:
			return o, true, nil
		case change == nil:
			return o, false, nil // the source to wait for has not been asked
		}
		select {
		case <-change:
		case <-q.standInAnswer():
		case <-ctx.Done():
			return o, false, ctx.Err()
		case <-timer.C:
			o, _ = q.judge(true)
			return o, m.accept(o), nil
		}
	}
}

// judge adds up what is known now. With closing, nobody is waited for: who is
// silent could not be asked. Otherwise change is closed by the next answer
// that matters.
func (q *inquiry) judge(closing bool) (o outcome, change <-chan struct{}) {
	late := make(map[int]string) // stand-ins whose listing is not here in time
	for {
		vs := q.verdicts(closing, late)
		q.final = vs
		o = decide(vs)
		if o.waitFor >= 0 {
			q.prepare(vs)
			if s := &q.seats[o.waitFor]; s.sat {
				return o, s.look.flight.done
			}
			return o, nil
		}
		if o.winner < 0 {
			return q.fromRecords(o), nil
		}
		q.take(&o, vs)
		if !q.standsIn(o.winner, vs) {
			return o, nil
		}
		flight, ok := q.compare(&q.seats[o.winner], vs[o.winner].found)
		switch {
		case ok && q.seats[o.winner].clash == "":
			return o, nil
		case ok:
		case closing:
			late[o.winner] = "its listing could not be compared in time with what is recorded"
		default:
			o.waitFor = o.winner
			return o, flight
		}
	}
}

// take fills in who the winner is.
func (q *inquiry) take(o *outcome, vs []verdict) {
	v, s := vs[o.winner], &q.seats[o.winner]
	o.found, o.source = v.found, s.a.id
	if v.from == fromRecord {
		o.record = q.record
	}
}

// verdicts is what each source is taken to say at this moment.
func (q *inquiry) verdicts(closing bool, late map[int]string) []verdict {
	vs := make([]verdict, len(q.seats))
	for i := range q.seats {
		s := &q.seats[i]
		v := s.verdict(closing)
		if i == q.recorded && (v.opinion == unknown || v.opinion == down) && q.record.usable() {
			v = verdict{opinion: present, found: q.record.found(), err: v.err, took: v.took, at: v.at, from: fromRecord}
		}
		if v.opinion == present {
			if why := s.clash + late[i]; why != "" {
				v.opinion, v.err = refused, model.Errorf(model.Unavailable, "%s", why)
			}
		}
		vs[i] = v
	}
	return vs
}

func (s *seat) verdict(closing bool) verdict {
	switch {
	case s.out != "":
		return verdict{opinion: excluded, err: model.Errorf(model.NotFound, "%s", s.out)}
	case !s.sat:
		return verdict{opinion: waiting}
	}
	v, ok := s.look.poll()
	switch {
	case ok && v.opinion == unknown && s.a.breaker.down():
		v.opinion = down
		return v
	case ok:
		return v
	case s.a.breaker.down():
		return verdict{opinion: down, err: errDown}
	case s.look.silent:
		return verdict{opinion: unknown, err: model.Errorf(model.Unavailable, "silent within the last second, asked again behind")}
	case closing:
		return verdict{opinion: unknown, err: model.Errorf(model.Unavailable, "no answer in time")}
	}
	return verdict{opinion: waiting}
}

// giveUp tells the books of the sources that are still silent.
func (q *inquiry) giveUp() {
	for i, v := range q.final {
		s := &q.seats[i]
		if s.sat && s.look.flight != nil && (v.opinion == unknown || v.from == fromRecord) {
			if _, ok := s.look.poll(); !ok && !s.look.silent {
				s.a.verdicts.giveUp(q.n.String(), s.look.flight)
			}
		}
	}
}

// name gives an outcome without a winner its error.
func (q *inquiry) name(o *outcome) {
	if o.answered() {
		return
	}
	o.err = model.Errorf(o.kind, "%s: %s%s", q.n, o.rule, q.reason(o.kind))
}

// reason names the sources that decided against the name.
func (q *inquiry) reason(kind model.Kind) string {
	why := ""
	for i, v := range q.final {
		bad := v.opinion == unknown || v.opinion == down || v.opinion == refused
		if kind == model.Unavailable && bad || kind == model.Denied && v.opinion == denied {
			why += fmt.Sprintf("; %s: %v", q.seats[i].a.id, v.err)
		}
	}
	return why
}
