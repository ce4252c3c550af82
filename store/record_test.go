package store

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestBitmapAgainstAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 200
		m, ref := newBitmap(limit), make([]bool, limit)
		for range rapid.IntRange(0, 12).Draw(t, "runs") {
			from := rapid.Int64Range(0, limit).Draw(t, "from")
			to := rapid.Int64Range(from, limit).Draw(t, "to")
			m.set(from, to)
			for i := from; i < to; i++ {
				ref[i] = true
			}
		}
		size := rapid.Int64Range(1, limit*bs).Draw(t, "size")
		var bytes, last int64
		for i, b := range ref {
			if b {
				last = int64(i) + 1
			}
			if b && int64(i) < blocksFor(size) {
				bytes += min(bs, size-int64(i)*bs)
			}
		}
		if got := lastBlock(m.words()); got != last {
			t.Fatalf("lastBlock %d, want %d", got, last)
		}
		from := rapid.Int64Range(0, limit).Draw(t, "from")
		to := rapid.Int64Range(from, limit).Draw(t, "to")
		for _, want := range []bool{true, false} {
			next := from
			for next < to && ref[next] != want {
				next++
			}
			if got := m.next(from, to, want); got != next {
				t.Fatalf("next(%d, %d, %v) = %d, want %d", from, to, want, got, next)
			}
		}
		cut := m.words()
		clearFrom(cut, blocksFor(size))
		m.load(cut)
		if got := m.bytes(size); got != bytes {
			t.Fatalf("bytes(%d) = %d, want %d", size, got, bytes)
		}
	})
}

func testHeader() header {
	return header{id: PartID{Key: "at-x", Source: "hub:https://hf.test"}, size: 70*bs + 5, blocks: 71, boot: testBoot, attempt: 7, ino: 99}
}

// testRecord is a record file's bytes with those slots.
func testRecord(h header, live []uint64, slots ...slot) []byte {
	b := make([]byte, recordLength(h.blocks))
	copy(b, h.encode())
	for i, w := range live {
		for j := range 8 {
			b[pageSize+8*i+j] = byte(w >> (8 * j))
		}
	}
	for _, s := range slots {
		pg, bm := s.encode(h.attempt)
		copy(b[slotOffset(h.blocks, s.seq):], append(pg, bm...))
	}
	return b
}

func TestRecordRoundTrip(t *testing.T) {
	h := testHeader()
	older := slot{seq: 4, words: []uint64{3}}
	newer := slot{seq: 5, words: []uint64{7, 1}, hash: hashState{pos: 3 * bs, sha256: []byte("a"), sha1: []byte("b")}}
	b := testRecord(h, []uint64{15, 3}, older, newer)
	got, err := readRecord(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	want := &record{header: h, live: []uint64{15, 3}, slot: newer}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{}, header{}, slot{}, hashState{}), cmpopts.EquateEmpty()); diff != "" {
		t.Fatal(diff)
	}
}

func TestDamagedRecords(t *testing.T) {
	h := testHeader()
	good := func() []byte {
		return testRecord(h, []uint64{1}, slot{seq: 4, words: []uint64{3}}, slot{seq: 5, words: []uint64{7}, hash: hashState{pos: bs, sha256: []byte("a")}})
	}
	at5 := slotOffset(h.blocks, 5)
	for _, c := range []struct {
		name    string
		breakIt func(b []byte) []byte
		words   []uint64 // nil: the record is void
		pos     int64
	}{
		{"nothing", func(b []byte) []byte { return b }, []uint64{7}, bs},
		{"no header", func(b []byte) []byte { clear(b[:pageSize]); return b }, nil, 0},
		{"one bit of the header", func(b []byte) []byte { b[40] ^= 1; return b }, nil, 0},
		{"cut short", func(b []byte) []byte { return b[:len(b)-1] }, nil, 0},
		{"empty", func(b []byte) []byte { return nil }, nil, 0},
		{"of another version", func(b []byte) []byte { return reversioned(b, 0) }, nil, 0},
		{"a slot of another version", func(b []byte) []byte { return reversioned(b, at5) }, []uint64{3}, 0},
		{"longer", func(b []byte) []byte { return append(b, 0) }, nil, 0},
		{"the newer slot's page", func(b []byte) []byte { b[at5+30] ^= 1; return b }, []uint64{3}, 0},
		{"the newer slot's bitmap", func(b []byte) []byte { b[at5+pageSize] ^= 1; return b }, []uint64{3}, 0},
		{"both slots", func(b []byte) []byte { clear(b[slotOffset(h.blocks, 4):]); clear(b[at5:]); return b }, []uint64{}, 0},
		{"a slot of another attempt", func(b []byte) []byte {
			pg, bm := slot{seq: 7, words: []uint64{255}}.encode(h.attempt + 1)
			copy(b[at5:], append(pg, bm...))
			return b
		}, []uint64{3}, 0},
		{"a slot in the other's place", func(b []byte) []byte {
			pg, bm := slot{seq: 8, words: []uint64{255}}.encode(h.attempt)
			copy(b[at5:], append(pg, bm...))
			return b
		}, []uint64{3}, 0},
		{"a hash of more than is durable", func(b []byte) []byte {
			pg, bm := slot{seq: 7, words: []uint64{5}, hash: hashState{pos: 2 * bs, sha256: []byte("a")}}.encode(h.attempt)
			copy(b[at5:], append(pg, bm...))
			return b
		}, []uint64{5}, 0},
		{"blocks beyond the end", func(b []byte) []byte {
			pg, bm := slot{seq: 7, words: []uint64{1, ^uint64(0)}}.encode(h.attempt)
			copy(b[at5:], append(pg, bm...))
			return b
		}, []uint64{1, 127}, 0},
	} {
		b := c.breakIt(good())
		got, err := readRecord(bytes.NewReader(b), int64(len(b)))
		if (err != nil) != (c.words == nil) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err == nil && (!cmp.Equal(got.words, c.words, cmpopts.EquateEmpty()) || got.slot.hash.pos != c.pos) {
			t.Errorf("%s: words %x, hashed %d, want %x, %d", c.name, got.words, got.slot.hash.pos, c.words, c.pos)
		}
	}
}

