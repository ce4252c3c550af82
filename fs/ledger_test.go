package fs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"modelfs/internal/model"
)

type ledgerEntry struct {
	Count, Aux uint64
	Payload    string
}

func contents(records []record) map[recordID]ledgerEntry {
	found := map[recordID]ledgerEntry{}
	for _, r := range records {
		found[r.recordID] = ledgerEntry{r.count, r.aux, string(r.payload)}
	}
	return found
}

func must(t interface{ Fatal(...any) }, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever was written is what the next process reads, at any moment.
func TestLedgerOutlivesItsWriter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, err := newLedgerFile()
		must(t, err)
		defer f.Close()
		l, records, err := openLedger(f)
		must(t, err)
		if len(records) != 0 {
			t.Fatalf("a new ledger holds %v", records)
		}
		want := map[recordID]ledgerEntry{}
		id := rapid.Custom(func(t *rapid.T) recordID {
			return recordID{uint32(rapid.IntRange(1, 2).Draw(t, "kind")), rapid.Uint64Range(1, 5).Draw(t, "id")}
		})
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				id := id.Draw(t, "record")
				e := ledgerEntry{rapid.Uint64Range(0, 9).Draw(t, "count"), rapid.Uint64().Draw(t, "aux"), rapid.StringN(0, 40, 100).Draw(t, "payload")}
				must(t, l.put(id, e.Count, e.Aux, []byte(e.Payload)))
				want[id] = e
			},
			"add": func(t *rapid.T) {
				id := id.Draw(t, "record")
				l.add(id, 3)
				if e, ok := want[id]; ok {
					e.Count += 3
					want[id] = e
				}
			},
			"remove": func(t *rapid.T) {
				id := id.Draw(t, "record")
				l.remove(id)
				delete(want, id)
			},
			"compact": func(*rapid.T) { l.mu.Lock(); l.compactLocked(); l.mu.Unlock() },
			"another process": func(t *rapid.T) {
				nodes, handles := l.nextNode(), l.nextHandle()
				must(t, l.close())
				var records []record
				l, records, err = openLedger(f)
				must(t, err)
				if d := cmp.Diff(want, contents(records)); d != "" {
					t.Fatalf("after a restart: %s", d)
				}
				if l.nextNode() <= nodes || l.nextHandle() <= handles {
					t.Fatal("a number is given out twice")
				}
			},
		})
		must(t, l.close())
	})
}

// newLedger is an empty one.
func newLedger(t *testing.T) *ledger {
	t.Helper()
	f, err := newLedgerFile()
	must(t, err)
	t.Cleanup(func() { f.Close() })
	l, _, err := openLedger(f)
	must(t, err)
	t.Cleanup(func() { must(t, l.close()) })
	return l
}

// A full ledger makes room out of what is dead, and refuses when all live.
func TestLedgerIsBounded(t *testing.T) {
	l := newLedger(t)
	big := bytes.Repeat([]byte("x"), maxPayload-8)
	for i := range uint64(5 * ledgerHalf / maxPayload) {
		must(t, l.put(recordID{1, i % 10}, i, 0, big))
	}
	if err := l.put(recordID{1, 1}, 0, 0, append(big, big...)); !model.IsKind(err, model.NoSpace) {
		t.Errorf("an oversized record: %v", err)
	}
	full := error(nil)
	for i := uint64(100); full == nil && i < 100+2*ledgerHalf/maxPayload; i++ {
		full = l.put(recordID{1, i}, i, 0, big)
	}
	if !model.IsKind(full, model.NoSpace) {
		t.Errorf("a ledger full of living records: %v", full)
	}
	l.remove(recordID{1, 100})
	must(t, l.put(recordID{1, 101}, 7, 0, big))
}

// With more nodes than it can hold, a ledger costs no more: it must not copy
// all that lives for each record that finds no room, nor for each that leaves.
func TestAFullLedgerIsNotCopiedForEachRecord(t *testing.T) {
	l := newLedger(t)
	payload := make([]byte, 512)
	next := uint64(1)
	for ; l.put(recordID{1, next}, 1, 0, payload) == nil; next++ {
	}
	const changes = 200
	copies, active := 0, l.active()
	for i := range uint64(changes) {
		if i%2 == 0 {
			l.remove(recordID{1, 1 + i})
		}
		_ = l.put(recordID{1, next + i}, 1, 0, payload)
		if now := l.active(); now != active {
			copies, active = copies+1, now
		}
	}
	if copies > 2 {
		t.Errorf("%d changes of a full ledger copied it %d times", changes, copies)
	}
}

