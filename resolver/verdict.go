package resolver

import (
	"time"

	"modelfs/internal/model"
)

// An opinion is what one source says of one name.
type opinion int

const (
	waiting  opinion = iota // it may still answer in time
	present                 // it has the name
	absent                  // an authority says that it does not exist
	denied                  // it exists or may exist, and is refused
	unknown                 // it could not say, or not in time
	down                    // it is known to be down
	excluded                // it is not asked for such a name
	refused                 // it is present, but with other weights than the recorded source
)

var opinions = [...]string{"waiting", "present", "absent", "denied", "unknown", "down", "not asked", "refused"}

func (o opinion) String() string { return opinions[o] }

// A verdict is an opinion with its reasons.
type verdict struct {
	opinion opinion
	found   model.Found   // if present or refused
	err     error         // if not present; why
	took    time.Duration // from question to answer
	at      time.Time     // of the answer
	from    string        // "" the source itself, else what stood for it ("pin", "record")
}

// An outcome is what the verdicts add up to.
type outcome struct {
	winner  int // index of the verdict that is the answer, or -1
	waitFor int // index of the first verdict that may still change the outcome, or -1
	settled bool
	rule    string     // the sentence that decided
	kind    model.Kind // of the error, if there is no winner and nothing to wait for
	err     error      // of that kind

	// What follows is filled in by the inquiry.
	found  model.Found
	source string
	record *record // the listing is this one's, nobody is asked for it
}

// answered reports whether somebody has the name.
func (o outcome) answered() bool { return o.source != "" }

// The rules, as explain shows them.
const (
	ruleFirst     = "the first source in order that has it; every one before it said absent or denied, or is known to be down"
	ruleUnsettled = "the first source in order that has it; one before it could not be asked and counts as down for this answer only"
	ruleBroken    = "incomplete, and no other source has it"
	ruleUnknown   = "no source has it, and one could not be asked"
	ruleDenied    = "no source has it, and one refuses it"
	ruleAbsent    = "every source says that it has no such name"
)

// decide adds verdicts up, in the order in which the sources are believed. A
// source that is present counts once every earlier one has spoken or is known
// to be down; one that could not say counts as down for this answer, which is
// then unsettled. A broken model counts only where no other has the name.
func decide(vs []verdict) outcome {
	o := outcome{winner: -1, waitFor: -1, settled: true}
	broken, anyUnknown, anyDenied := -1, false, false
	for i, v := range vs {
		switch v.opinion {
		case waiting:
			o.waitFor = i
			return o
		case present:
			if v.found.Broken != "" {
				if broken < 0 {
					broken = i
				}
				continue
			}
			o.winner, o.rule = i, ruleFirst
			if !o.settled {
				o.rule = ruleUnsettled
			}
			return o
		case unknown:
			anyUnknown, o.settled = true, false
		case down, refused:
			anyUnknown = true
		case denied:
			anyDenied = true
		}
	}
	switch {
	case broken >= 0:
		o.winner, o.rule = broken, ruleBroken
	case anyUnknown:
		o.kind, o.rule = model.Unavailable, ruleUnknown
	case anyDenied:
		o.kind, o.rule = model.Denied, ruleDenied
	default:
		o.kind, o.rule = model.NotFound, ruleAbsent
	}
	return o
}
