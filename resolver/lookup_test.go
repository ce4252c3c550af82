package resolver

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"modelfs/internal/model"
)

const msec = time.Millisecond

var (
	notFound    = answer{err: "not found"}
	unavailable = answer{err: "unavailable"}
)

func by(source string) answer        { return answer{source: source, kind: model.ModelDir, settled: true} }
func unsettled(source string) answer { return answer{source: source, kind: model.ModelDir} }

func (a answer) in(d time.Duration) answer { a.took = d; return a }

func TestTheFirstSourceInOrderAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for i, f := range w.fakes() {
			for _, have := range []string{"every", fmt.Sprintf("from-%d", i), strings.Repeat("x", i+1)} {
				f.add(have, "a.gguf=1")
			}
		}
		w.expect("every", by("local"))
		w.expect("from-1", by("shared"))
		w.expect("from-2", by("hub"))
		w.expect("from-3", by("router"))
		w.expect("nobody", notFound)
	})
}

func TestNamesThatNoModelCanHaveCostNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, name := range []string{"", ".", "..", ".hidden", "HEAD", "objects", "refs", "a/b/c", "a/../b", "a\x00b", "a//b", "x:", "x@", strings.Repeat("n", 300)} {
			w.expect(name, notFound)
		}
		for _, f := range w.fakes() {
			if f.total() != 0 {
				t.Errorf("%s was asked: %v", f.id, f.asked)
			}
		}
	})
}

func TestFilesAndImpossibleRepositoriesAreNotAskedOfTheNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, name := range []string{"adapter_config.json", "x.gguf", "org/x.safetensors", "with space", "naïve", "a--b", "x.git"} {
			w.expect(name, notFound)
		}
		if n := w.hub.total() + w.router.total(); n != 0 {
			t.Errorf("the network was asked %d times", n)
		}
		if w.local.total() == 0 {
			t.Error("the tree was not asked")
		}
	})
}

func TestATreeHasTheFirstWordAlone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.local.add("m", "a.gguf=1")
		w.shared.add("s", "a.gguf=1")
		w.shared.takes(20 * msec)
		w.hub.become(hanging)
		w.router.become(hanging)
		w.expect("m", by("local"))
		w.expect("s", by("shared").in(20*msec))
		if n := w.hub.total() + w.router.total(); n != 0 {
			t.Errorf("the network was asked %d times for names that trees have", n)
		}
	})
}

func TestASlowTreeStillComesFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.shared.add("m", "a.gguf=1")
		w.hub.add("m", "a.gguf=1")
		w.shared.takes(500 * msec)
		w.expect("m", by("shared").in(500*msec))
	})
}

func TestVerdictsAtTheDeadline(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(w *world)
		want  answer
	}{
		{"an earlier one hangs, a later one has it", func(w *world) { w.shared.become(hanging); w.hub.add("m", "a=1") }, unsettled("hub").in(900 * msec)},
		{"an earlier one fails, a later one has it", func(w *world) { w.shared.become(failing); w.hub.add("m", "a=1") }, unsettled("hub")},
		{"a later one hangs", func(w *world) { w.router.become(hanging); w.hub.add("m", "a=1") }, by("hub")},
		{"nobody has it and one hangs", func(w *world) { w.router.become(hanging) }, unavailable.in(900 * msec)},
		{"nobody has it and one fails", func(w *world) { w.hub.become(failing) }, unavailable},
		{"nobody has it and one refuses", func(w *world) { w.hub.become(denying) }, answer{err: "denied"}},
		{"one refuses and one fails", func(w *world) { w.hub.become(denying); w.router.become(failing) }, unavailable},
		{"one refuses and a later one has it", func(w *world) { w.hub.denies("m"); w.router.add("m", "a=1") }, by("router")},
		{"slow, but in time", func(w *world) { w.hub.takes(800 * msec); w.hub.add("m", "a=1") }, by("hub").in(800 * msec)},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				c.setup(w)
				w.expect("m", c.want)
			})
		})
	}
}

func TestWhatWasNotAnsweredInTimeIsThereForTheNextTry(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a=1")
		w.hub.takes(1200 * msec)
		w.expect("m", unavailable.in(900*msec))
		w.expect("m", unavailable) // at once: it is remembered
		pass(300 * msec)
		w.expect("m", by("hub"))
		if n := w.hub.times("find m"); n != 1 {
			t.Errorf("the Hub was asked %d times, want once", n)
		}
	})
}

