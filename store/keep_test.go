package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/model"
)

func TestSyncedOnceASecondAndOnlyForNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var syncs atomic.Int64
		sys := roomy()
		sys.datasync = func(f *os.File) error { syncs.Add(1); return nil }
		s := openStore(t, t.TempDir(), Options{}, sys)
		p := openPart(t, s, PartID{Key: key(0)}, 64*bs)
		data := pattern(1, 64*bs)
		after := func(d time.Duration, want int64, what string) {
			t.Helper()
			<-time.After(d)
			synctest.Wait()
			if got := syncs.Load(); got != want {
				t.Fatalf("%s: %d syncs, want %d", what, got, want)
			}
		}
		after(time.Minute, 0, "idle")
		for i := int64(0); i < 10; i++ {
			write(t, p, data, i*bs, (i+1)*bs)
			<-time.After(50 * time.Millisecond)
		}
		after(400*time.Millisecond, 0, "within the second")
		after(200*time.Millisecond, 2, "after it") // the data and the record
		after(time.Minute, 2, "idle again")
		write(t, p, data, 20*bs, 21*bs)
		after(1100*time.Millisecond, 4, "after one more write")
		closePart(t, p)
		after(0, 4, "closed with nothing new")
	})
}

func TestARecordThatCannotBeSyncedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sys := roomy()
		var fails atomic.Int64
		fails.Store(3)
		sys.datasync = func(f *os.File) error {
			if strings.HasSuffix(f.Name(), ".map") && fails.Add(-1) >= 0 {
				return syscall.ENOSPC
			}
			return nil
		}
		s := openStore(t, t.TempDir(), Options{}, sys)
		p := openPart(t, s, PartID{Key: key(0)}, 2*bs)
		write(t, p, pattern(1, 2*bs), 0, bs)
		<-time.After(4500 * time.Millisecond)
		synctest.Wait()
		if fails.Load() >= 0 || p.Present() != bs || p.rec.last.seq != 1 {
			t.Fatalf("%d tries left, present %d, slot %d", fails.Load(), p.Present(), p.rec.last.seq)
		}
	})
}

// failingSync is a machine whose next data sync fails.
func failingSync(fail *atomic.Bool) system {
	sys := roomy()
	sys.datasync = func(f *os.File) error {
		if fail.CompareAndSwap(true, false) {
			return syscall.EIO
		}
		return datasync(f)
	}
	return sys
}

