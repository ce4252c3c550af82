package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// budgetStore is a store that may hold so many blocks.
func budgetStore(t *testing.T, blocks int64) *Store {
	t.Helper()
	return openStore(t, t.TempDir(), Options{MaxSize: blocks * bs}, roomy())
}

func key(i int) model.Key { return model.Key(fmt.Sprintf("at-%d", i)) }

// blob stores a blob of so many blocks under key(i).
func blob(t *testing.T, s *Store, i, blocks int, links ...Link) []byte {
	t.Helper()
	data := pattern(uint64(100+i), blocks*bs)
	store(t, s, key(i), data, links...)
	return data
}

func wantHas(t *testing.T, s *Store, want ...int) {
	t.Helper()
	var got []int
	for i := range 20 {
		if s.Has(key(i)) {
			got = append(got, i)
			wantBlobSize(t, s, key(i))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("here are %v, want %v", got, want)
	}
}

// wantBlobSize checks that the index tells the truth, without counting as a use.
func wantBlobSize(t *testing.T, s *Store, key model.Key) {
	t.Helper()
	if _, err := os.Stat(s.path(blobName(key))); err != nil {
		t.Error(err)
	}
}

func use(t *testing.T, s *Store, i int) *Blob {
	t.Helper()
	b, err := s.OpenBlob(key(i))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestLeastRecentlyOpenedGoesFirst(t *testing.T) {
	s := budgetStore(t, 10)
	for i := range 5 {
		blob(t, s, i, 2)
	}
	for _, i := range []int{3, 0, 4} {
		_ = use(t, s, i).Close()
	}
	s = reopen(t, s) // the order outlives the process
	wantHas(t, s, 0, 1, 2, 3, 4)
	blob(t, s, 5, 1)
	wantHas(t, s, 0, 2, 3, 4, 5)
	blob(t, s, 6, 4)
	wantHas(t, s, 0, 4, 5, 6)
	if u := s.Usage(); u.Used > u.Budget || u.Budget != 10*bs {
		t.Errorf("usage %+v", u)
	}
}

func TestOpenPinnedAndFillingStay(t *testing.T) {
	s := budgetStore(t, 10)
	for i := range 3 {
		blob(t, s, i, 2)
	}
	held := use(t, s, 0)
	if err := s.Pin(contentKey(pattern(101, 2*bs))); err != nil { // by its alias
		t.Fatal(err)
	}
	filling := openPart(t, s, PartID{Key: key(9)}, 4*bs)
	write(t, filling, pattern(9, 4*bs), 0, bs)
	if !filling.Fits() {
		t.Fatal("4 of 10 blocks are free, and it does not fit")
	}
	big := openPart(t, s, PartID{Key: key(10)}, 3*bs)
	if big.Fits() {
		t.Error("a part fits that only has 2 blocks to gain")
	}
	wantHas(t, s, 0, 1, 2) // nothing was evicted for it
	small := openPart(t, s, PartID{Key: key(11)}, 2*bs)
	if !small.Fits() {
		t.Error("a part of 2 blocks does not fit")
	}
	wantHas(t, s, 0, 1)
	_ = held.Close()
	if err := s.Unpin(key(1)); err != nil { // by another of its keys
		t.Fatal(err)
	}
	blob(t, s, 12, 4)
	wantHas(t, s, 12)
	if u := s.Usage(); u.Reserved != 3*bs+2*bs || u.Parts != 3 {
		t.Errorf("usage %+v", u)
	}
}

func TestAPartThatDoesNotFitTakesWhatIsFree(t *testing.T) {
	s := budgetStore(t, 4)
	blob(t, s, 0, 2)
	p := openPart(t, s, PartID{Key: key(1)}, 5*bs)
	if p.Fits() {
		t.Fatal("5 blocks fit into 4")
	}
	data := pattern(1, 5*bs)
	write(t, p, data, 0, 2*bs)
	wantKind(t, p.WriteAt(data[2*bs:3*bs], 2*bs), model.NoSpace)
	wantHas(t, s, 0)
	if p.Present() != 2*bs {
		t.Errorf("present %d", p.Present())
	}
}

func TestAPartOfUnknownSizeEvictsAsItGrows(t *testing.T) {
	s := budgetStore(t, 6)
	blob(t, s, 0, 2)
	blob(t, s, 1, 2)
	p := openPart(t, s, PartID{Key: key(2)}, -1)
	data := pattern(2, 7*bs)
	write(t, p, data, 0, 2*bs)
	wantHas(t, s, 0, 1)
	write(t, p, data, 2*bs, 3*bs)
	wantHas(t, s, 1)
	write(t, p, data, 3*bs, 6*bs)
	wantHas(t, s)
	wantKind(t, p.WriteAt(data[6*bs:], 6*bs), model.NoSpace)
}

func TestIdlePartsGoByTheirLastWrite(t *testing.T) {
	s := budgetStore(t, 8)
	blob(t, s, 0, 2)
	p := openPart(t, s, PartID{Key: key(1)}, 4*bs)
	write(t, p, pattern(1, 4*bs), 0, 2*bs)
	closePart(t, p)
	blob(t, s, 2, 2)
	blob(t, s, 3, 4) // evicts blob 0, the oldest
	wantHas(t, s, 2, 3)
	if u := s.Usage(); u.Parts != 1 {
		t.Fatalf("usage %+v", u)
	}
	blob(t, s, 4, 2) // evicts the part
	wantHas(t, s, 2, 3, 4)
	if got := tree(t, s, fillsDir); len(got) != 0 {
		t.Fatalf("left in fills: %v", got)
	}
}

func TestEvictionTakesAllNamesAndNoDescriptor(t *testing.T) {
	s := budgetStore(t, 4)
	link := Link{Source: "hub:test", Repo: "o/r", Revision: "c", Path: "d/f"}
	data := blob(t, s, 0, 4, link)
	if err := s.Link(key(0), Link{Source: "router:test", Repo: "x", Path: "f"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // with the names from memory, and as the next start finds them
		b := use(t, s, 0)
		f, err := os.Open(b.File().Name())
		if err != nil {
			t.Fatal(err)
		}
		_ = b.Close()
		blob(t, s, 1, 4)
		wantHas(t, s, 1)
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink != 0 {
			t.Errorf("the evicted file still has %d names: %v", st.Nlink, err)
		}
		got := make([]byte, len(data))
		if _, err := f.ReadAt(got, 0); err != nil || sha256Hex(got) != sha256Hex(data) {
			t.Errorf("an open descriptor lost its data: %v", err)
		}
		_ = f.Close()
		if names := tree(t, s, namesDir); len(names) != 0 {
			t.Errorf("left in models: %v", names)
		}
		if err := s.Remove(key(1)); err != nil {
			t.Fatal(err)
		}
		blob(t, s, 0, 4, link)
		s = reopen(t, s)
	}
}

func TestATenthOfTheDiskStaysFree(t *testing.T) {
	sys := testSystem(0, 100*bs)
	used := int64(0)
	s := openStore(t, t.TempDir(), Options{}, sys)
	s.sys.space = func(*os.File) (int64, int64, error) { return 16*bs - used, 100 * bs, nil }
	blob(t, s, 0, 4)
	used = 4 * bs
	if u := s.Usage(); u.Budget != 6*bs || u.Free != 12*bs {
		t.Fatalf("usage %+v", u)
	}
	p := openPart(t, s, PartID{Key: key(1)}, 7*bs)
	if p.Fits() {
		t.Error("7 blocks fit, though 2 are free above the tenth and 4 can be evicted")
	}
	closePart(t, p)
	p = openPart(t, s, PartID{Key: key(2)}, 6*bs)
	if !p.Fits() {
		t.Error("6 blocks don't fit")
	}
	wantHas(t, s)
}

func TestASmallerBudgetTrimsAtTheStart(t *testing.T) {
	s := budgetStore(t, 10)
	for i := range 5 {
		blob(t, s, i, 2)
	}
	s.opt.MaxSize = 5 * bs
	s = reopen(t, s)
	wantHas(t, s, 3, 4)
}

// TestALittleTooMuchIsKept: the filesystem's own blocks are no reason to drop a
// model at the start.
func TestALittleTooMuchIsKept(t *testing.T) {
	s := budgetStore(t, 10)
	for i := range 5 {
		blob(t, s, i, 2)
	}
	s.opt.MaxSize = 10*bs - bs/8
	s = reopen(t, s)
	wantHas(t, s, 0, 1, 2, 3, 4)
	s.opt.MaxSize = 10*bs - bs/4
	s = reopen(t, s)
	wantHas(t, s, 1, 2, 3, 4)
}

func TestPinsOutliveTheProcess(t *testing.T) {
	s := budgetStore(t, 4)
	if err := s.Pin(key(0)); err != nil { // before it is here
		t.Fatal(err)
	}
	wantKind(t, s.Pin("../x"), model.Invalid)
	blob(t, s, 0, 3)
	s = reopen(t, s)
	if u := s.Usage(); u.Pinned != 1 {
		t.Fatalf("usage %+v", u)
	}
	if p := openPart(t, s, PartID{Key: key(1)}, 2*bs); p.Fits() {
		t.Error("a pinned blob was to be evicted")
	}
	wantKind(t, s.Remove(key(0)), model.Denied)
	if err := s.Unpin(key(0)); err != nil {
		t.Fatal(err)
	}
	s2 := s
	if err := s2.Remove(key(0)); err != nil {
		t.Fatal(err)
	}
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	data := blob(t, s, 0, 2)
	b := use(t, s, 0)
	wantKind(t, s.Remove(key(0)), model.InUse)
	wantKind(t, s.Remove(contentKey(data)), model.InUse)
	_ = b.Close()
	_ = b.Close() // twice is once
	if err := s.Remove(contentKey(data)); err != nil {
		t.Fatal(err)
	}
	wantHas(t, s)
	wantKind(t, s.Remove(key(0)), model.NotFound)

	p := openPart(t, s, PartID{Key: key(1), Source: "a"}, 2*bs)
	wantKind(t, s.Remove(key(1)), model.InUse)
	write(t, p, data, 0, bs)
	closePart(t, p)
	if err := s.Remove(key(1)); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, s, fillsDir); len(got) != 0 {
		t.Fatalf("left in fills: %v", got)
	}
	if u := s.Usage(); u.Used != 0 || u.Blobs != 0 || u.Parts != 0 {
		t.Errorf("usage %+v", u)
	}
}

// smallDisk mounts a tmpfs of so many bytes.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatalf("mount a tmpfs (it takes root): %v", err)
	}
	t.Cleanup(func() {
		if unix.Unmount(dir, 0) != nil {
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

func TestAFullDisk(t *testing.T) {
	dir := smallDisk(t, 8<<20)
	s := openStore(t, dir, Options{}, roomy()) // space looks plentiful: the disk has to say it
	for i := range 3 {
		blob(t, s, i, 32) // 6 MiB of 8
	}
	held := use(t, s, 1)
	data := pattern(7, 5<<20)
	p := openPart(t, s, PartID{Key: key(7)}, int64(len(data)))
	for off := int64(0); off < int64(len(data)); off += 16 * bs {
		write(t, p, data, off, off+16*bs)
	}
	wantHas(t, s, 1) // both others had to go
	if err := p.Complete(context.Background(), Digest{SHA256: sha256Hex(data)}, nil); err != nil {
		t.Fatal(err)
	}
	closePart(t, p)
	wantBlob(t, s, key(7), data)

	if err := s.Pin(key(7)); err != nil {
		t.Fatal(err)
	}
	q := openPart(t, s, PartID{Key: key(8)}, 4<<20)
	err := q.WriteAt(make([]byte, 4<<20), 0)
	wantKind(t, err, model.NoSpace)
	if q.Present() != 0 {
		t.Errorf("%d bytes of a failed write are present", q.Present())
	}
	_ = held.Close()
	if err := q.WriteAt(make([]byte, 2<<20), 0); err != nil { // blob 1 can go now
		t.Fatal(err)
	}
	wantHas(t, s, 7)
}

func TestAReadOnlyDisk(t *testing.T) {
	dir := smallDisk(t, 8<<20)
	s := openStore(t, dir, Options{}, roomy())
	data := blob(t, s, 0, 2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.lock = nil
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := open(dir, s.opt, roomy())
	wantKind(t, err, model.Denied)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Options{}, roomy())
	wantBlob(t, s, key(0), data)
}

// readOnly makes a directory of the backing dir take no new files, until the
// result is called.
func readOnly(t *testing.T, s *Store, name string) (writable func()) {
	t.Helper()
	dir := s.path(name)
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY} {
		if err := unix.Mount(dir, dir, "", flags, ""); err != nil {
			t.Fatalf("mount (it takes root): %v", err)
		}
	}
	writable = sync.OnceFunc(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	t.Cleanup(writable)
	return writable
}

// A part whose files can't be made has nothing and takes nothing, and is a part
// like any other once they can.
func TestAPartWithoutFiles(t *testing.T) {
	data := pattern(1, 5*bs)
	for name, size := range map[string]int64{"of known size": 5 * bs, "of unknown size": -1} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			id := PartID{Key: key(0), Source: "hub:test"}
			earlier := openPart(t, s, id, 5*bs)
			write(t, earlier, data, 0, bs)
			closePart(t, earlier)
			writable := readOnly(t, s, fillsDir)
			p := openPart(t, s, id, size)
			if p.Fits() || p.Refit() || p.Present() != 0 || p.Has(0, 1) {
				t.Errorf("fits %v, present %d", p.Fits(), p.Present())
			}
			wantKind(t, p.WriteAt(data[:bs], 0), model.Denied)
			if _, err := p.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrMissing) {
				t.Errorf("read: %v", err)
			}
			if size < 0 {
				if err := p.SetSize(5 * bs); err != nil {
					t.Fatal(err)
				}
			}
			wantKind(t, p.Complete(context.Background(), Digest{}, nil), model.Invalid)
			closePart(t, p)
			if u := s.Usage(); u.Parts != 1 || u.Used == 0 {
				t.Errorf("what was there before is not known any more: %+v", u)
			}
			p = openPart(t, s, id, size)
			if size < 0 {
				if err := p.SetSize(5 * bs); err != nil {
					t.Fatal(err)
				}
			}
			writable()
			var writers sync.WaitGroup
			for b := range int64(5) {
				writers.Go(func() { write(t, p, data, b*bs, (b+1)*bs) })
			}
			writers.Wait()
			if !p.Refit() || s.Usage().Reserved != 0 {
				t.Errorf("does not fit: %+v", s.Usage())
			}
			if err := p.Complete(context.Background(), Digest{SHA256: sha256Hex(data)}, nil); err != nil {
				t.Fatal(err)
			}
			closePart(t, p)
			wantBlob(t, s, key(0), data)
			if got := tree(t, s, fillsDir); len(got) != 0 {
				t.Errorf("left in fills: %v", got)
			}
		})
	}
}

