package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"modelfs/cmd/modelfs/control"
	"modelfs/fetcher"
	"modelfs/internal/model"
	"modelfs/internal/mountinfo"
	"modelfs/resolver"
)

func TestStatusText(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	s := status{
		Version: "v1", PID: 7, Supervisor: 6, Started: now.Add(-time.Hour), Backends: []string{"cuda", "vulkan"},
		Mount: mountStatus{Point: "/models", Passthrough: 3, Served: 4, Handles: 1},
		Cache: cacheStatus{Dir: "/c", Budget: 10 << 30, Used: 1 << 30, Free: 5 << 30, Blobs: 1, Parts: 2, Pinned: 1},
		Fetch: fetchStatus{Bytes: 2 << 30, Requests: 12, Waiting: 1},
		Sources: []resolver.SourceStatus{
			{ID: "local:/t", Breaker: "closed", LastAnswer: now, LatencyMS: 0.4},
			{ID: "hub:x", Breaker: "open", LastError: "no route", LastErrorAt: now.Add(-3 * time.Second)},
		},
		Fills: []fetcher.FillStatus{
			{Name: "org/m", Path: "m.gguf", State: "filling", Size: 4 << 30, Present: 1 << 30, Speed: 100 << 20, ETA: 30.7, Waiters: 2},
			{Name: "org/m", Path: "x", State: "failed", Size: -1, Error: "gone"},
		},
	}
	want := `modelfs v1 on /models: process 7 under supervisor 6, up 1h0m0s
backends cuda,vulkan
cache    /c: 1.0 GiB of 10 GiB used, 1 file whole, 2 in part, 1 pinned; its disk has 5.0 GiB free
fetched  2.0 GiB in 12 requests; reads waiting: 1
opened   3 read by the kernel itself, 4 served; open now: 1

SOURCE    STATE                      LATENCY  LAST ERROR
local:/t  up                         400µs
hub:x     left alone (breaker open)  -        3s ago: no route

DOWNLOAD      STATE    HERE     OF       SPEED      LEFT  READS WAITING  REMARK
org/m/m.gguf  filling  1.0 GiB  4.0 GiB  100 MiB/s  30s   2
org/m/x       failed   0 B      ?        -          -     0              gone
`
	if diff := cmp.Diff(want, string(statusText(s, now))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestListingTable(t *testing.T) {
	models := []control.Model{
		{Name: "org/m", Source: "hub:x", Revision: strings.Repeat("a", 40), Files: 3, Size: 1000, Here: 500, Pinned: true, Format: "gguf",
			Quant: strings.Repeat("Q4_K_M,", 6), Parameters: "8B", Architecture: "qwen3", Backends: []string{"cuda", "cpu"}},
		{Name: "far", Source: "router:x", Files: -1, Size: -1},
		{Name: "mac", Source: "local:/t", InPlace: true, Files: 1, Size: 10, Hidden: true, Why: "needs metal"},
		{Name: "cut", Source: "local:/t", InPlace: true, Files: 1, Size: 9, Format: "gguf", Backends: []string{"cpu"}, Broken: "it is truncated", Why: "it is truncated"},
	}
	for _, tt := range []struct {
		l     listing
		width int
		want  string
	}{
		{listing{}, 0, `NAME   SOURCE    FORMAT  QUANT                             SIZE  HERE    BACKENDS
org/m  hub:x     gguf    Q4_K_M,Q4_K_M,Q4_K_M,Q4_K_M,Q…  1000 B  50 %    cuda,cpu
far    router:x  -       -                                    ?  -       -
cut    local:/t  gguf    -                                  9 B  broken  cpu
`},
		{listing{all: true, long: true}, 0, `NAME   SOURCE    FORMAT  QUANT                                         SIZE  HERE      BACKENDS  PARAMS  ARCH   FILES  REVISION      PINNED  REMARK
org/m  hub:x     gguf    Q4_K_M,Q4_K_M,Q4_K_M,Q4_K_M,Q4_K_M,Q4_K_M,  1000 B  50 %      cuda,cpu  8B      qwen3      3  aaaaaaaaaaaa  yes
far    router:x  -       -                                                ?  -         -         -       -          ?  -             -
mac    local:/t  -       -                                             10 B  in place  -         -       -          1  -             -       needs metal
cut    local:/t  gguf    -                                              9 B  broken    cpu       -       -          1  -             -       it is truncated
`},
		{listing{}, 59, `NAME   SOURCE  FORMAT  QUANT         SIZE  HERE    BACKENDS
org/m  hub:x   gguf    Q4_K_M,Q4…  1000 B  50 %    cuda,cpu
far    …ter:x  -       -                ?  -       -
cut    …al:/t  gguf    -              9 B  broken  cpu
`},
	} {
		got := tt.l.table(shownOf(tt.l, models)).text(tt.width)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v at %d, -want +got:\n%s", tt.l, tt.width, diff)
		}
	}
	var out bytes.Buffer
	if err := (listing{json: true}).print(&out, nil); err != nil || out.String() != "[]\n" {
		t.Errorf("no models are %q, %v", out.String(), err)
	}
}

// A line is as wide as the terminal at most, if its cells can be cut to that.
func TestTableFits(t *testing.T) {
	rows := table{columns: []column{{title: "NAME", rank: 3, least: 3, cut: inMiddle}, {title: "SOURCE", rank: 1, least: 6, cut: atStart}, {title: "BACKENDS", rank: 2, least: 4}, {title: "REMARK", open: true}},
		rows: [][]string{{"näme", "local:/srv/models", "cuda,rocm,metal", strings.Repeat("because ", 20)}}}
	for width, want := range map[int]string{
		0: "näme  local:/srv/models  cuda,rocm,metal  because", 40: "näme  local:/srv/models  cuda,rocm,metal  because",
		39: "näme  …cal:/srv/models  cuda,rocm,metal  because", 30: "näme  …models  cuda,rocm,metal  because", 24: "näme  …odels  cuda,rocm…  because",
		10: "n…e  …odels  cud…  because",
	} {
		if line := strings.Split(rows.text(width), "\n")[1]; !strings.HasPrefix(line, want) {
			t.Errorf("at %d columns: %q, want %q", width, line, want)
		}
	}
}

// At any width no line but an open one is wider, and every line has the same
// columns.
func TestTableProperties(t *testing.T) {
	word := rapid.StringMatching(`[a-zä,/]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		tab := table{columns: []column{{title: "A"}, {title: "B", rank: 1, least: 3, cut: atStart}, {title: "C", right: true}, {title: "D", rank: 2, least: 1, cut: inMiddle}}}
		for range rapid.IntRange(0, 5).Draw(t, "rows") {
			tab.rows = append(tab.rows, []string{word.Draw(t, "a"), word.Draw(t, "b"), word.Draw(t, "c"), word.Draw(t, "d")})
		}
		width := rapid.IntRange(60, 100).Draw(t, "width") // A and C and what is left of the others fit
		for line := range strings.Lines(tab.text(width)) {
			if n := utf8.RuneCountInString(line) - 1; n > width {
				t.Fatalf("%d columns: %q", n, line)
			}
		}
	})
}

func shownOf(l listing, models []control.Model) []control.Model {
	return slices.DeleteFunc(slices.Clone(models), func(m control.Model) bool { return m.Hidden && !l.all })
}

func TestHere(t *testing.T) {
	for want, m := range map[string]control.Model{
		"broken": {InPlace: true, Broken: "cut"}, "in place": {InPlace: true}, "-": {Size: 10}, "all": {Size: 10, Here: 10}, "99 %": {Size: 1000, Here: 999}, "5 B": {Size: -1, Here: 5},
	} {
		if got := here(m); got != want {
			t.Errorf("%+v: %q, want %q", m, got, want)
		}
	}
}

// A line every 10 %, with the speed of what came in, and none for what was
// here before.
func TestLinesOfAPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newLines(&out, "m")
		show := func(path string, state control.State, done int64) {
			l.show(control.Event{Path: path, State: state, Done: done, Total: 100 << 20})
		}
		l.show(control.Event{State: control.Listed, Files: 2})
		show("a", control.Filling, 35<<20) // resumed
		<-time.After(time.Second)
		for _, mib := range []int64{36, 39, 41, 42, 75, 100} {
			show("a", control.Filling, mib<<20)
		}
		<-time.After(time.Second)
		show("a", control.Done, 100<<20)
		show("b", control.Done, 100<<20)
		show("c", control.Failed, 0)
		want := "m/a: 30 % of 100 MiB\nm/a: 40 % of 100 MiB, 6.0 MiB/s\nm/a: 70 % of 100 MiB, 40 MiB/s\nm/a: 100 % of 100 MiB, 33 MiB/s\nm/b: 100 % of 100 MiB\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// Bars end, whatever became of their files.
func TestBarsEnd(t *testing.T) {
	var out bytes.Buffer
	b := newBars(&out)
	for _, e := range []control.Event{
		{State: control.Listed, Files: 4}, {Path: "done", State: control.Filling, Done: 1, Total: 10}, {Path: "done", State: control.Done, Done: 10, Total: 10},
		{Path: "unknown", State: control.Filling, Done: 1, Total: -1}, {Path: "unknown", State: control.Done, Done: 7, Total: 7},
		{Path: "failed", State: control.Filling, Done: 1, Total: 10}, {Path: "failed", State: control.Failed, Total: 10},
		{Path: "cut", State: control.Filling, Done: 1, Total: 10}, {Path: "here", State: control.Filling, Done: 10, Total: 10},
		{Path: "here", State: control.Done, Done: 10, Total: 10},
	} {
		b.show(e)
	}
	b.close()
	if _, ok := b.files["here"]; ok {
		t.Error("a file that was here has a bar")
	}
}

// pulls is a Puller of scripted events.
type pulls struct {
	events []control.Event
	err    error
}

func (p pulls) Pull(_ context.Context, _ control.PullRequest, report func(control.Event)) error {
	for _, e := range p.events {
		report(e)
	}
	return p.err
}

func TestWhatPullSays(t *testing.T) {
	done := control.Event{Path: "a", State: control.Done, Done: 2048, Total: 2048}
	listed := control.Event{State: control.Listed, Files: 1, Source: "hub:x", Commit: "c1"}
	for _, tt := range []struct {
		p        pulls
		out, err string
		kind     model.Kind
	}{
		{pulls{[]control.Event{listed, done}, nil}, "m: 1 file, 2.0 KiB, all here (hub:x at c1)\n", "", 0},
		{pulls{[]control.Event{{State: control.Listed, Source: "local:/t"}}, nil}, "m: read in place from local:/t, nothing to download\n", "", 0},
		{pulls{[]control.Event{listed}, model.Errorf(model.Interrupted, "signal")}, "", "what was received is kept", model.Interrupted},
		{pulls{nil, model.Errorf(model.NotFound, "nobody has it")}, "", "pulling m: nobody has it (modelfs explain m says more)", model.NotFound},
	} {
		var out bytes.Buffer
		p := &puller{desk: &desk{Puller: tt.p}, out: &out, errs: io.Discard}
		err := p.pull(t.Context(), "m")
		if out.String() != tt.out || (err != nil) != (tt.err != "") {
			t.Errorf("%+v: %q, %v", tt.p, out.String(), err)
		}
		if err != nil && (!strings.Contains(err.Error(), tt.err) || model.KindOf(err) != tt.kind) {
			t.Errorf("%+v: %v", tt.p, err)
		}
	}
}

func TestEachName(t *testing.T) {
	fails := map[string]error{"bad": errors.New("no"), "open": model.Errorf(model.InUse, "open"), "stop": model.Errorf(model.Interrupted, "stopped")}
	for _, tt := range []struct {
		names []string
		tried int
		err   string
		said  string
	}{
		{[]string{"a", "b"}, 2, "", ""},
		{[]string{"open"}, 1, "open", ""},
		{[]string{"bad", "a", "open"}, 3, "2 of 3 names failed", "modelfs: no\nmodelfs: open\n"},
		{[]string{"stop", "a"}, 1, "stopped", ""},
	} {
		var said bytes.Buffer
		tried := 0
		err := eachName(tt.names, &said, func(name string) error { tried++; return fails[name] })
		if tried != tt.tried || said.String() != tt.said || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%v: tried %d, said %q, %v", tt.names, tried, said.String(), err)
		}
		if want := min(len(tt.err), 1); exitCode(err) != want { // never 4: the backing dir is not what is in use
			t.Errorf("%v: code %d", tt.names, exitCode(err))
		}
	}
}

func TestMountOf(t *testing.T) {
	list, err := mountinfo.Parse(strings.NewReader(mountTable))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]mountinfo.Mount{
		"/srv":          {Point: "/", Type: "ext4", Device: "254:0", Shared: true},
		"/models/org/m": {Point: "/models", Type: "fuse.modelfs", Device: "0:25", Shared: true},
		"/modelsx":      {Point: "/", Type: "ext4", Device: "254:0", Shared: true},
		"/covered":      {Point: "/covered", Type: "tmpfs", Device: "0:28", Shared: false},
	} {
		if got, ok := mountOf(list, path); !ok || got != want {
			t.Errorf("%s: %+v, %v", path, got, ok)
		}
	}
	if _, ok := mountOf(nil, "/x"); ok {
		t.Error("an empty table has a mount")
	}
}

// watch prints again and again until it is stopped, which is no failure.
func TestShowStatusWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		asked := 0
		var out bytes.Buffer
		ask := func() (status, error) {
			if asked++; asked == 4 {
				cancel()
			}
			return status{PID: asked}, nil
		}
		show := func(s status) ([]byte, error) { return []byte{'0' + byte(s.PID)}, nil }
		if err := showStatus(ctx, &out, true, ask, show); err != nil || out.String() != "123" {
			t.Errorf("%q, %v", out.String(), err)
		}
		gone := errors.New("gone")
		if err := showStatus(t.Context(), &out, true, func() (status, error) { return status{}, gone }, show); !errors.Is(err, gone) {
			t.Errorf("a daemon that is gone: %v", err)
		}
		out.Reset()
		asked = 0
		if err := showStatus(t.Context(), &out, false, ask, show); err != nil || out.String() != "1" {
			t.Errorf("once: %q, %v", out.String(), err)
		}
	})
}
