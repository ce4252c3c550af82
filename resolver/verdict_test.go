package resolver

import (
	"testing"

	"pgregory.net/rapid"

	"modelfs/internal/model"
)

// specified is the specification of decide, in other words: who is the answer
// to verdicts that are all in. It states what must hold of an answer instead
// of how to find it.
func specified(vs []verdict) (winner int, settled bool, kind model.Kind) {
	count := func(o opinion, before int) (n int) {
		for _, v := range vs[:before] {
			if v.opinion == o {
				n++
			}
		}
		return n
	}
	whole := func(i int) bool { return vs[i].opinion == present && vs[i].found.Broken == "" }
	for i := range vs { // the first whole model; settled if nobody before it is unknown
		if whole(i) {
			return i, count(unknown, i) == 0, 0
		}
	}
	for i := range vs { // else the first broken one; settled if nobody at all is unknown
		if vs[i].opinion == present {
			return i, count(unknown, len(vs)) == 0, 0
		}
	}
	switch { // else the worst that was said
	case count(unknown, len(vs))+count(down, len(vs))+count(refused, len(vs)) > 0:
		return -1, false, model.Unavailable
	case count(denied, len(vs)) > 0:
		return -1, false, model.Denied
	}
	return -1, false, model.NotFound
}

func drawVerdict(t *rapid.T, label string, from ...opinion) verdict {
	v := verdict{opinion: rapid.SampledFrom(from).Draw(t, label)}
	if v.opinion == present && rapid.Bool().Draw(t, "broken") {
		v.found.Broken = "a part is missing"
	}
	return v
}

func TestDecideIsWhatIsSpecified(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		vs := make([]verdict, rapid.IntRange(0, 6).Draw(t, "sources"))
		for i := range vs {
			vs[i] = drawVerdict(t, "opinion", present, absent, denied, unknown, down, excluded, refused)
		}
		o := decide(vs)
		winner, settled, kind := specified(vs)
		if o.winner != winner || o.waitFor != -1 {
			t.Fatalf("decide(%v) = %+v, want winner %d", vs, o, winner)
		}
		if winner >= 0 && o.settled != settled {
			t.Fatalf("decide(%v) is settled: %v, want %v", vs, o.settled, settled)
		}
		if winner < 0 && o.kind != kind {
			t.Fatalf("decide(%v) = %v, want %v", vs, o.kind, kind)
		}
	})
}

// Whoever is waited for could change the outcome, and where nobody is waited
// for nobody could.
func TestDecideWaitsForThoseWhoMatter(t *testing.T) {
	all := []opinion{present, absent, denied, unknown, down, excluded, refused}
	rapid.Check(t, func(t *rapid.T) {
		vs := make([]verdict, rapid.IntRange(1, 5).Draw(t, "sources"))
		for i := range vs {
			vs[i] = drawVerdict(t, "opinion", append(all, waiting)...)
		}
		o := decide(vs)
		first := -1
		for i, v := range vs {
			if v.opinion == waiting && first < 0 {
				first = i
			}
		}
		if o.waitFor >= 0 {
			if o.waitFor != first {
				t.Fatalf("decide(%v) waits for %d, want %d", vs, o.waitFor, first)
			}
			return
		}
		for i := range vs {
			if vs[i].opinion == waiting {
				vs[i] = drawVerdict(t, "late", all...)
			}
		}
		if after := decide(vs); after.winner != o.winner || after.settled != o.settled || after.kind != o.kind {
			t.Fatalf("decided as %+v before everyone had spoken, then %v makes it %+v", o, vs, after)
		}
	})
}
