package discover

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/leaktest"
	"modelfs/source/internal/mounts"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plant makes a tree. A path that ends in "/" is a directory, a content that
// begins with "->" a link's target.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	for rel, content := range files {
		p := filepath.Join(root, rel)
		content = strings.ReplaceAll(content, "$ROOT", root)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		if strings.HasSuffix(rel, "/") {
			must(t, os.MkdirAll(p, 0o755))
		} else if link, ok := strings.CutPrefix(content, "->"); ok {
			must(t, os.Symlink(link, p))
		} else {
			must(t, os.WriteFile(p, []byte(content), 0o644))
		}
	}
	return root
}

// A table is types of filesystems by mount point.
type table map[string]string

// stores are what is found, as "kind dir from", without the root.
func stores(root string, env map[string]string, m table) []string {
	var out []string
	for _, s := range find(func(k string) string { return strings.ReplaceAll(env[k], "$ROOT", root) }, filepath.Join(root, "home"), mounts.New(m)) {
		if !strings.HasPrefix(s.Dir, root) {
			continue // a store of the machine that the test runs on
		}
		line := s.Kind + " " + strings.TrimPrefix(s.Dir, root) + " " + s.From
		if s.Remote != "" {
			line += " on " + s.Remote
		}
		out = append(out, line)
	}
	return out
}

func TestStores(t *testing.T) {
	root := plant(t, map[string]string{
		"home/.cache/huggingface/hub/":     "",
		"home/.cache/llama.cpp/":           "",
		"home/.ollama/models/":             "",
		"home/.cache/modelscope/":          "",
		"home/.docker/models/":             "",
		"home/.lmstudio/models/":           "",
		"home/.cache/lm-studio/models":     "a file",
		"home/.xllm/models/":               "",
		"srv/hf/hub/":                      "",
		"srv/link":                         "->hf/hub",
		"srv/abs":                          "->$ROOT/srv/hf/hub",
		"srv/loop":                         "->loop",
		"srv/new/models--a--b/":            "",
		"srv/node/":                        "",
		"elsewhere/lms/settings.json":      `{"downloadsFolder":"~/big/models"}`,
		"elsewhere/lms/models/":            "",
		"home/big/models/":                 "",
		"net/hub/":                         "",
		"net/home/.cache/huggingface/hub/": "",
	})
	defaults := []string{
		"hfcache /home/.cache/huggingface/hub default", "llamacpp /home/.cache/llama.cpp default", "node /home/.xllm/models default",
		"lmstudio /home/.lmstudio/models default", "modelscope /home/.cache/modelscope default", "ollama /home/.ollama/models default",
		"docker /home/.docker/models default"}
	if d := cmp.Diff(defaults, stores(root, nil, nil)); d != "" {
		t.Errorf("defaults:\n%s", d)
	}
	for label, c := range map[string]struct {
		env   map[string]string
		first []string
		m     table
	}{
		"HF_HOME":                 {env: map[string]string{"HF_HOME": "$ROOT/srv/hf"}, first: []string{"hfcache /srv/hf/hub HF_HOME"}},
		"two names of one place":  {env: map[string]string{"HF_HUB_CACHE": "$ROOT/srv/link", "HF_HOME": "$ROOT/srv/hf", "HUGGINGFACE_HUB_CACHE": "$ROOT/srv/abs"}, first: []string{"hfcache /srv/link HF_HUB_CACHE"}},
		"the default, configured": {env: map[string]string{"HF_HOME": "~/.cache/huggingface"}, first: []string{"hfcache /home/.cache/huggingface/hub HF_HOME"}},
		"not there":               {env: map[string]string{"HF_HOME": "/nonexistent", "OLLAMA_MODELS": "relative", "LLAMA_CACHE": "$ROOT/srv/loop"}},
		"a share that is meant":   {env: map[string]string{"HF_HUB_CACHE": "$ROOT/net/hub/none"}, m: table{"/": "ext4", root + "/net": "nfs4"}, first: []string{"hfcache /net/hub/none HF_HUB_CACHE on nfs4"}},
		"new llama.cpp":           {env: map[string]string{"LLAMA_CACHE": "$ROOT/srv/new"}},
	} {
		got := stores(root, c.env, c.m)
		if len(got) < len(c.first) || cmp.Diff(c.first, got[:len(c.first)]) != "" && c.first != nil {
			t.Errorf("%s: %v, want first %v", label, got, c.first)
		}
		if len(c.first) == 0 && label == "not there" && cmp.Diff(defaults, got) != "" {
			t.Errorf("%s: %v", label, got)
		}
		if label == "new llama.cpp" && got[1] != "hfcache /srv/new LLAMA_CACHE" {
			t.Errorf("%s: %v", label, got)
		}
	}
	must(t, os.WriteFile(filepath.Join(root, "home/.lmstudio-home-pointer"), []byte(root+"/elsewhere/lms\n"), 0o644))
	want := append(append([]string{}, defaults[:3]...), "lmstudio /home/big/models LM Studio's settings", "lmstudio /elsewhere/lms/models default")
	want = append(want, defaults[4:]...)
	if d := cmp.Diff(want, stores(root, nil, nil)); d != "" {
		t.Errorf("LM Studio's pointer:\n%s", d)
	}
}

