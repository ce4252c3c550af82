package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// system is a machine with nothing but these variables ("NAME=value").
func system(vars ...string) System {
	env := make(map[string]string)
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return System{Root: true, Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
}

func parseFlags(t *testing.T, args ...string) *Flags {
	t.Helper()
	var f Flags
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.Add(fs, system())
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &f
}

// file writes a config file and returns its name.
func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestPrecedence(t *testing.T) {
	text := "local: [/file]\nmax_fills: 2\nhf_endpoint: https://file\nlookup_timeout: 2s\nquant: [Q2_K]\ncache_size: 2GB\n"
	tests := []struct {
		name string
		env  []string
		file string
		args []string
		get  func(*Config) any
		want any
	}{
		{name: "default", get: func(c *Config) any { return c.MaxFills }, want: 1},
		{name: "file", file: text, get: func(c *Config) any { return c.MaxFills }, want: 2},
		{name: "env over file", file: text, env: []string{"MODELFS_MAX_FILLS=3"}, get: func(c *Config) any { return c.MaxFills }, want: 3},
		{name: "flag over env", file: text, env: []string{"MODELFS_MAX_FILLS=3"}, args: []string{"--max-fills=4"},
			get: func(c *Config) any { return c.MaxFills }, want: 4},
		{name: "old name under new name", env: []string{"LLM_DL_CONCURRENCY=5", "MODELFS_MAX_FILLS=3"},
			get: func(c *Config) any { return c.MaxFills }, want: 3},
		{name: "old name over file", file: text, env: []string{"LLM_DL_CONCURRENCY=5"}, get: func(c *Config) any { return c.MaxFills }, want: 5},

		{name: "list from file", file: text, get: func(c *Config) any { return c.Local }, want: []string{"/file"}},
		{name: "list replaced, not appended to", file: text, env: []string{"MODELFS_LOCAL=/a, /b,"},
			get: func(c *Config) any { return c.Local }, want: []string{"/a", "/b"}},
		{name: "repeated flag", file: text, env: []string{"MODELFS_LOCAL=/a"}, args: []string{"--local", "/x,y", "--local=/z"},
			get: func(c *Config) any { return c.Local }, want: []string{"/x,y", "/z"}},
		{name: "default list replaced by file", file: text, get: func(c *Config) any { return c.Quant }, want: []string{"Q2_K"}},
		{name: "quant splits on the command line", args: []string{"--quant", "Q8_0, Q6_K"},
			get: func(c *Config) any { return c.Quant }, want: []string{"Q8_0", "Q6_K"}},
		{name: "empty list in file", file: "cold_deny: []\n", get: func(c *Config) any { return len(c.ColdDeny) }, want: 0},

		{name: "duration from file", file: text, get: func(c *Config) any { return c.LookupTimeout }, want: Duration{2 * time.Second}},
		{name: "size from file", file: text, get: func(c *Config) any { return c.CacheSize }, want: Size(2_000_000_000)},
		{name: "size as a number", file: "cache_size: 1048576\n", get: func(c *Config) any { return c.CacheSize }, want: Size(1 << 20)},
		{name: "size with a binary unit", args: []string{"--cache-size=1GiB"}, get: func(c *Config) any { return c.CacheSize }, want: Size(1 << 30)},
		{name: "empty variable is unset", env: []string{"MODELFS_MAX_FILLS=", "MODELFS_LOCAL= , ", "XLLM_MODELS_DIR=/old"},
			get: func(c *Config) any { return c.Local }, want: []string{"/old"}},

		{name: "backends by default", get: func(c *Config) any { return c.Backend }, want: "auto"},
		{name: "backends", file: "backend: rocm\n", args: []string{"--backend", "cuda, vulkan", "--backend=cpu"},
			get: func(c *Config) any { return c.Backend }, want: "cuda,vulkan,cpu"},
		{name: "backends by variable", file: "backend: rocm\n", env: []string{"MODELFS_BACKEND=metal, cpu"},
			get: func(c *Config) any { return c.Backend }, want: "metal,cpu"},
		{name: "discovery by default", get: func(c *Config) any { return c.NoDiscover }, want: false},
		{name: "no discovery by flag", args: []string{"--no-discover"}, get: func(c *Config) any { return c.NoDiscover }, want: true},
		{name: "discovery by flag", file: "no_discover: true\n", args: []string{"--no-discover=false"}, get: func(c *Config) any { return c.NoDiscover }, want: false},
		{name: "no discovery by variable", env: []string{"MODELFS_NO_DISCOVER=on"}, get: func(c *Config) any { return c.NoDiscover }, want: true},
		{name: "no discovery by file", file: "no_discover: true\n", get: func(c *Config) any { return c.NoDiscover }, want: true},

		{name: "hub by default", get: func(c *Config) any { return c.HFEndpoint }, want: "https://huggingface.co"},
		{name: "hub without slash", env: []string{"HF_ENDPOINT=https://mirror/path/"}, get: func(c *Config) any { return c.HFEndpoint }, want: "https://mirror/path"},
		{name: "no hub by flag", file: text, args: []string{"--hf-endpoint="}, get: func(c *Config) any { return c.HFEndpoint }, want: ""},
		{name: "no hub by variable", file: text, env: []string{"MODELFS_HF_ENDPOINT="}, get: func(c *Config) any { return c.HFEndpoint }, want: ""},
		{name: "no hub by file", file: "hf_endpoint: \"\"\n", get: func(c *Config) any { return c.HFEndpoint }, want: ""},
		{name: "empty HF_ENDPOINT says nothing", env: []string{"HF_ENDPOINT="}, get: func(c *Config) any { return c.HFEndpoint }, want: "https://huggingface.co"},
		{name: "offline", file: text, env: []string{"HF_HUB_OFFLINE=1", "HF_ENDPOINT=https://mirror"},
			get: func(c *Config) any { return c.HFEndpoint }, want: ""},
		{name: "offline, old name", env: []string{"TRANSFORMERS_OFFLINE=yes"}, get: func(c *Config) any { return c.HFEndpoint }, want: ""},
		{name: "offline switched off", env: []string{"HF_HUB_OFFLINE=0"}, get: func(c *Config) any { return c.HFEndpoint }, want: "https://huggingface.co"},
		{name: "own variable over offline", env: []string{"HF_HUB_OFFLINE=1", "MODELFS_HF_ENDPOINT=https://own"},
			get: func(c *Config) any { return c.HFEndpoint }, want: "https://own"},
		{name: "HF_BASE_URL", env: []string{"HF_BASE_URL=https://base"}, get: func(c *Config) any { return c.HFEndpoint }, want: "https://base"},
		{name: "HF_ENDPOINT over HF_BASE_URL", env: []string{"HF_BASE_URL=https://base", "HF_ENDPOINT=https://end"},
			get: func(c *Config) any { return c.HFEndpoint }, want: "https://end"},
		{name: "empty file", env: []string{"MODELFS_CONFIG=/dev/null"}, get: func(c *Config) any { return c.Fill }, want: FillAuto},
		{name: "file of comments", file: "# nothing\n\n# yet\n", get: func(c *Config) any { return c.Fill }, want: FillAuto},
		{name: "null document", file: "---\n~\n", get: func(c *Config) any { return c.Fill }, want: FillAuto},
		{name: "key without value", file: "fill:\n", get: func(c *Config) any { return c.Fill }, want: FillAuto},
		{name: "config file by variable", env: []string{"MODELFS_CONFIG=" + file(t, "max_fills: 9")}, get: func(c *Config) any { return c.MaxFills }, want: 9},
		{name: "config file by flag", env: []string{"MODELFS_CONFIG=/nonexistent"}, args: []string{"--config", file(t, "max_fills: 8")},
			get: func(c *Config) any { return c.MaxFills }, want: 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sys := system(tt.env...)
			if tt.file != "" {
				sys.File = file(t, tt.file)
			}
			c, err := Load(sys, parseFlags(t, tt.args...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, tt.get(c)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// Each old name sets what it says, and the first of several wins.
func TestOldNames(t *testing.T) {
	tests := []struct {
		env  []string
		get  func(*Config) any
		want any
	}{
		{[]string{"XLLM_ORIGIN_ALLOWLIST=a.example/*, b", "LLM_ORIGIN_ALLOWLIST=c"}, func(c *Config) any { return c.Allow }, []string{"a.example/*", "b"}},
		{[]string{"LLM_NODE_ORIGIN_ALLOWLIST=n"}, func(c *Config) any { return c.Allow }, []string{"n"}},
		{[]string{"LLM_ORIGIN_ALLOWLIST=o"}, func(c *Config) any { return c.Allow }, []string{"o"}},
		{[]string{"LLM_ORIGIN_ALLOWLIST= ,"}, func(c *Config) any { return c.Allow }, []string(nil)},
		{[]string{"LLM_NODE_MODELS_DIR=/n", "LLM_MODELS_DIR=/m"}, func(c *Config) any { return c.Local }, []string{"/n"}},
		{[]string{"LLM_MODELS_DIR=/m"}, func(c *Config) any { return c.Local }, []string{"/m"}},
		{[]string{"LLM_NODE_SHARED_MODELS_DIR=/s", "LLM_SHARED_MODELS_DIR=/t"}, func(c *Config) any { return c.Shared }, []string{"/s"}},
		{[]string{"LLM_SHARED_MODELS_DIR=/t"}, func(c *Config) any { return c.Shared }, []string{"/t"}},
		{[]string{"LLM_ROUTER_URL=http://127.0.0.1:8080/"}, func(c *Config) any { return c.Router }, "http://127.0.0.1:8080"},
		{[]string{"LLM_NODE_API_KEY=sk_x"}, func(c *Config) any { return c.RouterToken.String() }, "$LLM_NODE_API_KEY"},
		{[]string{"LLM_AUTO_REPAIR=true", "LLM_DL_TIMEOUT_MS=1"}, func(c *Config) any { return c.ReadTimeout }, Duration{5 * time.Minute}},
	}
	for _, tt := range tests {
		t.Run(tt.env[0], func(t *testing.T) {
			c, err := Load(system(tt.env...), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, tt.get(c)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name string
		env  []string
		file string
		args []string
		want string // in the message
	}{
		{name: "unknown key", file: "local: [/a]\nlocals: [/b]\n", want: "[2:1] unknown field"},
		{name: "key that is nearly right", file: "max_fills: 1\ncach_size: 5GB\n", want: `[2:1] unknown field "cach_size"; did you mean "cache_size"?`},
		{name: "key that is nothing", file: "frobnicate: 1\n", want: `unknown field "frobnicate"`},
		{name: "one directory for a list", file: "local: /srv\n", want: "[1:8] a list is wanted here, such as [a, b]"},
		{name: "a word for a bool", file: "no_discover: yes\n", want: "[1:14] true or false is wanted here"},
		{name: "a word for a number", file: "uid: nobody\n", want: "[1:6] a number is wanted here"},
		{name: "not keys", file: "modelfs\n", want: "[1:1] keys with values are wanted here, such as log_level: info"},
		{name: "place of an alias", file: "models: {x: {hf: nope/a/b}}\n", want: "[1:1] models: x: hf:"},
		{name: "misspelt key of an alias", file: "models:\n  x:\n    hff: a/b\n", want: "[3:5] unknown field"},
		{name: "wrong type", file: "max_fills: [1]\n", want: "[1:12]"},
		{name: "not YAML", file: "local: [/a\n", want: "[1:"},
		{name: "key twice", file: "router: http://a\nrouter: http://b\n", want: "[2:1]"},
		{name: "two documents", file: "max_fills: 1\n---\nmax_fills: 2\n", want: "more than one document"},
		{name: "bad size in file", file: "cache_size: lots\n", want: `[1:13] "lots" is not a size`},
		{name: "bad duration in file", file: "read_timeout: soon\n", want: `[1:15] "soon" is not a duration`},
		{name: "list as a duration", file: "read_timeout: [1s]\n", want: "[1:15] a single value"},
		{name: "named file that is not there", env: []string{"MODELFS_CONFIG=/nonexistent/c.yaml"}, want: "/nonexistent/c.yaml"},
		{name: "bad number in a variable", env: []string{"MODELFS_MAX_FILLS=many"}, want: `$MODELFS_MAX_FILLS: "many" is not a number`},
		{name: "bad number in an old variable", env: []string{"LLM_DL_CONCURRENCY=0"}, want: "$LLM_DL_CONCURRENCY: 0 is not between 1 and 64"},
		{name: "fill", env: []string{"MODELFS_FILL=never"}, want: `$MODELFS_FILL: "never" is none of auto, touched`},
		{name: "fallback", file: "fallback: maybe\n", want: `[1:1] fallback: "maybe"`},
		{name: "on-stop", args: []string{"--on-stop=hide"}, want: `--on-stop: "hide"`},
		{name: "log level", args: []string{"--log-level=loud"}, want: `--log-level: "loud"`},
		{name: "log format", args: []string{"--log-format=xml"}, want: `--log-format: "xml"`},
		{name: "too many fills", args: []string{"--max-fills=65"}, want: "65 is not between 1 and 64"},
		{name: "no time", args: []string{"--lookup-timeout=0s"}, want: "--lookup-timeout: 0s is not between 10ms and 1m"},
		{name: "empty dir", args: []string{"--local="}, want: "--local: an empty path"},
		{name: "downloads into a tree", args: []string{"--shared=/s", "--cache=/s/"}, want: "--cache: /s is a tree, too (--shared)"},
		{name: "no scheme", args: []string{"--router=router:8080"}, want: "--router: not a base URL"},
		{name: "file URL", args: []string{"--hf-endpoint=file:///etc"}, want: "--hf-endpoint: not a base URL"},
		{name: "password in URL", args: []string{"--router=http://u:hunter2@r"}, want: "--router: a URL with a user"},
		{name: "query in URL", args: []string{"--router=http://r?key=hunter2"}, want: "no query"},
		{name: "listen", args: []string{"--listen=9090"}, want: "--listen: "},
		{name: "no user's number", args: []string{"--uid=4294967295"}, want: "--uid: 4294967295 is no user's"},
		{name: "no group's number", file: "log_level: info\ngid: -2\n", want: "[2:1] gid: -2 is no"},
		{name: "a user's name", args: nil, env: []string{"MODELFS_UID=nobody"}, want: `$MODELFS_UID: "nobody" is not a number`},
		{name: "alias without repository", file: "models: {llama3: {revision: main}}\n", want: "models: llama3: hf: "},
		{name: "alias that no model can have", file: "models: {../x: {hf: a/b}}\n", want: `models: "../x" can't be an alias`},
		{name: "alias with a quantisation", file: "models: {\"x:Q4\": {hf: a/b}}\n", want: `models: "x:Q4" can't be an alias`},
		{name: "alias with a bad pattern", file: "models: {x: {hf: a/b, files: [\"[\"]}}\n", want: "files: "},
		{name: "confined to nothing that exists", file: "sources: {\"acme/*\": [nfs]}\n", want: `"nfs" is not local`},
		{name: "confined by a bad pattern", file: "sources: {\"[\": [local]}\n", want: "is not a pattern"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sys := system(tt.env...)
			if tt.file != "" {
				sys.File = file(t, tt.file)
			}
			c, err := Load(sys, parseFlags(t, tt.args...))
			if err == nil {
				t.Fatalf("no error, but %+v", c)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not contain %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q shows a secret", err)
			}
			if sys.File != "" && strings.HasPrefix(tt.want, "[") && !strings.Contains(err.Error(), sys.File) {
				t.Errorf("error %q does not name the file", err)
			}
		})
	}
}

// A secret that was put into the config file is refused there, and the message
// does not repeat it.
func TestSecretInFile(t *testing.T) {
	sys := system()
	sys.File = file(t, "hf_token: hf_hunter2\n")
	_, err := Load(sys, nil)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the secret", err)
	}
}

func TestPathsAreAbsolute(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("link_targets: [f]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(system(), parseFlags(t, "--config="+file, "--local=a", "--shared=./b", "--cache=c", "--ca-file=d", "--router-token-file=e"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{c.Local[0], c.Shared[0], c.LinkTargets[0], c.Cache, c.CAFile, c.RouterTokenFile} {
		if !filepath.IsAbs(p) {
			t.Errorf("%s is not absolute", p)
		}
	}
}

// Nobody else's machine, and nobody but the operator's choice of users: what is
// not said is the narrow thing.
func TestWhoIsLetIn(t *testing.T) {
	for _, tt := range []struct {
		root     bool
		args     []string
		listen   string
		others   bool
		uid, gid int
	}{
		{root: true, others: true, uid: Own, gid: Own},
		{uid: Own, gid: Own},
		{args: []string{"--allow-other", "--uid=0", "--gid=4294967294"}, others: true, gid: 1<<32 - 2},
		{root: true, args: []string{"--allow-other=false", "--listen=:9090"}, listen: "127.0.0.1:9090", uid: Own, gid: Own},
		{args: []string{"--listen=0.0.0.0:9090"}, listen: "0.0.0.0:9090", uid: Own, gid: Own},
		{args: []string{"--listen=[::]:9090"}, listen: "[::]:9090", uid: Own, gid: Own},
	} {
		sys := system("HOME=/home/x")
		sys.Root = tt.root
		c, err := Load(sys, parseFlags(t, tt.args...))
		if err != nil {
			t.Fatal(err)
		}
		if c.AllowOther != tt.others || c.Listen != tt.listen || c.UID != tt.uid || c.GID != tt.gid {
			t.Errorf("root %v, %v: others %v, listen %q, uid %d, gid %d", tt.root, tt.args, c.AllowOther, c.Listen, c.UID, c.GID)
		}
	}
}

func TestDefaultCache(t *testing.T) {
	tests := []struct {
		root bool
		env  []string
		want string
	}{
		{root: true, env: []string{"HOME=/root"}, want: "/var/lib/modelfs"},
		{env: []string{"HOME=/home/u"}, want: "/home/u/.cache/modelfs"},
		{env: []string{"HOME=/home/u", "XDG_CACHE_HOME=/x"}, want: "/x/modelfs"},
		{want: ""},
	}
	for _, tt := range tests {
		sys := system(tt.env...)
		sys.Root = tt.root
		c, err := Load(sys, nil)
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("%v: no error, but %s", tt, c.Cache)
		case tt.want != "" && (err != nil || c.Cache != tt.want):
			t.Errorf("%v: got %+v, %v", tt, c, err)
		}
	}
}

func TestFlagRefusesAtOnce(t *testing.T) {
	var f Flags
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.Add(fs, system())
	err := fs.Parse([]string{"--read-timeout", "soon"})
	if err == nil || !strings.Contains(err.Error(), `"--read-timeout" flag: "soon" is not a duration`) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"", "local: [/a]\n", "max_fills: 1\n", "cache_size: 1.5TiB\n", "read_timeout: 5m\n",
		"models: {llama3: {hf: org/repo, revision: abc, files: [\"*Q4_K_M*.gguf\"]}}\n", "sources: {\"acme/*\": [shared]}\n",
		"cold_deny:\n- updatedb\n", "a: &a [*a]\n", "\x00", "? {a: b}\n", "---\n---\n", "models:\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := defaults(system())
		places(data)
		if c.decode(data) != nil || c.finish() != nil {
			return
		}
		if c.MaxFills < 1 || c.LookupTimeout.Duration <= 0 || c.CacheSize < 0 || !filepath.IsAbs(c.Cache) {
			t.Errorf("accepted %+v", c)
		}
		for name := range c.Models {
			if strings.Contains(name, "..") && strings.Contains(name, "/") {
				t.Errorf("accepted the alias %q", name)
			}
		}
	})
}
