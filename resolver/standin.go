package resolver

import (
	"fmt"
	"path"
	"strings"

	"modelfs/internal/model"
)

// weightExtensions are the endings of files that hold weights: those are what
// must not change under a name. A share seldom has the README of the Hub.
var weightExtensions = map[string]bool{
	".gguf": true, ".safetensors": true, ".bin": true, ".onnx": true, ".onnx_data": true, ".pt": true, ".pth": true, ".ckpt": true,
	".msgpack": true, ".h5": true, ".tflite": true, ".engine": true, ".plan": true, ".mlmodel": true, ".llamafile": true, ".nemo": true,
}

func isWeights(p string) bool { return weightExtensions[strings.ToLower(path.Ext(p))] }

// difference says how the weights of m differ from the recorded ones, or "".
// Names and sizes must agree, and hashes where both state them. Of models
// without weights all files are compared.
func difference(rec *record, m *model.Model) string {
	if !rec.Whole {
		return "the listing of the recorded source is too long to be recorded, so nothing can be compared with it"
	}
	here := make(map[string]recordedFile)
	theirs := newRecord(m)
	all := !anyWeights(rec.Files) && !anyWeights(theirs.Files)
	for _, f := range rec.Files {
		if all || isWeights(f.Path) {
			here[f.Path] = f
		}
	}
	for _, f := range theirs.Files {
		if !all && !isWeights(f.Path) {
			continue
		}
		g, ok := here[f.Path]
		if !ok {
			return fmt.Sprintf("%s has %s, which %s does not have", m.Source, f.Path, rec.Source)
		}
		if why := g.differs(f); why != "" {
			return fmt.Sprintf("%s of %s %s than that of %s", f.Path, m.Source, why, rec.Source)
		}
		delete(here, f.Path)
	}
	for _, f := range rec.Files {
		if _, left := here[f.Path]; left {
			return fmt.Sprintf("%s lacks %s, which %s has", m.Source, f.Path, rec.Source)
		}
	}
	return ""
}

func anyWeights(files []recordedFile) bool {
	for _, f := range files {
		if isWeights(f.Path) {
			return true
		}
	}
	return false
}

// differs says in which way g is another file than f, or "".
func (f recordedFile) differs(g recordedFile) string {
	switch {
	case f.SHA256 != "" && g.SHA256 != "" && f.SHA256 == g.SHA256:
		return ""
	case f.SHA256 != "" && g.SHA256 != "":
		return "has another hash"
	case f.GitSHA1 != "" && g.GitSHA1 != "" && f.GitSHA1 != g.GitSHA1:
		return "has another hash"
	case f.Size < 0 || g.Size < 0:
		return "can't be told to be no other"
	case f.Size != g.Size:
		return fmt.Sprintf("has another size (%d against %d bytes)", g.Size, f.Size)
	}
	return ""
}

// standsIn reports whether vs[winner] may answer only with the same weights
// as the recorded source, which has not given the name up.
func (q *inquiry) standsIn(winner int, vs []verdict) bool {
	if q.recorded < 0 || winner <= q.recorded || q.r.cfg.Fallback == FallbackAny {
		return false
	}
	o := vs[q.recorded].opinion
	return o != absent && o != excluded
}

// compare finds out whether a stand-in has the same weights; clash says how
// they differ. While its listing is under way ok is false, and done is closed
// with its end.
func (q *inquiry) compare(s *seat, f model.Found) (done <-chan struct{}, ok bool) {
	if s.checked {
		return nil, true
	}
	if f.Kind != model.ModelDir {
		s.checked, s.clash = true, fmt.Sprintf("it is no model in %s, and is one in %s", s.a.id, q.record.Source)
		return nil, true
	}
	l := s.a.list(q.n, f)
	got, have := l.poll()
	if !have {
		return l.flight.done, false
	}
	s.checked, s.compared = true, got.model
	if s.clash = fmt.Sprint(got.err); got.err == nil {
		s.clash = difference(q.record, got.model)
	}
	return nil, true
}

// prepare begins the listing that a comparison will need, should the recorded
// source stay silent until the deadline.
func (q *inquiry) prepare(vs []verdict) {
	q.prepared = !q.mayStandIn(vs)
	for i := q.recorded + 1; i < len(vs) && !q.prepared; i++ {
		if vs[i].opinion == present && vs[i].found.Kind == model.ModelDir && vs[i].found.Broken == "" {
			q.seats[i].a.list(q.n, vs[i].found)
			q.prepared = true
		}
	}
}

// mayStandIn reports whether another source may have to stand in for the
// recorded one, which is waited for.
func (q *inquiry) mayStandIn(vs []verdict) bool {
	return q.recorded >= 0 && vs[q.recorded].opinion == waiting && !q.record.usable() && q.r.cfg.Fallback != FallbackAny
}

// standInAnswer is closed by the next answer of a source that may stand in;
// nil if there is nothing to prepare.
func (q *inquiry) standInAnswer() <-chan struct{} {
	if q.prepared {
		return nil
	}
	for i := q.recorded + 1; i < len(q.seats); i++ {
		if s := &q.seats[i]; s.sat {
			if _, have := s.look.poll(); !have {
				return s.look.flight.done
			}
		}
	}
	return nil
}

// The rules of answers that no source gave just now.
const (
	ruleNamespace = "models below it are recorded, and a source could not be asked"
	ruleOffline   = "no configured source has it, and bytes of it are on this machine"
)

// fromRecords is the answer to a name that no source has: what is on this
// machine stays usable with its source gone.
func (q *inquiry) fromRecords(o outcome) outcome {
	n := q.n
	plain := n.Org == "" && n.Quant == "" && n.Revision == ""
	if plain && o.kind == model.Unavailable && q.r.records.holds(n.Repo) {
		return q.known(o, model.Found{Kind: model.Namespace, Name: n.Repo}, ruleNamespace)
	}
	rec := q.record
	if rec == nil {
		rec = q.r.records.anyPin(n)
	}
	if rec != nil && rec.Stored && rec.usable() && q.orphaned(rec.by(), rec.Kind) {
		o = q.known(o, rec.found(), ruleOffline)
		o.source, o.record = rec.by(), rec
		return o
	}
	if plain && q.orphans(n.Repo) {
		return q.known(o, model.Found{Kind: model.Namespace, Name: n.Repo}, ruleOffline)
	}
	return o
}

// recordsSource is the source of what nothing but records say.
const recordsSource = "records"

func (q *inquiry) known(o outcome, f model.Found, rule string) outcome {
	o.found, o.rule, o.source, o.settled = f, rule, recordsSource, false
	return o
}

// orphaned reports whether a source is not configured any more, and allowed
// to answer for the name all the same.
func (q *inquiry) orphaned(source string, kind model.SourceKind) bool {
	return q.r.asker(source) == nil && q.r.confine.allows(q.n, source, kind)
}

// orphans reports whether the namespace holds a stored model of a source that
// is not configured any more.
func (q *inquiry) orphans(org string) bool {
	if !q.r.records.holds(org) {
		return false
	}
	for _, h := range q.r.records.headers() {
		if h.Stored && !h.Kind.InPlace() && strings.HasPrefix(h.Name, org+"/") && q.orphaned(h.Source, h.Kind) {
			return true
		}
	}
	return false
}