// A default place on a share is left alone: asking whether it exists could hang.
func TestHomeOnAShare(t *testing.T) {
	root := plant(t, map[string]string{"home/.cache/huggingface/hub/": "", "disk/": ""})
	for _, m := range []table{{"/": "ext4", root + "/home": "nfs"}, {"/": "overlay", root + "/home/.cache": "fuse.sshfs"}, {"/": "nfs4"}} {
		if got := stores(root, nil, m); got != nil {
			t.Errorf("%v: %v", m, got)
		}
	}
	must(t, os.Rename(filepath.Join(root, "home"), filepath.Join(root, "disk/home")))
	must(t, os.Symlink(root+"/disk/home", filepath.Join(root, "home")))
	if got := stores(root, nil, table{"/": "ext4", root + "/disk": "cifs"}); got != nil {
		t.Errorf("through a link: %v", got)
	}
}

// described are layouts as "kind dir less [names]", without the root.
func described(root string, stores []Store) []string {
	var got []string
	for _, s := range stores {
		line := s.Kind + " " + strings.TrimPrefix(s.Dir, root)
		if s.Skip != nil {
			line += fmt.Sprintf(" less %v", s.Skip)
		}
		got = append(got, line)
	}
	return got
}

func TestLayouts(t *testing.T) {
	root := plant(t, map[string]string{
		"hf/hub/models--a--b/refs/main":                       "x",
		"datasets/datasets--a--b/":                            "",
		"ollama/models/manifests/registry.ollama.ai/library/": "",
		"ollama/models/blobs/":                                "",
		"docker/models.json":                                  "{}",
		"docker/layout.json":                                  "{}",
		"docker2/manifests/sha256/":                           "",
		"docker2/blobs/":                                      "",
		"ms/models/a--b/snapshots/":                           "",
		"ms2/hub/models/":                                     "",
		"node/.etag_cache.json":                               "{}",
		"llama/a_b_c.gguf":                                    "w",
		"llama/a_b_c.gguf.etag":                               "e",
		"llama2/manifest=a=b=latest.json":                     "{}",
		".lmstudio/models/pub/model/m.gguf":                   "w",
		"plain/gpt2/model.safetensors":                        "w",
		"plain/org/model/m.gguf":                              "w",
		"empty/":                                              "",
		".ollama/models/manifests/":                           "",
		".ollama/models/blobs/":                               "",
		"mixed/gpt2/model.safetensors":                        "w",
		"mixed/hub/models--a--b/":                             "",
		"mixed/ollama/models/manifests/":                      "",
		"mixed/ollama/models/blobs/":                          "",
		"mixed/models/org/m.gguf":                             "w",
		"huggingface/hub/models--a--b/":                       "",
		"up/huggingface/hub/models--a--b/":                    "",
	})
	for dir, want := range map[string][]string{
		"hf/hub": {"hfcache /hf/hub"}, "datasets": {"hfcache /datasets"}, "ollama/models": {"ollama /ollama/models"},
		"docker": {"docker /docker"}, "docker2": {"docker /docker2"}, "node": {"node /node"},
		"llama": {"llamacpp /llama"}, "llama2": {"llamacpp /llama2"}, ".lmstudio/models": {"lmstudio /.lmstudio/models"},
		"plain": {" /plain"}, "plain/org": {" /plain/org"}, "empty": {" /empty"}, "none": {" /none"},
		// A store in a directory is beside what else the directory holds,
		"hf":     {" /hf less [hub]", "hfcache /hf/hub"},
		"ollama": {" /ollama less [models]", "ollama /ollama/models"},
		"mixed":  {" /mixed less [hub ollama]", "hfcache /mixed/hub", "ollama /mixed/ollama/models"},
		"up":     {" /up less [huggingface]", "hfcache /up/huggingface/hub"},
		"ms":     {" /ms less [hub models]", "modelscope /ms"},
		"ms2":    {" /ms2 less [hub models]", "modelscope /ms2"},
		// unless the directory is the tool's own.
		".lmstudio": {"lmstudio /.lmstudio/models"}, ".ollama": {"ollama /.ollama/models"}, "huggingface": {"hfcache /huggingface/hub"},
	} {
		if d := cmp.Diff(want, described(root, Layouts(filepath.Join(root, dir)))); d != "" {
			t.Errorf("Layouts(%s):\n%s", dir, d)
		}
	}
}