// A ledger that makes no sense is emptied, and its numbers are not reused.
func TestBrokenLedgerIsEmptied(t *testing.T) {
	for name, damage := range map[string]func([]byte){
		"another layout":     func(b []byte) { b[0]++ },
		"a third half":       func(b []byte) { b[8] = 7 },
		"an end too far":     func(b []byte) { binary.NativeEndian.PutUint64(b[ledgerHeader:], 1<<40) },
		"a record of size 0": func(b []byte) { binary.NativeEndian.PutUint32(b[ledgerHeader+halfFirst:], 0) },
		"an endless payload": func(b []byte) { binary.NativeEndian.PutUint32(b[ledgerHeader+halfFirst+4:], 1<<30) },
	} {
		t.Run(name, func(t *testing.T) {
			f, err := newLedgerFile()
			must(t, err)
			defer f.Close()
			l, _, err := openLedger(f)
			must(t, err)
			must(t, l.put(recordID{1, 2}, 1, 0, []byte("payload")))
			before := l.nextNode()
			damage(l.mem)
			must(t, l.close())
			l, records, err := openLedger(f)
			if !model.IsKind(err, model.Invalid) || len(records) != 0 {
				t.Errorf("%v, %v", records, err)
			}
			if next := l.nextNode(); next <= before {
				t.Errorf("node id %d is given out after %d", next, before)
			}
			must(t, l.put(recordID{1, 3}, 1, 0, nil))
			must(t, l.close())
		})
	}
}

// Any bytes in the file are a ledger or none, never a crash.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{}, uint64(halfFirst))
	f.Add(binary.NativeEndian.AppendUint64(nil, 48<<32|48), uint64(56))
	f.Add(bytes.Repeat([]byte{0xff}, 200), uint64(208))
	f.Fuzz(func(t *testing.T, half []byte, end uint64) {
		file, err := newLedgerFile()
		must(t, err)
		defer file.Close()
		l, _, err := openLedger(file)
		must(t, err)
		copy(l.half(0)[halfFirst:], half)
		binary.NativeEndian.PutUint64(l.half(0), end)
		must(t, l.close())
		l, _, err = openLedger(file)
		if err != nil && !model.IsKind(err, model.Invalid) {
			t.Fatal(err)
		}
		must(t, l.put(recordID{1, 1}, 1, 1, []byte("x")))
		must(t, l.close())
	})
}

// What a node is comes back as it was written.
func TestNodesComeBack(t *testing.T) {
	place := treePlace("/tree/m/model.gguf")
	places := func(_, path string) model.Place { return treePlace(path) }
	v := view(model.Hub, "hub:x", model.File{Path: "a.gguf", Size: 5, Key: "sha256-aa", SHA256: "aa", URLs: []string{"https://h/a"}})
	w := view(model.Shared, "shared:/tree", model.File{Path: "model.gguf", Size: 6, Place: place})
	for _, n := range []*node{
		{kind: kindDir, path: "org/m/sub", role: role{"org/m", "sub", false}, ino: 9, key: nodeKey{kind: kindDir, path: "org/m/sub"}},
		{kind: kindAlias, text: "a.gguf", size: 6, key: nodeKey{kind: kindAlias, path: "m/model.gguf", source: "a.gguf"}},
		{kind: kindCold, size: 5, bound: bound{view: v, file: &v.Files[0]}, key: nodeKey{kind: kindCold, path: "sha256-aa", source: "hub:x", size: 5, attempt: 2}},
		{kind: kindInPlace, size: 6, bound: bound{view: w, file: &w.Files[0]}, key: nodeKey{kind: kindInPlace, dev: 1, ino: 2}},
	} {
		payload := n.marshal()
		var rec nodeRecord
		must(t, json.Unmarshal(payload, &rec))
		again, err := rec.node(places)
		must(t, err)
		if string(again.marshal()) != string(payload) || again.key != n.key || again.role != n.role {
			t.Errorf("%s became %s", payload, again.marshal())
		}
		if _, err := rec.node(func(string, string) model.Place { return nil }); (err != nil) != (n.kind == kindInPlace) {
			t.Errorf("%v without its tree: %v", n.kind, err)
		}
	}
}