// A part that had no room asks again.
func TestAPartMayFitLater(t *testing.T) {
	s := budgetStore(t, 6)
	blob(t, s, 0, 4)
	held := use(t, s, 0)
	p := openPart(t, s, PartID{Key: key(1)}, 5*bs)
	if p.Fits() || p.Refit() {
		t.Fatal("5 blocks fit beside 4 of 6")
	}
	_ = held.Close()
	if !p.Refit() || !p.Fits() || !p.Refit() {
		t.Error("5 blocks don't fit into 6")
	}
	wantHas(t, s)
	closePart(t, p)
	if p.Refit() != p.Fits() {
		t.Error("a closed part asks again")
	}
}

func TestParallelFillsNeverExceedTheBudget(t *testing.T) {
	s := budgetStore(t, 20)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 8 {
				data := pattern(uint64(w*100+i), 4*bs)
				p, err := s.OpenPart(PartID{Key: key(w*100 + i)}, 4*bs)
				if err != nil {
					t.Error(err)
					return
				}
				if p.Fits() {
					if err := p.WriteAt(data, 0); err != nil {
						t.Error(err)
					}
					if err := p.Complete(context.Background(), Digest{SHA256: sha256Hex(data)}, nil); err != nil {
						t.Error(err)
					}
				}
				if u := s.Usage(); u.Used > u.Budget {
					t.Errorf("usage %+v", u)
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	u := s.Usage()
	if u.Used > u.Budget || u.Reserved != 0 || u.Parts != len(s.idle) {
		t.Errorf("usage %+v", u)
	}
	var onDisk int64
	for _, n := range tree(t, s, blobsDir) {
		fi, err := os.Stat(s.path(blobsDir + "/" + n))
		if err != nil {
			t.Fatal(err)
		}
		onDisk += fi.Size() / 2 // each has two keys
	}
	if onDisk != u.Used {
		t.Errorf("%d bytes on disk, counted are %d", onDisk, u.Used)
	}
}

// Writers of parts that were promised nothing ask one by one for what they
// store: together they fill the budget and no more.
func TestParallelWritersNeverExceedTheBudget(t *testing.T) {
	s := budgetStore(t, 10)
	p := openPart(t, s, PartID{Key: key(0)}, 40*bs)
	asked := s.sys.space
	var together, wg sync.WaitGroup
	together.Add(8)
	s.sys.space = func(dir *os.File) (int64, int64, error) { // all of them ask before anyone has stored
		together.Done()
		together.Wait()
		return asked(dir)
	}
	var stored atomic.Int64
	for i := range int64(8) {
		wg.Go(func() {
			switch err := p.WriteAt(pattern(1, 3*bs), 3*i*bs); {
			case err == nil:
				stored.Add(3)
			case !model.IsKind(err, model.NoSpace):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.sys.space = asked
	if u := s.Usage(); u.Used > u.Budget || u.Used != stored.Load()*bs || stored.Load() != 9 {
		t.Errorf("%d blocks were stored, usage %+v", stored.Load(), u)
	}
	if err := p.WriteAt(pattern(1, bs), 30*bs); err != nil {
		t.Errorf("the last block of the budget: %v", err)
	}
}

// What can't be removed is passed over, and nothing waits for it: not the
// start with a smaller budget, not a write to a full disk.
func TestWhatCannotBeRemovedIsPassedOver(t *testing.T) {
	s := budgetStore(t, 10)
	for i := range 3 {
		blob(t, s, i, 3)
	}
	fixed := s.path(blobName(key(0)))
	if err := unix.Mount(fixed, fixed, "", unix.MS_BIND, ""); err != nil { // a mount point can't be removed
		t.Fatalf("bind a file (it takes root): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(fixed, unix.MNT_DETACH) })
	s.opt.MaxSize = 4 * bs
	s = reopen(t, s)
	wantHas(t, s, 0)
	if s.evictOne() {
		t.Error("a file that can't be removed is said to be gone")
	}
	wantHas(t, s, 0)
}

// Where the clock was set back, what is used now is still the last to go: the
// order is that of the uses, in this process and in the next.
func TestTheOrderOutlivesAClockThatIsSetBack(t *testing.T) {
	s := budgetStore(t, 10)
	for i := range 4 {
		blob(t, s, i, 2)
	}
	ahead := s.sys.now
	s.sys.now = func() time.Time { return ahead().Add(-9 * time.Hour) }
	s = reopen(t, s)
	_ = use(t, s, 0).Close()
	p := openPart(t, s, PartID{Key: key(4)}, 4*bs)
	write(t, p, pattern(4, 4*bs), 0, 2*bs)
	if err := os.Chtimes(s.path(fillName(p.base)), time.Time{}, s.sys.now()); err != nil { // as the kernel would
		t.Fatal(err)
	}
	closePart(t, p)
	s = reopen(t, s)
	blob(t, s, 5, 6)
	wantHas(t, s, 0, 5)
	if u := s.Usage(); u.Parts != 1 {
		t.Errorf("the part that grew last was evicted: %+v", u)
	}
}
