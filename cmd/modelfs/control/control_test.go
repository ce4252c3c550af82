package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fake does what a test says.
type fake struct {
	pull func(ctx context.Context, req PullRequest, report func(Event)) error
	keep func(verb, name string) (Kept, error)
	list func(pattern string) ([]Model, error)
}

func (f *fake) Pull(ctx context.Context, req PullRequest, report func(Event)) error {
	return f.pull(ctx, req, report)
}
func (f *fake) Pin(_ context.Context, name string) (Kept, error)    { return f.keep("pin", name) }
func (f *fake) Unpin(_ context.Context, name string) (Kept, error)  { return f.keep("unpin", name) }
func (f *fake) Remove(_ context.Context, name string) (Kept, error) { return f.keep("rm", name) }
func (f *fake) List(_ context.Context, pattern string) ([]Model, error) {
	return f.list(pattern)
}

func serve(t *testing.T, dir string, f *fake) *Server {
	t.Helper()
	work := Work{Puller: f, Keeper: f, Lister: f, Status: func() any { return map[string]int{"pid": 7} }}
	s, err := Listen(dir, work, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // again does no harm
	return s
}

func dial(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestEverythingCrossesTheSocket(t *testing.T) {
	events := []Event{{State: Listed, Files: 2, Total: 30, Source: "hub:x", Commit: "abc"}, {Path: "a/b", State: Filling, Done: 1, Total: -1}, {Path: "a/b", State: Failed, Error: "why"}}
	models := []Model{{Name: "a/b", Files: -1, Size: -1}, {Name: "c", Backends: []string{"cpu"}, Hidden: true, Why: "no metal"}}
	f := &fake{
		pull: func(_ context.Context, req PullRequest, report func(Event)) error {
			if req != (PullRequest{"org/m:Q4@main", true}) {
				t.Errorf("asked for %+v", req)
			}
			for _, e := range events {
				report(e)
			}
			return model.Errorf(model.NoSpace, "no room")
		},
		keep: func(verb, name string) (Kept, error) {
			return Kept{Name: verb + name, Files: 3, Bytes: 4, Paths: []string{"x"}}, model.Errorf(model.InUse, "%s open", verb)
		},
		list: func(pattern string) ([]Model, error) {
			if pattern != "a/b*&c=d" {
				t.Errorf("pattern %q", pattern)
			}
			return models, nil
		},
	}
	dir := t.TempDir()
	serve(t, dir, f)
	c := dial(t, dir)
	var got []Event
	err := c.Pull(t.Context(), PullRequest{"org/m:Q4@main", true}, func(e Event) { got = append(got, e) })
	if model.KindOf(err) != model.NoSpace || err.Error() != "no room" {
		t.Errorf("pull: %v, kind %v", err, model.KindOf(err))
	}
	if diff := cmp.Diff(events, got); diff != "" {
		t.Errorf("events, -want +got:\n%s", diff)
	}
	for verb, do := range map[string]func(context.Context, string) (Kept, error){"pin": c.Pin, "unpin": c.Unpin, "rm": c.Remove} {
		kept, err := do(t.Context(), "n")
		if kept.Name != verb+"n" || kept.Bytes != 4 || len(kept.Paths) != 1 || !model.IsKind(err, model.InUse) {
			t.Errorf("%s: %+v, %v", verb, kept, err)
		}
	}
	list, err := c.List(t.Context(), "a/b*&c=d")
	if diff := cmp.Diff(models, list); diff != "" || err != nil {
		t.Errorf("list: %v, -want +got:\n%s", err, diff)
	}
	var status struct{ PID int }
	if err := c.Status(t.Context(), &status); err != nil || status.PID != 7 {
		t.Errorf("status: %+v, %v", status, err)
	}
}

func TestKindsSurvive(t *testing.T) {
	for k := model.Internal; k <= model.Invalid; k++ {
		err := failureOf(fmt.Errorf("doing: %w", model.Errorf(k, "x"))).err()
		if model.KindOf(err) != k || err.Error() != "doing: x" {
			t.Errorf("kind %v became %v: %v", k, model.KindOf(err), err)
		}
	}
	if failureOf(nil).err() != nil {
		t.Error("no error became one")
	}
	if err := (&failure{"x", "a kind of tomorrow"}).err(); model.KindOf(err) != model.Internal {
		t.Errorf("an unknown kind became %v", model.KindOf(err))
	}
}

func TestTheSocketIsItsOwnersAlone(t *testing.T) {
	// Longer than sun_path takes, and a dead one lies there.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := serve(t, dir, &fake{})
		st, err := os.Stat(filepath.Join(dir, socketFile))
		if err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Fatalf("%v, %v", st, err)
		}
		dial(t, dir)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, socketFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestADeadSocketIsReplacedAndAnswersNobody(t *testing.T) {
	dir := t.TempDir()
	l, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // as a crash leaves it
	if _, err := os.Lstat(filepath.Join(dir, socketFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), dir); !model.IsKind(err, model.NotFound) {
		t.Errorf("a dead socket: %v", err)
	}
	serve(t, dir, &fake{})
	dial(t, dir)
}

func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Join(dir, "missing"), file} {
		if _, err := Dial(t.Context(), d); !model.IsKind(err, model.NotFound) || !strings.Contains(err.Error(), d) {
			t.Errorf("%s: %v", d, err)
		}
	}
	if _, err := Listen(filepath.Join(dir, "missing"), Work{Keeper: &fake{}}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("listened in a directory that is not there")
	}
}

