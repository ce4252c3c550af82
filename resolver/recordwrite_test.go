package resolver

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"modelfs/internal/model"
)

// held is Facts whose writes wait, or fail.
type held struct {
	*memory
	writing, goOn chan struct{} // not nil: a write says so and waits
	err           error
}

func (h *held) Put(id string, v any) error {
	if h.writing != nil {
		h.writing <- struct{}{}
		<-h.goOn
	}
	if h.err != nil {
		return h.err
	}
	return h.memory.Put(id, v)
}

func manyRecords(facts Facts, n int) *records {
	r := newRecords(facts, slog.New(slog.DiscardHandler))
	for i := range n {
		m := &model.Model{Name: fmt.Sprintf("org/m%d", i), Source: "hub", Kind: model.Hub, Revision: "new"}
		r.answered(model.Name{Org: "org", Repo: fmt.Sprintf("m%d", i)}, newRecord(m))
	}
	return r
}

// wantRecords looks every record up and wants what was recorded last.
func wantRecords(t *testing.T, r *records, n int) {
	t.Helper()
	lost := 0
	for i := range n {
		if rec := r.get(nameID(model.Name{Org: "org", Repo: fmt.Sprintf("m%d", i)})); rec == nil || rec.Revision != "new" {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d records are lost", lost, n)
	}
}

// While records are being written the disk does not have them yet: there are
// more than are held, and none may be looked for there.
func TestRecordsThatAreBeingWrittenAreThere(t *testing.T) {
	const n = 3 * maxLoaded
	facts := &held{memory: newMemory()}
	r := manyRecords(facts, n)
	facts.writing, facts.goOn = make(chan struct{}), make(chan struct{})
	written := make(chan struct{})
	go func() { r.flush(); close(written) }()
	<-facts.writing
	r.answered(model.Name{Repo: "another"}, newRecord(&model.Model{Name: "another", Source: "hub", Kind: model.Hub})) // lets go of what may be
	wantRecords(t, r, n)
	for done := false; !done; {
		select {
		case facts.goOn <- struct{}{}:
		case <-facts.writing:
		case <-written:
			done = true
		}
	}
	wantRecords(t, r, n)
}

// What can't be written lasts until the end of the process, and is written
// when the disk takes it.
func TestRecordsThatCannotBeWrittenStay(t *testing.T) {
	const n = 3 * maxLoaded
	facts := &held{memory: newMemory(), err: errors.New("the disk is full")}
	r := manyRecords(facts, n)
	r.flush()
	one := func(name string) {
		r.answered(model.Name{Repo: name}, newRecord(&model.Model{Name: name, Source: "hub", Kind: model.Hub}))
	}
	one("another")
	wantRecords(t, r, n)
	facts.err = nil
	r.flush()
	one("a third")
	wantRecords(t, newRecords(facts.memory, slog.New(slog.DiscardHandler)), n)
	if r.mu.Lock(); len(r.loaded) > maxLoaded+1 {
		t.Errorf("%d records are held", len(r.loaded))
	}
	r.mu.Unlock()
}

// Records that the disk does not take are bounded by their files; what has
// bytes here goes last.
func TestRecordsThatWaitForTheDiskAreBounded(t *testing.T) {
	const n, files = 100, 1000
	r := newRecords(&held{memory: newMemory(), err: errors.New("the disk is full")}, slog.New(slog.DiscardHandler))
	name := func(i int) model.Name { return model.Name{Org: "org", Repo: fmt.Sprintf("m%d", i)} }
	for i := range n {
		m := &model.Model{Name: name(i).Path(), Source: "hub", Kind: model.Hub, Revision: "new", Files: make([]model.File, files)}
		if r.answered(name(i), newRecord(m)); i == 0 {
			r.keep(name(i), newRecord(m))
		}
		r.flush()
	}
	total := 0
	for _, rec := range r.loaded {
		total += len(rec.Files)
	}
	if total > maxHeld {
		t.Errorf("listings of %d files are held, want at most %d", total, maxHeld)
	}
	for i, want := range map[int]bool{0: true, 1: false, n - 1: true} {
		if got := r.get(nameID(name(i))) != nil; got != want {
			t.Errorf("record %d is there: %v, want %v", i, got, want)
		}
	}
	if r.pin("hub", name(0)) == nil {
		t.Error("the commit of what is stored is lost")
	}
}
