// Package doctor answers: is this machine ready for modelfs? It looks at the
// kernel, the process's rights, directories, mounts and sources, and says of
// each what it found, what that costs, and what to do.
//
// Invariants:
//
//  1. A [Problem] is what keeps modelfs from working; a [Warning] is what makes
//     it slower, or less than it could be. Only problems fail.
//  2. Nothing is changed: what is tried is tried in places that are gone
//     afterwards.
//  3. No line holds a credential.
//
// Whatever needs a mount is tried by the caller, in another process.
package doctor

import (
	"fmt"
	"io"
	"strings"
)

// A Level says how bad it is.
type Level string

// The levels.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Problem Level = "problem"
)

// A Line is what was found of one thing.
type Line struct {
	Level Level  `json:"level"`
	Thing string `json:"thing"`
	Found string `json:"found"`          // what it is like, or what is wrong and what that costs
	Next  string `json:"next,omitempty"` // what to do; "" where nothing has to be done
}

// A Report is what was found, in the order in which it was looked for.
type Report []Line

// Add adds lines.
func (r *Report) Add(lines ...Line) { *r = append(*r, lines...) }

// Problems counts what keeps modelfs from working.
func (r Report) Problems() int { return r.count(Problem) }

func (r Report) count(level Level) int {
	n := 0
	for _, l := range r {
		if l.Level == level {
			n++
		}
	}
	return n
}

// Print writes the report for people, and its sum.
func (r Report) Print(w io.Writer) error {
	width := 0
	for _, l := range r {
		width = max(width, len(l.Thing))
	}
	var b strings.Builder
	for _, l := range r {
		fmt.Fprintf(&b, "%-7s  %-*s  %s\n", l.Level, width, l.Thing, l.Found)
		if l.Next != "" {
			fmt.Fprintf(&b, "%-7s  %-*s  -> %s\n", "", width, "", l.Next)
		}
	}
	switch problems, warnings := r.Problems(), r.count(Warning); {
	case problems > 0:
		fmt.Fprintf(&b, "\nmodelfs can't work here: problems: %d, warnings: %d\n", problems, warnings)
	case warnings > 0:
		fmt.Fprintf(&b, "\nmodelfs works here, with less than it could: warnings: %d\n", warnings)
	default:
		fmt.Fprint(&b, "\nmodelfs works here\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func ok(thing, format string, args ...any) Line {
	return Line{OK, thing, fmt.Sprintf(format, args...), ""}
}

func warning(thing, next, format string, args ...any) Line {
	return Line{Warning, thing, fmt.Sprintf(format, args...), next}
}

func problem(thing, next, format string, args ...any) Line {
	return Line{Problem, thing, fmt.Sprintf(format, args...), next}
}