func TestUnknownIsRememberedForASecond(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.become(hanging)
		began := time.Now()
		for range 10 { // as the kernel does it: one after the other
			if a := w.look("m"); a.err != "unavailable" {
				t.Fatalf("got %+v", a)
			}
		}
		if took := time.Since(began); took != 900*msec {
			t.Errorf("ten lookups in a row took %v, want 900ms", took)
		}
		pass(time.Second)
		w.expect("m", unavailable.in(900*msec))
	})
}

func TestAFailureIsAskedAgainBehindOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.become(failing)
		w.hub.add("m", "a=1")
		for range 20 {
			w.expect("m", unavailable)
			pass(10 * msec)
		}
		if n := w.hub.times("find m"); n != 2 {
			t.Errorf("the Hub was asked %d times within a second, want twice", n)
		}
		w.hub.become(healthy)
		pass(800 * msec)
		w.expect("m", by("hub"))
	})
}

func TestRecoveryBehindShowsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.become(failing)
		w.hub.add("m", "a=1")
		w.expect("m", unavailable)
		w.hub.become(healthy)
		w.expect("m", unavailable) // remembered; asked behind
		pass(msec)
		w.expect("m", by("hub"))
	})
}

// ask looks a name up until d has passed and counts the questions.
func TestHowLongVerdictsAreRemembered(t *testing.T) {
	for _, c := range []struct {
		name  string
		pick  func(w *world) *fake
		have  bool
		keeps time.Duration // it is asked again only after that
	}{
		{"a tree's present", func(w *world) *fake { return w.local }, true, 0},
		{"a tree's absent", func(w *world) *fake { return w.local }, false, 0},
		{"the Hub's present", func(w *world) *fake { return w.hub }, true, 10 * time.Minute},
		{"the Hub's absent", func(w *world) *fake { return w.hub }, false, time.Minute},
		{"a router's present", func(w *world) *fake { return w.router }, true, time.Minute},
		{"a router's absent", func(w *world) *fake { return w.router }, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				f := c.pick(w)
				if c.have {
					f.add("m", "a=1")
				}
				w.look("m")
				want := 1
				if c.keeps > 0 {
					pass(c.keeps - msec)
					w.look("m")
				}
				if n := f.times("find m"); n != want {
					t.Errorf("asked %d times before %v, want %d", n, c.keeps, want)
				}
				pass(msec)
				w.look("m")
				if n := f.times("find m"); n != want+1 {
					t.Errorf("asked %d times after %v, want %d", n, c.keeps, want+1)
				}
			})
		})
	}
}

func TestManyCallersOfOneNameAskOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a=1")
		for _, f := range w.fakes() {
			f.takes(10 * msec)
		}
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() { w.expect("m", by("hub").in(20*msec)) })
		}
		wg.Wait()
		for _, f := range w.fakes() {
			if n := f.times("find m"); n != 1 {
				t.Errorf("%s was asked %d times, want once", f.id, n)
			}
		}
	})
}

func TestAThousandNamesAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		mode mode
		want string
	}{
		{"all say no", healthy, "not found"},
		{"the Hub hangs", hanging, "unavailable"},
		{"the Hub fails", failing, "unavailable"},
		{"the Hub's quota is spent", throttle, "unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.hub.become(c.mode)
				w.hub.takes(100 * msec)
				w.router.takes(50 * msec)
				var wg sync.WaitGroup
				for i := range 1000 {
					wg.Go(func() {
						if a := w.look(fmt.Sprintf("name-%d", i)); a.err != c.want || a.took > 900*msec {
							t.Errorf("got %+v, want %s", a, c.want)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

func TestACallerMayLeave(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a=1")
		w.hub.takes(500 * msec)
		ctx, cancel := context.WithTimeout(context.Background(), 100*msec)
		defer cancel()
		began := time.Now()
		_, err := w.Lookup(ctx, "m")
		if took := time.Since(began); err == nil || took != 100*msec {
			t.Errorf("got %v after %v, want an error after 100ms", err, took)
		}
		ctx, cancel = context.WithCancel(context.Background())
		cancel()
		if _, err := w.Lookup(ctx, "m"); !model.IsKind(err, model.Interrupted) {
			t.Errorf("got %v, want interrupted", err)
		}
		pass(400 * msec)
		w.expect("m", by("hub"))
		if n := w.hub.times("find m"); n != 1 {
			t.Errorf("the question was asked %d times, want once, and to its end", n)
		}
	})
}

func TestANamespaceAndItsChildShareTheSecond(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("org/m", "a=1")
		w.hub.takes(500 * msec)
		w.expect("org", answer{source: "hub", kind: model.Namespace, settled: true, took: 500 * msec})
		w.hub.become(hanging)
		w.expect("org/m", unavailable.in(400*msec)) // what is left of 900
		pass(2 * time.Second)
		w.expect("org/m", unavailable.in(900*msec)) // later it is a question of its own
	})
}

func TestANamespaceBehindASilentSourceLeavesTimeForItsChild(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("org/m", "a=1")
		w.shared.become(hanging)
		w.expect("org", answer{source: "hub", kind: model.Namespace, took: 600 * msec})
		w.expect("org/m", unsettled("hub").in(300*msec))
	})
}

