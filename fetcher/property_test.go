package fetcher

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// passing are faults that end: behind them every read has an answer.
var passing = map[string]func(seed uint64) hubtest.Effect{
	"cut":     func(uint64) hubtest.Effect { return hubtest.CutAt(90_000, hubtest.Reset) },
	"clean":   func(uint64) hubtest.Effect { return hubtest.CutAt(200_000, hubtest.CleanClose) },
	"short":   func(uint64) hubtest.Effect { return hubtest.ShortBody(70_000) },
	"stall":   func(uint64) hubtest.Effect { return hubtest.StallAt(100_000) },
	"hang":    func(uint64) hubtest.Effect { return hubtest.Hang() },
	"503":     func(uint64) hubtest.Effect { return hubtest.Status(503, nil, "") },
	"range":   func(uint64) hubtest.Effect { return hubtest.WrongContentRange("bytes 1-2/3") },
	"drip":    func(uint64) hubtest.Effect { return hubtest.DripRate(200_000) },
	"nothing": func(uint64) hubtest.Effect { return hubtest.Delay(0) },
}

// forever is longer, in virtual time, than anything here may take: what hangs
// is then a failure that can be repeated and made smaller.
const forever = time.Hour

// A world is the property test's state: the rig, and what each open reader
// must show.
type world struct {
	*rig
	t        *rapid.T
	contents []hubtest.Content
	view     *model.View
	readers  []model.Reader
	of       []int // the file of each reader
	down     bool
	seen     *sights
}

// sights counts what the random runs really had.
type sights struct{ evictions, crashes, resumed int }

// TestFetcherProperty holds fetcher and store against the plain bytes, under
// random readers, faults, evictions, outages, restarts and crashes: a read gives
// exactly the right bytes, or an error that the situation explains.
func TestFetcherProperty(t *testing.T) {
	var seen sights
	defer func() {
		t.Logf("%+v", seen)
		if !t.Failed() && (seen.evictions == 0 || seen.crashes == 0 || seen.resumed == 0) {
			t.Error("there were no evictions, or no crashes with anything to resume: this test sees nothing")
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) { // hides Deadline, which bubbles forbid
			w := newWorld(t, &seen)
			actions := map[string]func(*rapid.T){
				"open": w.open, "close": w.close, "read": w.reads, "reads": w.reads, "time": w.time,
				"pull": w.pull, "restart": w.restart, "crash": w.crash, "evict": w.evict, "outage": w.outage,
			}
			for range rapid.IntRange(2, 12).Draw(t, "steps") {
				name := rapid.SampledFrom([]string{"open", "open", "close", "read", "reads", "reads", "time", "pull", "pull", "restart", "crash", "evict", "outage"}).Draw(t, "action")
				actions[name](t)
			}
			w.end(t)
		})
	})
}

func newWorld(t *rapid.T, seen *sights) *world {
	budget := rapid.SampledFrom([]int64{24 * mib, 30 * mib, 3 * mib, 0}).Draw(t, "budget")
	touched := rapid.Bool().Draw(t, "touched")
	w := &world{t: t, seen: seen}
	w.rig = newRig(t, inMemory, withMaxSize(budget), withConfig(func(c *Config) { c.Touched = touched }))
	w.hub.SetLatency(time.Duration(rapid.IntRange(0, 80).Draw(t, "latency")) * time.Millisecond)
	w.hub.SetConnRate(rapid.SampledFrom([]int64{0, 2 * mib, 20 * mib}).Draw(t, "rate"), hubtest.AtCDN)
	var files []hubtest.File
	sizes := rapid.OneOf(rapid.SampledFrom([]int64{21*mib + 777, 17 * mib}), rapid.SampledFrom([]int64{0, 1, blockSize, blockSize + 1, mib - 1, 5*mib + 3}))
	for i := range rapid.SampledFrom([]int{3, 2, 1}).Draw(t, "files") {
		size := sizes.Draw(t, "size")
		c := hubtest.Pattern(uint64(i), size)
		w.contents = append(w.contents, c)
		files = append(files, hubtest.File{Path: fmt.Sprintf("m-0000%d-of-00003.gguf", i+1), Content: c, LFS: true})
	}
	w.rig.t = t
	w.view = w.rig.view("org/model", files...)
	if budget > 12*mib && rapid.Bool().Draw(t, "something that may go") {
		v := w.rig.view("org/old", hubtest.File{Path: "old.gguf", Content: hubtest.Pattern(99, 12*mib), LFS: true})
		must(t, w.f.Pull(context.Background(), v, &v.Files[0], nil))
	}
	name := rapid.SampledFrom([]string{"nothing", "cut", "clean", "short", "stall", "hang", "503", "range", "drip"}).Draw(t, "fault")
	w.hub.Fault(atCDN, hubtest.Chance(0.15, 7), passing[name](1))
	return w
}

func (w *world) open(t *rapid.T) {
	i := rapid.IntRange(0, len(w.contents)-1).Draw(t, "file")
	rd, err := w.f.Open(context.Background(), w.view, &w.view.Files[i])
	if err != nil {
		if w.down && model.IsKind(err, model.Unavailable) {
			return
		}
		t.Fatalf("open: %v", err)
	}
	if rd.Size() != w.contents[i].Size() {
		t.Fatalf("size %d, want %d", rd.Size(), w.contents[i].Size())
	}
	w.readers, w.of = append(w.readers, rd), append(w.of, i)
}