func TestAFailedSyncForgets(t *testing.T) {
	var fail atomic.Bool
	s := openStore(t, t.TempDir(), Options{}, failingSync(&fail))
	data, other := pattern(1, 6*bs), pattern(2, 6*bs)
	p := openPart(t, s, PartID{Key: key(0)}, 6*bs)
	write(t, p, data, 0, 2*bs)
	if err := p.sync(t); err != nil {
		t.Fatal(err)
	}
	write(t, p, data, 2*bs, 4*bs)
	fail.Store(true)
	wantKind(t, p.sync(t), model.Internal)
	if p.Present() != 2*bs || !p.Has(0, 2*bs) || p.Has(2*bs, 1) {
		t.Fatalf("present %d", p.Present())
	}
	if _, err := p.ReadAt(make([]byte, 10), 2*bs); !errors.Is(err, ErrMissing) {
		t.Fatalf("read of a forgotten block: %v", err)
	}
	f, err := os.Open(s.path(mapName(p.base)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rec, err := readRecord(f, recordLength(6))
	if err != nil || rec.boot != "" || lastBlock(rec.live) != 0 || lastBlock(rec.words) != 2 {
		t.Fatalf("after a crash now it would be believed: %+v, %v", rec, err)
	}
	// What is fetched again may differ; the hash has to be that of the disk.
	write(t, p, other, 2*bs, 6*bs)
	want := append(bytes.Clone(data[:2*bs]), other[2*bs:]...)
	if err := p.Complete(context.Background(), Digest{SHA256: sha256Hex(want)}, nil); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, key(0), want)
}

func TestAWriteDuringAFailedSyncIsNotBelieved(t *testing.T) {
	var fail atomic.Bool
	s := openStore(t, t.TempDir(), Options{}, failingSync(&fail))
	p := openPart(t, s, PartID{Key: key(0)}, 2*bs)
	gen, err := p.beginWrite(span{0, 1}, 0, bs)
	if err != nil {
		t.Fatal(err)
	}
	write(t, p, make([]byte, 2*bs), bs, 2*bs)
	fail.Store(true)
	wantKind(t, p.sync(t), model.Internal)
	err = p.writeRun(span{0, 1}, make([]byte, bs), gen)
	p.endWrite(span{0, 1})
	wantKind(t, err, model.Internal)
	if p.Present() != 0 {
		t.Fatalf("present %d", p.Present())
	}
	write(t, p, make([]byte, 2*bs), 0, 2*bs) // it works again
}

func TestCompleteWhenTheLastSyncFails(t *testing.T) {
	var fail atomic.Bool
	s := openStore(t, t.TempDir(), Options{}, failingSync(&fail))
	data := pattern(1, 2*bs)
	p := openPart(t, s, PartID{Key: key(0)}, 2*bs)
	write(t, p, data, 0, 2*bs)
	fail.Store(true)
	for _, when := range []string{"in Complete", "before it"} {
		err := p.Complete(context.Background(), Digest{}, nil)
		if !errors.Is(err, ErrMissing) || !model.IsKind(err, model.Unavailable) {
			t.Fatalf("a sync failed %s, which has to be told as bytes to be fetched again: %v", when, err)
		}
	}
	if s.Has(key(0)) || p.Present() != 0 {
		t.Fatal("what may be lost is still counted")
	}
	write(t, p, data, 0, 2*bs)
	if err := p.Complete(context.Background(), Digest{SHA256: sha256Hex(data)}, nil); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, key(0), data)
}

func TestTheHashGoesOnWhereItWas(t *testing.T) {
	s := newStore(t)
	data := pattern(1, 6*bs+9)
	id := PartID{Key: key(0)}
	for _, git := range []string{"", gitHex(data)} {
		p := openPart(t, s, id, int64(len(data)))
		p.Expect(Digest{GitSHA1: git})
		write(t, p, data, 0, 4*bs)
		write(t, p, data, 5*bs, 6*bs)
		waitHashed(t, p, 4*bs)
		closePart(t, p)
		p = openPart(t, s, id, int64(len(data)))
		if pos, _ := p.hash.position(p.Size()); pos < 4*bs {
			t.Errorf("hashing starts again at %d", pos)
		}
		write(t, p, data, 0, 7*bs)
		if err := p.Complete(context.Background(), Digest{SHA256: sha256Hex(data), GitSHA1: git}, nil); err != nil {
			t.Fatal(err)
		}
		closePart(t, p)
		if err := s.Remove(id.Key); err != nil {
			t.Fatal(err)
		}
	}
}

// waitHashed waits until the front hasher has come to pos.
func waitHashed(t *testing.T, p *Part, pos int64) {
	t.Helper()
	for {
		_, _, changed, err := p.hash.sum(-1)
		if err != nil {
			t.Fatal(err)
		}
		if at, _ := p.hash.position(p.Size()); at >= pos {
			return
		}
		p.hash.kick()
		<-changed
	}
}

func TestTheGitHashMayBeWantedLate(t *testing.T) {
	s := newStore(t)
	data := pattern(1, 3*bs)
	p := openPart(t, s, PartID{Key: key(0)}, -1)
	p.Expect(Digest{GitSHA1: gitHex(data)}) // it begins with the size, which is not known yet
	write(t, p, data, 0, 2*bs)
	waitHashed(t, p, 2*bs)
	if err := p.SetSize(3 * bs); err != nil {
		t.Fatal(err)
	}
	write(t, p, data, 2*bs, 3*bs)
	if err := p.Complete(context.Background(), Digest{GitSHA1: gitHex(data)}, nil); err != nil {
		t.Fatal(err)
	}

	q := openPart(t, s, PartID{Key: key(1)}, 3*bs)
	write(t, q, data, 0, 3*bs)
	waitHashed(t, q, 3*bs)
	if err := q.Complete(context.Background(), Digest{GitSHA1: gitHex(data)}, nil); err != nil {
		t.Fatal(err)
	}
}