func TestANamespaceThatIsFoundTooLateIsThereForTheNextTry(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("org/m", "a=1")
		w.hub.takes(700 * msec)
		w.expect("org", unavailable.in(700*msec))
		w.expect("org", answer{source: "hub", kind: model.Namespace, settled: true})
	})
}

func TestANamespaceIsMerged(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.local.add("org/a", "a=1")
		w.hub.add("org/b", "a=1")
		w.expect("org", answer{source: "local", kind: model.Namespace, settled: true})
		w.expect("org/a", by("local"))
		w.expect("org/b", by("hub"))
		w.expect("org/c", notFound)
	})
}

func TestABrokenModelCountsOnlyAlone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, name := range []string{"both", "alone"} {
			w.local.add(name, "model-00001-of-00002.safetensors=1")
			w.local.breaks(name, "model-00002-of-00002.safetensors is missing")
		}
		w.hub.add("both", "a=1")
		w.expect("both", by("hub"))
		w.expect("alone", by("local"))
		w.hub.become(failing)
		w.local.add("new", "x=1")
		w.local.breaks("new", "empty")
		w.expect("new", unsettled("local"))
	})
}

func TestBreakers(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.become(failing)
		w.router.add("known", "a=1")
		for i := range tripAfter {
			w.expect(fmt.Sprintf("n%d", i), unavailable)
		}
		before := w.hub.total()
		w.expect("known", by("router")) // settled: the Hub is known to be down
		w.expect("other", unavailable)
		if w.hub.total() != before {
			t.Error("a source that is down was asked")
		}
		if s := w.Status()[2]; s.Breaker != "open" || s.Failures != tripAfter || !strings.Contains(s.LastError, "500") {
			t.Errorf("status = %+v", s)
		}
		w.hub.become(hanging)
		pass(retryAfter + msec)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { w.look(fmt.Sprintf("p%d", i)) })
		}
		wg.Wait()
		if n := w.hub.total() - before; n != 1 {
			t.Errorf("%d questions went to a source that may be back, want one", n)
		}
		pass(silence)
		w.hub.become(healthy)
		w.hub.add("back", "a=1")
		pass(retryAfter + msec)
		w.expect("back", by("hub"))
		if s := w.Status()[2]; s.Breaker != "closed" || s.Failures != 0 {
			t.Errorf("status = %+v", s)
		}
	})
}

func TestSilenceOpensTheBreaker(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.become(hanging)
		for i := range tripAfter {
			w.look(fmt.Sprintf("n%d", i))
		}
		pass(silence)
		w.expect("x", unavailable)
		if s := w.Status()[2]; s.Breaker != "open" || s.UnderWay == 0 {
			t.Errorf("status = %+v", s)
		}
	})
}

func TestAQuotaOfItsOwnDoesNotCloseASource(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.become(throttle)
		for i := range 300 {
			w.expect(fmt.Sprintf("typo-%d", i), unavailable)
		}
		w.hub.become(healthy)
		w.hub.add("real", "a=1")
		w.expect("real", by("hub"))
	})
}

// What the Hub may not be asked for the moment, others have: they answer at
// once, each name for itself, and the Hub is asked again with the next lookup.
func TestARouterAnswersWhileTheHubsQuotaIsSpent(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.become(throttle)
		for i := range 300 {
			name := fmt.Sprintf("m-%d", i)
			w.router.add(name, "a=1")
			w.expect(name, unsettled("router"))
			w.expect(fmt.Sprintf("typo-%d", i), unavailable)
		}
		w.expect("real", unavailable)
		w.hub.become(healthy)
		w.hub.add("real", "a=1")
		w.hub.add("m-0", "a=1")
		pass(failureKept)
		w.expect("real", by("hub"))
		w.expect("m-1", by("router"))
		w.expect("m-0", by("hub"))
	})
}

