package integration

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// Everything that engines do with a file they may not have ends with EACCES
// at open or before, and never with a signal.
func TestGatedWithoutAccess(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		env  []string
	}{{"anonymous", nil}, {"with a token that has no access", []string{"HF_TOKEN=hf_stranger"}}, {"with a bad token", []string{"HF_TOKEN=hf_nobody"}}} {
		t.Run(c.name, func(t *testing.T) {
			hub := hubtest.New(t)
			gated := hubRepo("org/gated", pattern{1, 70_000})
			gated.Gated = "auto"
			hub.AddRepo(gated)
			hub.AddRepo(hubRepo("org/open", pattern{3, 70_000}))
			hub.Grant("hf_stranger")
			d := start(t, append(c.env, hubFlags(hub)...)...)
			for _, file := range []string{"model.gguf", "m-Q4_K_M.gguf"} {
				wantDenied(t, d.path("org/gated", file))
			}
			checkReads(t, d.path("org/open/model.gguf"), pattern{3, 70_000})
			if n := hub.BytesSent("org/gated/*.gguf"); n != 0 {
				t.Errorf("%d bytes of a gated file were sent", n)
			}
		})
	}
}

// wantDenied reads a file in every way; none may get further than open.
func wantDenied(t testing.TB, path string) {
	t.Helper()
	for how := range ways {
		out, err := reader(path, pattern{1, 70_000}, how).CombinedOutput()
		text := string(out)
		if err == nil || !strings.Contains(strings.ToLower(text), "permission denied") || strings.Contains(text, "fault") {
			t.Errorf("%s of %s: %v, %s", how, path, err, text)
		}
	}
}

func TestARouterThatHasAGatedModelIsAsked(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{"anonymous": nil, "with a token that has no access": {"HF_TOKEN=hf_stranger"}} {
		t.Run(name, func(t *testing.T) {
			hub, router := hubtest.New(t), oldRouter(t)
			gated := hubRepo("single", pattern{1, 70_000})
			gated.Gated = "auto"
			hub.AddRepo(gated)
			hub.Grant("hf_stranger")
			router.SetModel(routerModel("single", pattern{4, 70_000}))
			d := start(t, append(env, append(hubFlags(hub), "--router", router.URL())...)...)
			checkReads(t, d.path("single/model.gguf"), pattern{4, 70_000})
			if text := jsonText(d.control("explain/single.json")); !strings.Contains(text, "denied") {
				t.Errorf("explain does not say that the Hub denied it: %s", text)
			}
		})
	}
}

// A router that points at a file that the Hub refuses and at one that it does
// not: both are listed, and only the first one can't be opened.
func TestARouterThatPointsAtAGatedFile(t *testing.T) {
	hub := hubtest.New(t)
	router := hubtest.NewRouter(t, hubtest.RouterConfig{Gen: hubtest.NewGen, Open: true})
	gated := hubRepo("org/gated", pattern{1, 70_000})
	gated.Gated = "auto"
	hub.AddRepo(gated)
	hub.AddRepo(hubRepo("org/open", pattern{3, 70_000}))
	router.SetModel(hubtest.RouterModel{Name: "m", Format: "gguf", Files: []hubtest.RouterFile{
		{Name: "gated.gguf", URL: hub.ResolveURL("org/gated", "main", "m-Q4_K_M.gguf")},
		{Name: "open.gguf", URL: hub.ResolveURL("org/open", "main", "m-Q4_K_M.gguf")}}})
	d := start(t, append(hubFlags(hub), "--router", router.URL())...)
	if got := inside(t, d.path("m")); !slices.Contains(got, "gated.gguf") || !slices.Contains(got, "open.gguf") {
		t.Errorf("the model has %q", got)
	}
	wantDenied(t, d.path("m/gated.gguf"))
	checkReads(t, d.path("m/open.gguf"), pattern{3, 70_000})
	hub.SentAtMost(t, "org/open/m-Q4_K_M.gguf", 1)
}

func TestGatedWithAccess(t *testing.T) {
	hub := hubtest.New(t)
	gated := hubRepo("org/gated", pattern{1, 70_000})
	gated.Gated = "auto"
	hub.AddRepo(gated)
	private := hubRepo("org/private", pattern{2, 70_000})
	private.Private = true
	hub.AddRepo(private)
	hub.Grant("hf_friend", "*")
	d := start(t, append([]string{"HF_TOKEN=hf_friend"}, hubFlags(hub)...)...)
	checkReads(t, d.path("org/gated/model.gguf"), pattern{1, 70_000})
	checkReads(t, d.path("org/private/model.gguf"), pattern{2, 70_000})
	if strings.Contains(d.stderr.String(), "hf_friend") {
		t.Error("the token is in the log")
	}
}

// Private and missing look the same to a stranger: 401 without a code.
func TestAnonymous401IsAbsent(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 70_000}))
	private := hubRepo("org/private", pattern{2, 70_000})
	private.Private = true
	hub.AddRepo(private)
	d := start(t, hubFlags(hub)...)
	wantProbe(t, d.path("org/private"), syscall.ENOENT)
	wantProbe(t, d.path("org/missing"), syscall.ENOENT)
	wantProbe(t, d.path("missing"), syscall.ENOENT)
	answered := false
	for _, q := range hub.Requests(hubtest.Filter{Host: hubtest.AtHub, Path: "/api/models/org/missing"}) {
		answered = answered || q.Status == 401
	}
	if !answered {
		t.Error("the Hub did not answer 401, so this test shows nothing")
	}
}

// Access that ends between the listing and the first open is noticed at open.
func TestAccessThatEndsIsNoticedAtOpen(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 70_000}))
	d := start(t, hubFlags(hub)...)
	wantProbe(t, d.path("org/m/m-Q4_K_M.gguf"), 0)
	hub.Fault(hubtest.Filter{Host: hubtest.AtHub, Path: "*/resolve/*"}, hubtest.Always(),
		hubtest.Status(403, map[string][]string{"X-Error-Code": {"GatedRepo"}}, "restricted"))
	within(t, "an open that is refused", 10*time.Second, func() { wantDenied(t, d.path("org/m/m-Q4_K_M.gguf")) })
}
