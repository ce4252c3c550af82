package store

import (
	"bytes"
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

const bs = BlockSize

func TestPartFromFirstByteToBlob(t *testing.T) {
	s := newStore(t)
	data := pattern(1, 5*bs+100)
	key := model.GitKey("org/repo", gitHex(data), int64(len(data)))
	link := Link{Source: "hub:https://hf.test", Repo: "org/repo", Revision: "abc", Path: "sub/model.gguf"}

	p := openPart(t, s, PartID{Key: key, Source: "hub:https://hf.test"}, int64(len(data)))
	if off, n := p.Missing(0); off != 0 || n != int64(len(data)) {
		t.Fatalf("Missing of an empty part: %d, %d", off, n)
	}
	wantKind(t, p.Complete(context.Background(), Digest{}, nil), model.Invalid)
	write(t, p, data, 2*bs, 4*bs)
	write(t, p, data, 5*bs, 6*bs)
	if off, n := p.Missing(2 * bs); off != 4*bs || n != bs {
		t.Fatalf("Missing in the middle: %d, %d", off, n)
	}
	if p.Present() != 2*bs+100 || !p.Has(2*bs+5, 2*bs-5) || p.Has(bs, 2*bs) || !p.Has(5*bs, 1<<40) {
		t.Fatalf("present %d", p.Present())
	}
	write(t, p, data, 0, 6*bs) // the present blocks are skipped
	if err := p.Complete(context.Background(), Digest{GitSHA1: gitHex(data)}, []Link{link}); err != nil {
		t.Fatal(err)
	}

	got := make([]byte, len(data)+10)
	if n, err := p.ReadAt(got, 0); n != len(data) || err != nil || !bytes.Equal(got[:n], data) {
		t.Fatalf("read after completion: %d, %v", n, err)
	}
	wantBlob(t, s, key, data)
	wantBlob(t, s, contentKey(data), data)
	wantKind(t, p.WriteAt(data[:bs], 0), model.Invalid)
	if diff := cmp.Diff([]string{}, append([]string{}, tree(t, s, fillsDir)...)); diff != "" {
		t.Error("fills:", diff)
	}
	want := []string{"hub:https:%2F%2Fhf.test", "hub:https:%2F%2Fhf.test/org", "hub:https:%2F%2Fhf.test/org/repo",
		"hub:https:%2F%2Fhf.test/org/repo/abc", "hub:https:%2F%2Fhf.test/org/repo/abc/sub", "hub:https:%2F%2Fhf.test/org/repo/abc/sub/model.gguf"}
	if diff := cmp.Diff(want, tree(t, s, namesDir)); diff != "" {
		t.Error("models:", diff)
	}
	if u := s.Usage(); u.Blobs != 1 || u.Parts != 0 || u.Used != int64(len(data)) || u.Reserved != 0 {
		t.Errorf("usage %+v", u)
	}
}

func TestWriteAtRejectsWhatIsNoBlock(t *testing.T) {
	s := newStore(t)
	size := int64(3*bs + 10)
	p := openPart(t, s, PartID{Key: "at-x"}, size)
	grows := openPart(t, s, PartID{Key: "at-y"}, -1)
	for _, c := range []struct {
		name string
		p    *Part
		off  int64
		n    int
		ok   bool
	}{
		{"nothing", p, 5, 0, true},
		{"unaligned offset", p, 5, bs, false},
		{"negative offset", p, -bs, bs, false},
		{"short in the middle", p, 0, 10, false},
		{"past the end", p, 3 * bs, bs, false},
		{"far past the end", p, 1 << 40, bs, false},
		{"short of the end", p, 3 * bs, 9, false},
		{"to the end", p, 2 * bs, bs + 10, true},
		{"unknown size, short", grows, 0, 10, false},
		{"unknown size, blocks", grows, 4 * bs, 2 * bs, true},
		{"unknown size, too far", grows, maxPartSize, bs, false},
	} {
		err := c.p.WriteAt(make([]byte, c.n), c.off)
		if c.ok != (err == nil) || err != nil && !model.IsKind(err, model.Invalid) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if p.Present() != bs+10 || grows.Present() != 2*bs {
		t.Errorf("present %d and %d", p.Present(), grows.Present())
	}
}

func TestOpenPartChecksItsArguments(t *testing.T) {
	s := newStore(t)
	for _, c := range []struct {
		name string
		id   PartID
		size int64
		kind model.Kind
	}{
		{"no key", PartID{}, 1, model.Invalid},
		{"a path as the key", PartID{Key: "../x"}, 1, model.Invalid},
		{"a long source", PartID{Key: "at-x", Source: string(make([]byte, maxSource+1))}, 1, model.Invalid},
		{"a negative size", PartID{Key: "at-x"}, -2, model.Invalid},
		{"a hostile size", PartID{Key: "at-x"}, 1 << 62, model.NoSpace},
	} {
		_, err := s.OpenPart(c.id, c.size)
		if !model.IsKind(err, c.kind) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	id := PartID{Key: "at-x", Source: "a"}
	openPart(t, s, id, 10)
	_, err := s.OpenPart(id, 10)
	wantKind(t, err, model.InUse)
	openPart(t, s, PartID{Key: "at-x", Source: "b"}, 10) // another source's is another part
	if got := len(tree(t, s, fillsDir)); got != 4 {
		t.Errorf("%d files in fills, want 4", got)
	}
}

func TestUnknownSize(t *testing.T) {
	s := newStore(t)
	data := pattern(2, 2*bs+7)
	p := openPart(t, s, PartID{Key: "at-x"}, -1)
	write(t, p, data, 0, 2*bs)
	if p.Size() != -1 || !p.Fits() || !p.Has(0, 2*bs) || p.Has(0, 2*bs+1) {
		t.Fatalf("size %d", p.Size())
	}
	if off, n := p.Missing(0); off != 2*bs || n != maxPartSize-2*bs {
		t.Fatalf("Missing: %d, %d", off, n)
	}
	wantKind(t, p.Complete(context.Background(), Digest{}, nil), model.Invalid)
	wantKind(t, p.SetSize(bs), model.Invalid)
	if err := p.SetSize(2*bs + 7); err != nil {
		t.Fatal(err)
	}
	if err := p.SetSize(2*bs + 7); err != nil {
		t.Fatal("stating it again:", err)
	}
	wantKind(t, p.SetSize(3*bs), model.Invalid)
	write(t, p, data, 2*bs, 3*bs)
	if err := p.Complete(context.Background(), Digest{SHA256: sha256Hex(data)}, nil); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, "at-x", data)
}

func TestUnknownSizeIsResumed(t *testing.T) {
	s := newStore(t)
	data := pattern(2, 3*bs)
	id := PartID{Key: "at-x"}
	p := openPart(t, s, id, -1)
	write(t, p, data, 0, 2*bs)
	closePart(t, p)
	s = reopen(t, s)
	p = openPart(t, s, id, -1)
	if p.Present() != 2*bs || p.Size() != -1 {
		t.Fatalf("present %d of %d", p.Present(), p.Size())
	}
	if err := p.SetSize(3 * bs); err != nil {
		t.Fatal(err)
	}
	closePart(t, p)
	p = openPart(t, s, id, -1) // a caller who does not know the size gets it
	if p.Present() != 2*bs || p.Size() != 3*bs {
		t.Fatalf("present %d of %d", p.Present(), p.Size())
	}
}

// The length of what is here, in whatever way, is known without opening it, and
// at no moment between being kept and being open is it not.
func TestSizeOfWhatIsHere(t *testing.T) {
	s := newStore(t)
	data := pattern(2, 3*bs)
	id, unknown := PartID{Key: "at-x", Source: "a"}, PartID{Key: "at-x", Source: "b"}
	check := func(when string, id PartID, want int64) {
		t.Helper()
		if n := s.Size(id); n != want {
			t.Errorf("%s: size %d, want %d", when, n, want)
		}
	}
	check("before", id, -1)
	p := openPart(t, s, id, -1)
	check("not stated", id, -1)
	if err := p.SetSize(3 * bs); err != nil {
		t.Fatal(err)
	}
	check("stated", id, 3*bs)
	write(t, p, data, 0, 2*bs)
	closePart(t, p)
	check("closed", id, 3*bs)
	s = reopen(t, s)
	check("after a restart", id, 3*bs)
	check("of another source", unknown, -1)
	if err := s.takeBase(id.base(), id); err != nil {
		t.Fatal(err)
	}
	check("while it is being opened", id, 3*bs)
	s.mu.Lock()
	delete(s.open, id.base())
	s.mu.Unlock()
	p = openPart(t, s, id, -1)
	check("open", id, 3*bs)
	write(t, p, data, 2*bs, 3*bs)
	if err := p.Complete(t.Context(), Digest{}, nil); err != nil {
		t.Fatal(err)
	}
	closePart(t, p)
	check("complete", id, 3*bs)
	check("complete, of any source", unknown, 3*bs)
}

func TestEmptyFile(t *testing.T) {
	s := newStore(t)
	p := openPart(t, s, PartID{Key: "at-empty"}, 0)
	if _, n := p.Missing(0); n != 0 || !p.Has(0, 10) {
		t.Fatal("an empty file misses something")
	}
	if err := p.Complete(context.Background(), Digest{GitSHA1: gitHex(nil)}, nil); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, contentKey(nil), nil)
}

func TestReadAtGivesOnlyWhatIsPresent(t *testing.T) {
	s := newStore(t)
	data := pattern(3, 3*bs+5)
	p := openPart(t, s, PartID{Key: "at-x"}, int64(len(data)))
	write(t, p, data, bs, 2*bs)
	write(t, p, data, 3*bs, 4*bs)
	for _, c := range []struct {
		off int64
		n   int
		ok  bool
		got int
	}{
		{bs, bs, true, bs}, {bs + 7, 9, true, 9}, {0, 1, false, 0}, {bs, bs + 1, false, 0}, {2*bs - 1, 2, false, 0},
		{3 * bs, 100, true, 5}, {3*bs + 5, 100, true, 0}, {1 << 50, 1, true, 0}, {-1, 1, false, 0}, {0, 0, true, 0},
	} {
		b := make([]byte, c.n)
		n, err := p.ReadAt(b, c.off)
		if n != c.got || (err == nil) != c.ok {
			t.Errorf("ReadAt(%d, %d) = %d, %v", c.off, c.n, n, err)
		}
		if err != nil && c.off >= 0 && !errors.Is(err, ErrMissing) {
			t.Errorf("ReadAt(%d, %d): %v does not wrap ErrMissing", c.off, c.n, err)
		}
		if n > 0 && !bytes.Equal(b[:n], data[c.off:c.off+int64(n)]) {
			t.Errorf("ReadAt(%d, %d): other bytes", c.off, c.n)
		}
	}
}

// The second writer of a block must not change what the first one's hash was
// computed from.
func TestAPresentBlockIsNeverWrittenAgain(t *testing.T) {
	s := newStore(t)
	data, other := pattern(4, 64*bs), pattern(5, 64*bs)
	p := openPart(t, s, PartID{Key: "at-x"}, int64(len(data)))
	var wg sync.WaitGroup
	for _, d := range [][]byte{data, other} {
		for from := int64(0); from < 64; from += 4 {
			wg.Go(func() {
				if err := p.WriteAt(d[from*bs:(from+4)*bs], from*bs); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	got, _ := p.digest(context.Background())
	b := make([]byte, len(data))
	if _, err := p.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if got.SHA256 != sha256Hex(b) {
		t.Fatal("the hash is not that of the bytes on disk")
	}
	for from := 0; from < 64; from++ {
		blk := b[from*bs : (from+1)*bs]
		if !bytes.Equal(blk, data[from*bs:(from+1)*bs]) && !bytes.Equal(blk, other[from*bs:(from+1)*bs]) {
			t.Fatalf("block %d is a mixture", from)
		}
	}
}

func TestTheSecondWriterOfABlockWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		first, second := pattern(4, 3*bs), pattern(5, 3*bs)
		p := openPart(t, s, PartID{Key: "at-x"}, 3*bs)
		gen, err := p.beginWrite(span{0, 2}, 0, 2*bs)
		if err != nil {
			t.Fatal(err)
		}
		done := false
		go func() {
			if err := p.WriteAt(second[bs:], bs); err != nil {
				t.Error(err)
			}
			done = true
		}()
		write(t, p, first, 2*bs, 2*bs) // nothing, and it does not overlap
		synctest.Wait()
		if done || p.Present() != 0 {
			t.Fatalf("the second writer did not wait: present %d", p.Present())
		}
		if err := p.writeRun(span{0, 2}, first[:2*bs], gen); err != nil {
			t.Fatal(err)
		}
		p.endWrite(span{0, 2})
		synctest.Wait()
		got := make([]byte, 3*bs)
		if _, err := p.ReadAt(got, 0); err != nil || !done {
			t.Fatal(err)
		}
		if !bytes.Equal(got, append(bytes.Clone(first[:2*bs]), second[2*bs:]...)) {
			t.Fatal("a block that was present was written again")
		}
	})
}

func TestMismatchIsCorruptAndDiscardStartsOver(t *testing.T) {
	s := newStore(t)
	data := pattern(6, 2*bs)
	for name, want := range map[string]Digest{"sha256": {SHA256: sha256Hex(nil)}, "git": {GitSHA1: gitHex(nil)}} {
		id := PartID{Key: model.Key("at-" + name)}
		p := openPart(t, s, id, 2*bs)
		write(t, p, data, 0, 2*bs)
		err := p.Complete(context.Background(), want, nil)
		wantKind(t, err, model.Corrupt)
		if s.Has(id.Key) || s.Has(contentKey(data)) {
			t.Fatal("corrupt content became a blob")
		}
		if err := p.Discard(); err != nil {
			t.Fatal(err)
		}
		if p.Has(0, 1) || p.Present() != 0 {
			t.Error("a discarded part has bytes")
		}
		again := openPart(t, s, id, 2*bs) // while the failed attempt is still open
		if again.Present() != 0 {
			t.Error("the next attempt has the bytes of the failed one")
		}
		write(t, again, data, 0, bs)
		closePart(t, p)
		if again.Present() != bs {
			t.Error("closing the failed attempt touched the next one")
		}
		closePart(t, again)
	}
}

func TestCompleteEndsWithItsContext(t *testing.T) {
	s := newStore(t)
	data := pattern(7, 2*bs)
	p := openPart(t, s, PartID{Key: "at-x"}, 2*bs)
	write(t, p, data, 0, 2*bs)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := p.Complete(ctx, Digest{}, nil)
	if err != nil { // it may have been done before it looked
		wantKind(t, err, model.Interrupted)
		if err := p.Complete(context.Background(), Digest{}, nil); err != nil {
			t.Fatal("the second try:", err)
		}
	}
	wantBlob(t, s, "at-x", data)
}

func TestOnePartForTheSameContentOfTwoSources(t *testing.T) {
	s := newStore(t)
	data := pattern(8, 3*bs)
	ids := []PartID{{Key: "at-a", Source: "a"}, {Key: "at-b", Source: "b"}, {Key: contentKey(data), Source: "b"}}
	var wg sync.WaitGroup
	for _, id := range ids {
		p := openPart(t, s, id, int64(len(data)))
		write(t, p, data, 0, int64(len(data)))
		wg.Go(func() {
			if err := p.Complete(context.Background(), Digest{SHA256: sha256Hex(data)}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		wantBlob(t, s, id.Key, data)
	}
	if u := s.Usage(); u.Blobs != 1 || u.Used != int64(len(data)) {
		t.Errorf("usage %+v: the content is there more than once", u)
	}
}

func TestOnceIsNotResumed(t *testing.T) {
	s := newStore(t)
	data := pattern(9, 2*bs)
	id := PartID{Key: model.OnceKey()}
	p := openPart(t, s, id, 2*bs)
	write(t, p, data, 0, bs)
	closePart(t, p)
	if got := tree(t, s, fillsDir); len(got) != 0 {
		t.Fatalf("left in fills: %v", got)
	}
	store(t, s, id.Key, data)
	wantBlob(t, s, id.Key, data)
	s = reopen(t, s)
	if s.Has(id.Key) || !s.Has(contentKey(data)) {
		t.Error("after a restart: want the alias and not the key")
	}
}

// A process that is killed between the last sync and the link leaves a part
// that is read-only; a user without rights must be able to go on with it.
func TestAPartThatWasSealedIsResumed(t *testing.T) {
	s := newStore(t)
	data := pattern(1, 3*bs)
	p := openPart(t, s, PartID{Key: key(0)}, 3*bs)
	write(t, p, data, 0, 3*bs)
	if err := p.do(context.Background(), p.seal); err != nil {
		t.Fatal(err)
	}
	closePart(t, p)
	const nobody = 65534
	err := filepath.WalkDir(s.dir, func(name string, _ iofs.DirEntry, err error) error {
		if err == nil && os.Geteuid() == 0 {
			err = os.Chown(name, nobody, -1)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	present := make(chan int64)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if os.Geteuid() == 0 {
			_ = unix.Setfsuid(nobody) // takes the right to open anything along
		}
		p, err := s.OpenPart(PartID{Key: key(0)}, 3*bs)
		if err != nil {
			t.Error(err)
			close(present)
			return
		}
		present <- p.Present()
		_ = p.Close()
		close(present)
	}()
	if n := <-present; n != 3*bs {
		t.Errorf("%d of %d bytes are there for the next process", n, 3*bs)
	}
	<-present
}