// scriptedSync is a machine on which script decides about each sync of a file
// with that ending; the others succeed.
func scriptedSync(ending string, script func(f *os.File) error) system {
	sys := roomy()
	sys.datasync = func(f *os.File) error {
		if strings.HasSuffix(f.Name(), ending) {
			return script(f)
		}
		return nil
	}
	return sys
}

// A slot that was written and not synced is found by the next process in the
// same boot, so what it names may not be forgotten and written anew.
func TestWhatASlotNamesIsNotForgotten(t *testing.T) {
	failing := ".map"
	sys := roomy()
	sys.datasync = func(f *os.File) error {
		if strings.HasSuffix(f.Name(), failing) {
			return syscall.EIO
		}
		return nil
	}
	s := openStore(t, t.TempDir(), Options{}, sys)
	p := openPart(t, s, PartID{Key: key(0)}, 2*bs)
	write(t, p, make([]byte, 2*bs), 0, bs)
	wantKind(t, p.sync(t), model.Internal)
	write(t, p, make([]byte, 2*bs), bs, 2*bs)
	failing = ".part"
	wantKind(t, p.sync(t), model.Internal)
	if !p.Has(0, bs) || p.Has(bs, bs) {
		t.Fatalf("present %d: want the first block, which a good sync covered, and no other", p.Present())
	}
}

// A stamp of the new boot over old live bits would make them true again.
func TestLiveBitsAreGoneBeforeTheNewBootIsStamped(t *testing.T) {
	s := newStore(t)
	id := PartID{Key: key(0)}
	p := openPart(t, s, id, 2*bs)
	write(t, p, make([]byte, 2*bs), 0, bs)
	closePart(t, p)
	var seen []string
	s.sys.boot = "another boot"
	s.sys.datasync = scriptedSync(".map", func(f *os.File) error {
		rec, err := readRecord(f, recordLength(2))
		if err != nil {
			t.Error(err)
			return nil
		}
		seen = append(seen, rec.boot)
		if lastBlock(rec.live) != 0 {
			t.Error("the live bitmap was not cleared before the sync")
		}
		return nil
	}).datasync
	p = openPart(t, s, id, 2*bs)
	if len(seen) != 1 || seen[0] != testBoot || p.Present() != bs {
		t.Fatalf("boots seen by syncs: %q, present %d", seen, p.Present())
	}
}

// The slot that an earlier process wrote last may not be on the disk. Until it
// is, the one before it has to stay.
func TestTheOlderSlotStaysUntilTheNewerIsOnTheDisk(t *testing.T) {
	s := newStore(t)
	id := PartID{Key: key(0)}
	p := openPart(t, s, id, 4*bs)
	for b := int64(0); b < 2; b++ { // slots 1 and 2
		write(t, p, make([]byte, 4*bs), b*bs, (b+1)*bs)
		if err := p.sync(t); err != nil {
			t.Fatal(err)
		}
	}
	closePart(t, p)
	fail := true
	s.sys.datasync = scriptedSync(".map", func(*os.File) error {
		if fail {
			return syscall.EIO
		}
		return nil
	}).datasync
	p = openPart(t, s, id, 4*bs)
	write(t, p, make([]byte, 4*bs), 2*bs, 3*bs)
	wantKind(t, p.sync(t), model.Internal)
	if got, err := readSlot(p.rec.f, p.rec.hdr, slotOffset(4, 1)); err != nil || got.seq != 1 {
		t.Fatalf("slot 1 was given up: %+v, %v", got, err)
	}
	fail = false
	if err := p.sync(t); err != nil {
		t.Fatal(err)
	}
	if got, err := readSlot(p.rec.f, p.rec.hdr, slotOffset(4, 3)); err != nil || got.seq != 3 || lastBlock(got.words) != 3 {
		t.Fatalf("slot 3: %+v, %v", got, err)
	}
}