func (w *world) close(t *rapid.T) {
	if len(w.readers) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.readers)-1).Draw(t, "reader")
	must(t, w.readers[i].Close())
	w.readers, w.of = append(w.readers[:i], w.readers[i+1:]...), append(w.of[:i], w.of[i+1:]...)
}

func (w *world) closeAll(t *rapid.T) {
	for _, rd := range w.readers {
		must(t, rd.Close())
	}
	w.readers, w.of = nil, nil
}

// reads makes several reads at the same time; some of their callers leave.
func (w *world) reads(t *rapid.T) {
	if len(w.readers) == 0 {
		return
	}
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for range rapid.IntRange(1, 6).Draw(t, "reads") {
		i := rapid.IntRange(0, len(w.readers)-1).Draw(t, "reader")
		rd, c := w.readers[i], w.contents[w.of[i]]
		off := rapid.Int64Range(0, c.Size()+10).Draw(t, "off")
		n := rapid.SampledFrom([]int{1, 4096, blockSize, 300_000, mib, 5 * mib}).Draw(t, "n")
		leaves := rapid.IntRange(0, 9).Draw(t, "leaves") == 0
		wg.Go(func() { errs <- w.read(rd, c, off, n, leaves) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) read(rd model.Reader, c hubtest.Content, off int64, n int, leaves bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), forever)
	defer cancel()
	if leaves {
		ctx, cancel = context.WithTimeout(ctx, 30*time.Millisecond)
		defer cancel()
	}
	p := make([]byte, n)
	got, err := rd.ReadAt(ctx, p, off)
	want := int(min(int64(n), max(0, c.Size()-off)))
	switch {
	case hubtest.Mismatch(c, p[:got], off) >= 0:
		return fmt.Errorf("wrong byte at %d in a read of %d at %d", hubtest.Mismatch(c, p[:got], off), n, off)
	case err == nil && got != want:
		return fmt.Errorf("a read of %d at %d gave %d bytes, want %d", n, off, got, want)
	case err == nil, leaves && model.IsKind(err, model.Interrupted), w.down && model.IsKind(err, model.Timeout):
		return nil
	}
	return fmt.Errorf("a read of %d at %d: %w", n, off, err)
}

func (w *world) time(t *rapid.T) {
	<-time.After(time.Duration(rapid.IntRange(0, 100).Draw(t, "seconds")) * time.Second)
}

func (w *world) restart(t *rapid.T) {
	w.closeAll(t)
	w.stop()
	w.start()
}

// crash is a kill in the middle of reads: what was on its way is lost, and what
// the next daemon believes of the rest has to be so.
func (w *world) crash(t *rapid.T) {
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for range min(len(w.readers), 4) {
		i := rapid.IntRange(0, len(w.readers)-1).Draw(t, "reader")
		rd, c := w.readers[i], w.contents[w.of[i]]
		off := rapid.Int64Range(0, c.Size()).Draw(t, "off")
		wg.Go(func() {
			if err := w.read(rd, c, off, 5*mib, false); err != nil && !model.IsKind(err, model.Unavailable) {
				errs <- err
			}
		})
	}
	<-time.After(time.Duration(rapid.IntRange(0, 2000).Draw(t, "milliseconds")) * time.Millisecond)
	synctest.Wait()
	snap := takeSnapshot(t, w.dir)
	if err := w.f.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	w.closeAll(t)
	w.stop()
	snap.restore()
	w.start()
	w.seen.crashes++
	if w.store.Usage().Parts > 0 {
		w.seen.resumed++
	}
}

// pull fetches a whole file, which may take others' place.
func (w *world) pull(t *rapid.T) {
	i := rapid.IntRange(0, len(w.contents)-1).Draw(t, "file")
	ctx, cancel := context.WithTimeout(context.Background(), forever)
	defer cancel()
	err := w.f.Pull(ctx, w.view, &w.view.Files[i], nil)
	if err != nil && !model.IsKind(err, model.NoSpace) && !(w.down && (model.IsKind(err, model.Unavailable) || model.IsKind(err, model.Timeout))) {
		t.Fatalf("pull: %v", err)
	}
}

// evict removes what is complete, as an operator or a full disk does.
func (w *world) evict(t *rapid.T) {
	i := rapid.IntRange(0, len(w.contents)-1).Draw(t, "file")
	err := w.store.Remove(w.view.Files[i].Key)
	if err != nil && !model.IsKind(err, model.NotFound) && !model.IsKind(err, model.InUse) && !model.IsKind(err, model.Denied) {
		t.Fatalf("remove: %v", err)
	}
}

func (w *world) outage(t *rapid.T) {
	if w.down = !w.down; w.down {
		w.hub.Refuse()
		return
	}
	must(t, w.hub.Accept())
	<-time.After(2 * remember)
}

// end: with the origin back and no faults, everything can be read to its end.
func (w *world) end(t *rapid.T) {
	if w.down {
		w.outage(t)
	}
	w.hub.ClearFaults()
	<-time.After(remember)
	for i := range w.contents {
		rd, err := w.f.Open(context.Background(), w.view, &w.view.Files[i])
		must(t, err)
		readAll(t, rd, w.contents[i], mib)
		must(t, rd.Close())
	}
	w.closeAll(t)
	w.seen.evictions += strings.Count(w.log.String(), "msg=evicted")
	if n := w.f.Stats().Waiting; n != 0 {
		t.Errorf("%d reads wait when all are done", n)
	}
	w.stop()
}