// blocked is a pull that says that it has begun, and ends with its context.
func blocked(begun chan<- struct{}, ended chan<- error) func(context.Context, PullRequest, func(Event)) error {
	return func(ctx context.Context, _ PullRequest, report func(Event)) error {
		report(Event{Path: "x", State: Filling})
		begun <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
}

func TestAClientThatLeavesEndsItsPullOnly(t *testing.T) {
	begun, ended := make(chan struct{}, 2), make(chan error, 2)
	dir := t.TempDir()
	serve(t, dir, &fake{pull: blocked(begun, ended)})
	leaving, leave := context.WithCancel(t.Context())
	staying, stop := context.WithCancel(t.Context())
	var pulls sync.WaitGroup
	errs := make(chan error, 2)
	for _, ctx := range []context.Context{leaving, staying} {
		c := dial(t, dir)
		pulls.Go(func() { errs <- c.Pull(ctx, PullRequest{Name: "m"}, func(Event) {}) })
	}
	<-begun
	<-begun
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the pull of the one that left ended with %v", err)
	}
	if err := <-errs; !model.IsKind(err, model.Interrupted) {
		t.Errorf("the one that left was told %v", err)
	}
	select {
	case err := <-ended:
		t.Errorf("the other pull ended, too: %v", err)
	default:
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the other pull ended with %v", err)
	}
	pulls.Wait()
}

// Close ends what is under way and waits for it; the client is told.
func TestCloseEndsPullsAndWaits(t *testing.T) {
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	dir := t.TempDir()
	s := serve(t, dir, &fake{pull: blocked(begun, ended)})
	c := dial(t, dir)
	answer := make(chan error, 1)
	go func() { answer <- c.Pull(context.Background(), PullRequest{Name: "m"}, func(Event) {}) }()
	<-begun
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the pull ended with %v", err)
		}
	default:
		t.Error("Close did not wait for the pull")
	}
	if err := <-answer; err == nil {
		t.Error("the pull that was ended looks like a success")
	}
}

// An owner that dies without a word is no success either.
func TestALostOwnerIsAnError(t *testing.T) {
	dir := t.TempDir()
	l, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	})
	c := dial(t, dir)
	for what, do := range map[string]func() error{
		"pull": func() error { return c.Pull(t.Context(), PullRequest{Name: "m"}, func(Event) {}) },
		"list": func() error { _, err := c.List(t.Context(), ""); return err },
	} {
		if err := do(); !model.IsKind(err, model.Unavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_ = l.Close()
	conns.Wait()
}

func TestHostileRequests(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, &fake{
		pull: func(context.Context, PullRequest, func(Event)) error { t.Error("it pulled"); return nil },
		keep: func(string, string) (Kept, error) { t.Error("it kept"); return Kept{}, nil },
		list: func(string) ([]Model, error) { return nil, nil },
	})
	d, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", address(d))
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	for _, r := range []struct{ method, path, body string }{
		{"POST", "/pull", "{"}, {"POST", "/pull", `{"name": 3}`}, {"POST", "/pin", `{"name":"x"}`}, {"POST", "/remove", ""},
		{"POST", "/unpin", `"` + strings.Repeat("x", maxRequest) + `"`}, {"GET", "/pull", ""}, {"DELETE", "/models", ""}, {"GET", "/../etc/passwd", ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), r.method, "http://x"+r.path, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", r.method, r.path, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode < 400 {
			t.Errorf("%s %s %.20q: %s", r.method, r.path, r.body, resp.Status)
		}
	}
}