// A name that was refused for a quota is asked about again within the second
// behind, and after it by whoever asks: never in a loop of its own, which
// would spend what others need.
func TestAQuotaIsNotSpentOnNamesThatNobodyAsksFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.become(throttle)
		w.expect("real", unavailable)
		w.expect("real", unavailable) // and asks behind
		w.expect("real", unavailable)
		pass(time.Minute)
		if n := w.hub.times("find real"); n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
		w.expect("real", unavailable)
		w.hub.become(healthy)
		w.hub.add("real", "a=1")
		w.expect("real", unavailable) // the answer of this second
		pass(msec)
		w.expect("real", by("hub")) // what was asked behind
	})
}

func TestATreeThatIsDownIsAskedAndNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.shared.become(hanging)
		w.hub.add("m", "a=1")
		for i := range tripAfter {
			w.look(fmt.Sprintf("n%d", i))
		}
		pass(silence)
		w.expect("m", by("hub")) // known to be down: settled, at once
		w.shared.become(healthy)
		w.shared.add("s", "a=1")
		if a := w.look("s"); a.took != 0 {
			t.Errorf("waited %v for a tree that is known to be down", a.took)
		}
		pass(msec)
		w.expect("s", by("shared"))
	})
}

func TestWhatHangsDoesNotShutASourceThatIsDownOut(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.become(hanging)
		w.router.add("m", "a=1")
		var wg sync.WaitGroup
		for i := range maxQuestions + 100 {
			wg.Go(func() { w.look(fmt.Sprint("n", i)) })
		}
		wg.Wait()
		pass(silence)
		for range 2 {
			w.expect("m", by("router"))
			pass(950 * msec)
		}
		if n := w.hub.total(); n > maxQuestions+100 {
			t.Errorf("%d questions", n)
		}
	})
}

// liar is a source that claims what can't be.
type liar struct {
	*fake
	claims model.Found
}

func (l liar) Find(context.Context, model.Name) (model.Found, error) { return l.claims, nil }

func TestSourcesThatClaimWhatCantBe(t *testing.T) {
	for _, c := range []struct {
		name string
		kind model.SourceKind
		says model.EntryKind
		want answer
	}{
		{"org/x", model.Hub, model.Namespace, notFound},
		{"org/x", model.Local, model.Namespace, notFound},
		{"x:Q8_0", model.Local, model.Namespace, notFound},
		{"x@main", model.Hub, model.Namespace, notFound},
		{"x", model.Hub, model.LooseFile, unavailable},
	} {
		bubble(t, func(t *testing.T, w *world) {
			w.restart(Config{Sources: []Source{liar{newFake(c.kind), model.Found{Kind: c.says, Name: "x"}}}})
			w.expect(c.name, c.want)
		})
	}
}

func TestATreeThatWasDownLongAgoIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a=1")
		w.shared.add("m", "a=1")
		w.shared.become(failing)
		for i := range tripAfter {
			w.look(fmt.Sprint("n", i))
		}
		w.expect("m", by("hub"))
		w.shared.become(healthy)
		w.shared.takes(10 * msec)
		pass(retryAfter)
		w.expect("m", by("shared").in(10*msec))
	})
}

// A disk that can't read one directory reads the next one.
func TestALocalTreeThatFailsIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a=1")
		w.local.add("m", "a=1")
		w.local.become(failing)
		for i := range 2 * tripAfter {
			w.look(fmt.Sprint("n", i))
		}
		w.expect("m", unsettled("hub"))
		if s := w.Status()[0]; s.Breaker != "closed" || s.Failures <= tripAfter || s.LastError == "" {
			t.Errorf("status = %+v", s)
		}
		w.local.become(healthy)
		w.local.takes(10 * msec)
		pass(time.Second)
		w.expect("m", by("local").in(10*msec))
	})
}

func TestALocalTreeThatIsSilentIsNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a=1")
		w.local.become(hanging)
		for i := range tripAfter {
			w.look(fmt.Sprint("n", i))
		}
		pass(silence)
		w.expect("m", by("hub"))
		w.local.become(healthy) // what hung has answered, late
		w.local.add("l", "a=1")
		pass(msec)
		w.local.takes(10 * msec)
		w.expect("l", by("local").in(10*msec))
	})
}

func TestAPanicIsAnUnknown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Sources: []Source{w.local, panicking{w.hub}}})
		w.expect("m", unavailable)
	})
}

// A panic in the question that finds out whether a source is back must not
// leave it shut out for good.
func TestAPanicShutsNoSourceOut(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.hub.add("m", "a.gguf=1")
		odd := &panickingOnce{fake: w.hub}
		w.restart(Config{Sources: []Source{odd}})
		w.hub.become(failing)
		for i := range tripAfter {
			w.expect(fmt.Sprintf("n%d", i), unavailable)
		}
		pass(retryAfter + time.Millisecond)
		odd.armed.Store(true)
		w.expect("odd", unavailable)
		w.hub.become(healthy)
		pass(retryAfter + time.Millisecond)
		w.expect("m", by("hub"))
	})
}

