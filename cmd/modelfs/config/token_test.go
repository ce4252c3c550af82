package config

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const secret = "hf_hunter2"

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The Hub's own tools look in these places in this order.
func TestHubTokenPlaces(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/path", "from-path\n")
	write(t, dir+"/home/token", " from-home \r\n")
	write(t, dir+"/xdg/huggingface/token", "from-xdg")
	write(t, dir+"/user/.cache/huggingface/token", "from-user")
	all := []string{"HOME=" + dir + "/user", "XDG_CACHE_HOME=" + dir + "/xdg", "HF_HOME=" + dir + "/home",
		"HF_TOKEN_PATH=" + dir + "/path", "HUGGING_FACE_HUB_TOKEN=from-old", "HF_TOKEN=from-env"}
	want := []string{"from-user", "from-xdg", "from-home", "from-path", "from-old", "from-env"}
	for i := range all {
		c, err := Load(system(all[:i+1]...), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.HubToken.Value()
		if err != nil || got != want[i] {
			t.Errorf("with %v: got %q, %v, want %q", all[:i+1], got, err, want[i])
		}
	}
}

func TestTokenFollowsItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	c, err := Load(system("HF_TOKEN_PATH="+path), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"", "one", "two"} {
		if want != "" {
			write(t, path, want+"\n")
		}
		if got, err := c.HubToken.Value(); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

func TestRouterToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "from-file")
	tests := []struct {
		env  []string
		args []string
		want string
		fail bool
	}{
		{want: ""},
		{env: []string{"LLM_NODE_API_KEY=old"}, want: "old"},
		{env: []string{"LLM_NODE_API_KEY=old"}, args: []string{"--router-token-file", path}, want: "from-file"},
		{env: []string{"MODELFS_ROUTER_TOKEN=env"}, args: []string{"--router-token-file", path}, want: "env"},
		{args: []string{"--router-token-file", path + ".missing"}, fail: true},
		{env: []string{"MODELFS_ROUTER_TOKEN=a\nX-Injected: b"}, fail: true},
	}
	for _, tt := range tests {
		c, err := Load(system(tt.env...), parseFlags(t, tt.args...))
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.RouterToken.Value()
		if got != tt.want || (err != nil) != tt.fail {
			t.Errorf("%v %v: got %q, %v", tt.env, tt.args, got, err)
		}
	}
}

func TestBadTokenFiles(t *testing.T) {
	for name, text := range map[string]string{"words": "not a token", "huge": strings.Repeat("x", maxToken+1), "binary": "a\x00b"} {
		path := filepath.Join(t.TempDir(), name)
		write(t, path, text)
		c, err := Load(system("HF_TOKEN_PATH="+path), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.HubToken.Value(); err == nil || strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

// However a Config is printed, a token does not show.
func TestTokensDontShow(t *testing.T) {
	c, err := Load(system("HF_TOKEN="+secret, "MODELFS_ROUTER_TOKEN="+secret), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("configuration", "config", c, "token", c.HubToken)
	}
	fmt.Fprintf(&out, "%v %+v %#v %s", c, c, c, c.HubToken)
	fmt.Fprintf(&out, "%v %+v %#v", *c.HubToken, *c.HubToken, *c.HubToken)
	if strings.Contains(out.String(), secret) {
		t.Errorf("a token shows in %s", out.String())
	}
	if !strings.Contains(out.String(), "$HF_TOKEN") {
		t.Errorf("where the token comes from does not show in %s", out.String())
	}
}