// reversioned states another version on the page at off, with a good checksum.
func reversioned(b []byte, off int64) []byte {
	b[off+int64(len(headerMagic))]++
	(&page{b: b[off : off+pageSize]}).seal()
	return b
}

// Whatever the file holds, the parser must not panic, allocate without bound
// or let through what lies outside the file. The file is put together from its
// pages, with good checksums if sealed, so that the inputs stay small.
func FuzzReadRecord(f *testing.F) {
	h := testHeader()
	pg, bm := slot{seq: 5, words: []uint64{7}, hash: hashState{pos: bs, sha256: []byte("a")}}.encode(h.attempt)
	add := func(hdr, slotPage, bitmap []byte) {
		for _, sealed := range []bool{false, true} {
			f.Add(bytes.TrimRight(hdr[:crcAt], "\x00"), bytes.TrimRight(slotPage[:crcAt], "\x00"), bitmap, []byte{1}, sealed, 6*pageSize)
		}
	}
	add(h.encode(), pg, bm)
	h.size = -1
	add(h.encode(), pg, bm)
	h.blocks = 1 << 62
	add(h.encode(), pg, nil)
	add(make([]byte, pageSize), make([]byte, pageSize), nil)
	f.Fuzz(func(t *testing.T, hdr, slotPage, bitmap, live []byte, sealed bool, length int) {
		b := make([]byte, 6*pageSize)
		copy(b[:crcAt], hdr)
		copy(b[pageSize:2*pageSize], live)
		copy(b[4*pageSize:5*pageSize], slotPage)
		copy(b[5*pageSize:], bitmap)
		if sealed {
			(&page{b: b[:pageSize]}).seal()
			(&page{b: b[4*pageSize : 5*pageSize]}).seal()
		}
		rec, err := readRecord(bytes.NewReader(b), int64(length))
		if err != nil {
			return
		}
		end := rec.blocks
		if rec.size >= 0 {
			end = blocksFor(rec.size)
		}
		if !rec.id.Key.Valid() || lastBlock(rec.live) > end || lastBlock(rec.words) > end || rec.slot.hash.pos > frontBytes(rec.words, rec.size) {
			t.Fatalf("accepted %+v", rec)
		}
		newHasher(rec.slot.hash)
	})
}