// Also what a store is, is found out without a look at a share that its
// directories lead to.
func TestAStoreThatLeadsToAShare(t *testing.T) {
	root := plant(t, map[string]string{"cache/blobs/": "", "cache/manifests": "->$ROOT/net/manifests", "net/manifests/sha256/": ""})
	for kind, m := range map[string]table{Docker: {"/": "ext4"}, Ollama: {"/": "ext4", root + "/net": "nfs4"}} {
		want := kind + " /cache LLAMA_CACHE"
		if got := stores(root, map[string]string{"LLAMA_CACHE": root + "/cache"}, m); len(got) == 0 || got[0] != want {
			t.Errorf("%v: %v, want %s", m, got, want)
		}
	}
}

// In a directory of this machine nothing is looked at that lies on a network
// filesystem, but for the one that the directory itself is on.
func TestLocalLayouts(t *testing.T) {
	root := plant(t, map[string]string{
		"mixed/gpt2/model.safetensors":        "w",
		"mixed/hub":                           "->$ROOT/net/hub",
		"mixed/ollama/models":                 "->../../net/ollama/models",
		"mixed/huggingface/hub/models--a--b/": "",
		"net/hub/models--a--b/":               "",
		"net/ollama/models/manifests/":        "",
		"net/ollama/models/blobs/":            "",
		"net/mixed/hub/models--a--b/":         "",
	})
	plain := mounts.New(table{"/": "ext4", root + "/net": "nfs4", root + "/mixed/gpt2": "cifs"})
	nested := mounts.New(table{"/": "virtiofs", root: "autofs", root + "/net": "nfs4", root + "/mixed": "xfs", root + "/mixed/gpt2": "cifs"})
	for dir, want := range map[string][]string{
		"mixed":     {" /mixed less [huggingface]", "hfcache /mixed/huggingface/hub"},
		"net/mixed": {" /net/mixed less [hub]", "hfcache /net/mixed/hub"},
		"mixed/hub": {"hfcache /mixed/hub"},
	} {
		home, err := filepath.EvalSymlinks(filepath.Join(root, dir))
		if err != nil {
			t.Fatal(err)
		}
		for way, table := range map[string]*mounts.Table{"directly": plain, "below an automount": nested} {
			if d := cmp.Diff(want, described(root, eye{table, home}.layouts(filepath.Join(root, dir)))); d != "" {
				t.Errorf("%s, %s:\n%s", dir, way, d)
			}
		}
	}
	for _, dir := range []string{root, root + "/net"} { // no table: on this machine both are here
		if d := cmp.Diff(Layouts(dir), LocalLayouts(dir)); d != "" {
			t.Errorf("%s:\n%s", dir, d)
		}
	}
}