type panickingOnce struct {
	*fake
	armed atomic.Bool
}

func (p *panickingOnce) Find(ctx context.Context, n model.Name) (model.Found, error) {
	if p.armed.Swap(false) {
		panic("a defect")
	}
	return p.fake.Find(ctx, n)
}

type panicking struct{ *fake }

func (panicking) Find(context.Context, model.Name) (model.Found, error) { panic("a defect") }

func TestAfterCloseNobodyIsAsked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.local.add("m", "a=1")
		w.hub.become(hanging)
		go w.look("n")
		pass(100 * msec)
		began := time.Now()
		w.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
		w.expect("m", unavailable)
		pass(time.Second)
	})
}

func TestALooseFileComesWithItsView(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.local.add("x.gguf", "x.gguf=7")
		e, err := w.Lookup(context.Background(), "x.gguf")
		if err != nil || e.Kind != model.LooseFile || e.View == nil || e.View.Files[0].Size != 7 || e.Name != "x.gguf" {
			t.Errorf("got %+v, %v", e, err)
		}
	})
}

// A file is found out to be one when the time is up, and still has to be listed.
func TestALooseFileAtTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.local.become(hanging)
		w.shared.add("x.gguf", "x.gguf=7")
		w.shared.listsAfter(50 * msec)
		for _, took := range []time.Duration{950 * msec, 50 * msec} { // then the tree was silent within the last second
			began := time.Now()
			e, err := w.Lookup(context.Background(), "x.gguf")
			if err != nil || e.View == nil || e.View.Files[0].Size != 7 || e.Settled {
				t.Errorf("entry = %+v, %v", e, err)
			}
			if got := time.Since(began); got != took {
				t.Errorf("it took %v, want %v", got, took)
			}
		}
		if e := w.explain("x.gguf"); len(e.Files) != 1 {
			t.Errorf("explain: %+v", e)
		}
		w.shared.listsAfter(time.Hour)
		pass(2 * time.Second)
		began := time.Now()
		if e, err := w.Lookup(context.Background(), "x.gguf"); !model.IsKind(err, model.Unavailable) {
			t.Errorf("entry = %+v, %v", e, err)
		}
		if got := time.Since(began); got > time.Second {
			t.Errorf("it took %v", got)
		}
	})
}

func TestQuantisations(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.local.add("m", "m-Q8_0.gguf=1")
		w.hub.add("m", "m-Q4_K_M.gguf=1", "m-Q8_0.gguf=1")
		w.router.add("r", "r.gguf=1")
		w.router.add("gpt", "gpt.gguf=1")
		w.router.models["gpt"].Name = "gpt:20b"
		w.router.models["gpt:20b"] = w.router.models["gpt"]
		w.expect("m:Q8_0", by("local"))
		w.expect("m:Q4_K_M", by("hub"))
		w.expect("m:q4_k_m", by("hub"))
		w.expect("m:Q2_K", notFound)
		w.expect("r:Q4_K_M", notFound)
		w.expect("gpt:20b", by("router")) // it is the router's own name
		if finds, lists := w.hub.times("find m"), w.hub.times("list m"); finds != 1 || lists != 1 {
			t.Errorf("the Hub was asked %d times and listed %d times for three quantisations, want once each", finds, lists)
		}
		w.router.add("stated", "model.gguf=1").Tags = []string{"Q6_K"}
		w.expect("stated:Q8_0", notFound)
		w.expect("stated:q6_k", by("router"))
		w.mustView("stated")
		w.hub.add("slow", "m-Q4_K_M.gguf=1")
		w.hub.listsAfter(2 * time.Second)
		w.expect("slow:Q4_K_M", unavailable.in(900*msec))
		pass(1100 * msec)
		w.expect("slow:Q4_K_M", by("hub"))
	})
}

func TestConfinedNamesAreNotAskedElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.restart(Config{Confine: map[string][]string{"acme/*": {"shared"}}})
		w.hub.add("acme/secret", "a=1")
		w.expect("acme/secret", notFound)
		w.expect("acme", notFound)
		if n := w.hub.total() + w.router.total() + w.local.total(); n != 0 {
			t.Errorf("others were asked %d times", n)
		}
		w.shared.add("acme/secret", "a=1")
		w.expect("acme/secret", by("shared"))
		w.shared.become(failing)
		w.expect("acme/other", unavailable)
	})
}