// What is on disk is damaged between two runs: the part starts over, or holds
// what it can.
func TestDamagedFilesStartOver(t *testing.T) {
	data := pattern(1, 5*bs)
	id := PartID{Key: "at-x", Source: "hub:test"}
	for name, damage := range map[string]func(part, record string) error{
		"no record":        func(p, m string) error { return os.Remove(m) },
		"no data":          func(p, m string) error { return os.Remove(p) },
		"data cut short":   func(p, m string) error { return os.Truncate(p, bs) },
		"record cut short": func(p, m string) error { return os.Truncate(m, 100) },
		"another file's data": func(p, m string) error {
			if err := os.Rename(p, p+".old"); err != nil {
				return err
			}
			return os.WriteFile(p, make([]byte, 5*bs), 0o600)
		},
		"noise in the record": func(p, m string) error {
			noise := make([]byte, recordLength(5))
			for i := range noise {
				noise[i] = byte(rand.Uint32())
			}
			return os.WriteFile(m, noise, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			p := openPart(t, s, id, 5*bs)
			write(t, p, data, 0, 3*bs)
			closePart(t, p)
			base := filepath.Join(s.dir, fillsDir, id.base())
			if err := damage(base+".part", base+".map"); err != nil {
				t.Fatal(err)
			}
			p = openPart(t, s, id, 5*bs) // as another process finds it while it runs
			if p.Present() != 0 {
				t.Errorf("%d bytes are believed", p.Present())
			}
			closePart(t, p)
			if err := damage(base+".part", base+".map"); err != nil {
				t.Fatal(err)
			}
			s = reopen(t, s) // and as the next start finds it
			if got := tree(t, s, fillsDir); len(got) != 0 || s.Usage().Parts != 0 {
				t.Errorf("left in fills: %v", got)
			}
		})
	}
}

func TestAnotherSizeStartsOver(t *testing.T) {
	s := newStore(t)
	id := PartID{Key: "at-x"}
	p := openPart(t, s, id, 5*bs)
	write(t, p, pattern(1, 5*bs), 0, 3*bs)
	closePart(t, p)
	p = openPart(t, s, id, 6*bs)
	if p.Present() != 0 || p.Size() != 6*bs {
		t.Fatalf("present %d of %d", p.Present(), p.Size())
	}
}

// The live bitmap's page can vanish under the mapping. That must cost the
// record, not the process.
func TestAFaultInTheMappingDoesNoHarm(t *testing.T) {
	s := newStore(t)
	data := pattern(1, 5*bs)
	p := openPart(t, s, PartID{Key: "at-x"}, 5*bs)
	if err := os.Truncate(s.path(mapName(p.base)), 0); err != nil {
		t.Fatal(err)
	}
	write(t, p, data, 0, 5*bs)
	if !p.rec.dead.Load() {
		t.Fatal("the test did not make the mapping fault")
	}
	if p.Present() != 5*bs {
		t.Fatalf("present %d", p.Present())
	}
	if err := p.sync(t); err != nil {
		t.Fatal(err)
	}
}

// Any single bit of the record may have flipped, and the part may be opened in
// the boot in which it was written or in another one: what is reported present
// was written, and it ends in the right file.
func TestAFlippedBitOfTheRecordDoesNoHarm(t *testing.T) {
	data := pattern(1, 5*bs+100)
	id := PartID{Key: contentKey(data), Source: "hub:test"}
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("/dev/shm", "modelfs-store-")
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		s, err := open(dir, Options{Log: slog.New(slog.DiscardHandler)}, roomy())
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		openPart := func() *Part {
			p, err := s.OpenPart(id, int64(len(data)))
			if err != nil {
				rt.Fatal(err)
			}
			return p
		}
		p := openPart()
		written := rapid.Uint64Range(0, 63).Draw(rt, "written")
		for b := range int64(6) {
			if written>>b&1 == 1 {
				write(t, p, data, b*bs, (b+1)*bs)
			}
		}
		closePart(t, p)
		record, err := os.ReadFile(s.path(mapName(p.base)))
		if err != nil {
			rt.Fatal(err)
		}
		// Most of the record is unused: what is not, above all the live bitmap's
		// one byte on the second page, is drawn more often.
		page := rapid.SampledFrom([]int{0, 1, 1, 1, 2, 3, 4, 5}).Draw(rt, "page")
		at := page*pageSize + rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 200), rapid.IntRange(0, pageSize-1)).Draw(rt, "byte")
		record[at] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		if err := os.WriteFile(s.path(mapName(p.base)), record, 0o600); err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "reboot") {
			s.sys.boot = "another"
		}
		p = openPart()
		defer func() { _ = p.Close() }()
		for b := range int64(6) {
			got := make([]byte, min(bs, int64(len(data))-b*bs))
			if !p.Has(b*bs, int64(len(got))) {
				write(t, p, data, b*bs, (b+1)*bs)
			}
			if _, err := p.ReadAt(got, b*bs); err != nil || !bytes.Equal(got, data[b*bs:][:len(got)]) {
				rt.Fatalf("block %d: %v, or other bytes", b, err)
			}
		}
		if err := p.Complete(context.Background(), Digest{SHA256: sha256Hex(data)}, nil); err != nil {
			rt.Fatal(err)
		}
	})
}
