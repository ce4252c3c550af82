package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"modelfs/cmd/modelfs/config"
	"modelfs/fs"
	"modelfs/internal/model"
)

// startTest starts a daemon of this process. The test must not use its mount.
func startTest(t *testing.T, vars map[string]string) (*daemon, error) {
	t.Helper()
	vars["MODELFS_NO_DISCOVER"] = "1"
	env := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	cfg, err := config.Load(config.System{Env: env, Root: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return startDaemon(cfg, t.TempDir(), slog.New(slog.DiscardHandler), nil, fs.Mount)
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return rec.Code, rec.Body.String()
}

// The pages say whether the mount is there, and a stopped daemon leaves
// nothing running.
func TestPages(t *testing.T) {
	d, err := startTest(t, map[string]string{"MODELFS_CACHE": t.TempDir(), "MODELFS_LISTEN": "127.0.0.1:0",
		"MODELFS_LOCAL": t.TempDir(), "MODELFS_SHARED": t.TempDir(), "MODELFS_ROUTER": "http://127.0.0.1:1", "HF_TOKEN": "hf_hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	pages := d.pages()
	for path, want := range map[string]string{
		"/healthz": "ok",
		"/metrics": `modelfs_source_up{source="router:http://127.0.0.1:1"} 1`,
		"/":        `"id": "hub:https://huggingface.co"`,
	} {
		code, body := get(t, pages, path)
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d without %q: %s", path, code, want, body)
		}
		if strings.Contains(body, "hunter2") {
			t.Errorf("%s shows a token", path)
		}
	}
	if code, _ := get(t, pages, "/etc/passwd"); code != http.StatusNotFound {
		t.Errorf("another page is %d", code)
	}
	if err := d.stop(false); err != nil {
		t.Fatal(err)
	}
	if code, _ := get(t, pages, "/healthz"); code != http.StatusServiceUnavailable {
		t.Errorf("without a mount the health is %d", code)
	}
}

// A start that fails closes what it has opened: the next one gets the lock.
func TestFailedStartLeavesNothing(t *testing.T) {
	cache := t.TempDir()
	for _, vars := range []map[string]string{
		{"MODELFS_CACHE": cache, "MODELFS_LISTEN": "127.0.0.1:bad"},
		{"MODELFS_CACHE": cache, "MODELFS_CA_FILE": "/nonexistent.pem"},
		{"MODELFS_CACHE": cache, "MODELFS_ALLOW": "ftp://x"},
	} {
		d, err := startTest(t, vars)
		if err == nil {
			t.Errorf("%v: started: %v", vars, d.stop(false))
		}
		if model.IsKind(err, model.InUse) {
			t.Errorf("%v: the one before kept the lock: %v", vars, err)
		}
	}
	d, err := startTest(t, map[string]string{"MODELFS_CACHE": cache})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.stop(false); err != nil {
		t.Error(err)
	}
}
