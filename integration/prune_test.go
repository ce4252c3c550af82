package integration

import (
	"cmp"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// checkPruned removes the files of a store, as its tool would, while they are
// open and listed: the open ones keep their bytes, the names are gone.
func checkPruned(t *testing.T, d *daemon, dir string, want map[string]pattern) {
	t.Helper()
	held := make(map[string]*os.File)
	for file := range want {
		f, err := os.Open(d.path(file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		held[file] = f
	}
	for _, w := range slices.Compact(slices.SortedFunc(maps.Values(want), func(a, b pattern) int { return cmp.Compare(a.seed, b.seed) })) {
		prune(t, dir, w)
	}
	for file, w := range want {
		checkContent(t, file, held[file], w)
		_, err := os.Open(d.path(file))
		wantErrno(t, file+", which was pruned", err, syscall.ENOENT)
	}
}

// prune removes what has the content from a store.
func prune(t testing.TB, dir string, w pattern) {
	t.Helper()
	removed := 0
	for _, f := range files(t, dir) {
		data, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(data)) == w.size && sha256Of(data) == sha256Of(w.bytes()) {
			if err := os.Remove(filepath.Join(dir, f)); err != nil {
				t.Fatal(err)
			}
			removed++
		}
	}
	if removed == 0 {
		t.Errorf("the store has no such file")
	}
}

// checkContent reads an open file to its end and compares it.
func checkContent(t testing.TB, what string, f *os.File, w pattern) {
	t.Helper()
	if got, err := io.ReadAll(f); err != nil || sha256Of(got) != sha256Of(w.bytes()) {
		t.Errorf("%s: %d bytes of %d, %v", what, len(got), w.size, err)
	}
}

// A model that its tool removes is the Hub's from then on, under the same
// name, with the Hub's bytes.
func TestPrunedIsTheNextSources(t *testing.T) {
	t.Parallel()
	old, now := pattern{71, 3 << 20}, pattern{72, 3<<20 + 1}
	for name, c := range map[string]struct {
		env, at, remove string
		store           map[string]any
	}{
		"hfcache":  {"HF_HOME", "hub", "models--org--m", snapshotOf("org/m", commit, map[string]any{"model.safetensors": old})},
		"lmstudio": {"", ".lmstudio/models", "org/m", map[string]any{"org/m/model.safetensors": old, "org/m/config.json": "{}"}},
	} {
		t.Run(name, func(t *testing.T) {
			hub, home := hubtest.New(t), tempDir(t, "home")
			hub.AddRepo(plainRepo("org/m", now))
			dir := filepath.Join(home, c.at)
			plant(t, dir, c.store)
			env := discovering(t, home)
			if c.env != "" {
				env = append(env, c.env+"="+home)
			}
			d := start(t, append(env, hubFlags(hub)...)...)
			file := d.path("org/m/model.safetensors")
			held, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			checkReads(t, file, old)
			if err := os.RemoveAll(filepath.Join(dir, c.remove)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the Hub's model is there", 5*time.Second, func() bool {
				info, err := os.Stat(file)
				return err == nil && info.Size() == now.size
			})
			checkReads(t, file, now)
			checkContent(t, "the open file", held, old)
		})
	}
}

// elsewhere are stores that hold a blob which a repository of the Hub names by
// its hash, under names of their own.
func elsewhere(w pattern) map[string]struct {
	env   string
	at    string
	store map[string]any
	blob  string
} {
	sum := sha256Of(w.bytes())
	return map[string]struct {
		env   string
		at    string
		store map[string]any
		blob  string
	}{
		"hfcache": {"HF_HOME", "hub", snapshotOf("other/name", commit, map[string]any{"w.safetensors": w}), "hub/models--other--name/blobs/" + sum},
		"ollama":  {"OLLAMA_MODELS", "", ollamaModel("registry.ollama.ai/library/x/latest", w, "t"), "blobs/sha256-" + sum},
		"docker":  {"MODELS_PATH", "", dockerModel("ai/x:latest", w), "blobs/sha256/" + sum},
	}
}

// A blob that lies in any store is served from there under the Hub's name, and
// when the store prunes it, from the Hub.
func TestOneContentOneCopy(t *testing.T) {
	t.Parallel()
	w := pattern{41, 5 << 20}
	for name, store := range elsewhere(w) {
		t.Run(name, func(t *testing.T) {
			hub := hubtest.New(t)
			hub.AddRepo(plainRepo("org/m", w))
			home := tempDir(t, "home")
			plant(t, filepath.Join(home, store.at), store.store)
			blob := filepath.Join(home, store.blob)
			old := time.Unix(1_000_000_000, 0)
			if err := os.Chtimes(blob, old, old); err != nil {
				t.Fatal(err)
			}
			d := start(t, append(discovering(t, home, store.env+"="+home), hubFlags(hub)...)...)
			file := d.path("org/m/model.safetensors")
			eventually(t, "the store is known", 5*time.Second, func() bool {
				info, err := os.Stat(file)
				return err == nil && info.ModTime().Equal(old)
			})
			checkReads(t, file, w)
			if sent := sentOf(hub, "model.safetensors"); sent != 0 {
				t.Errorf("%d bytes were downloaded of what is here", sent)
			}
			out, errs, code := modelfs(t, "pull", "--cache", d.cache, "org/m")
			if code != 0 || sentOf(hub, "model.safetensors") != 0 {
				t.Errorf("pull: %d, %d bytes downloaded\n%s%s", code, sentOf(hub, "model.safetensors"), out, errs)
			}
			held, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			if err := os.Remove(blob); err != nil {
				t.Fatal(err)
			}
			checkReads(t, file, w)
			if sent := sentOf(hub, "model.safetensors"); sent == 0 {
				t.Error("nothing was downloaded of what is gone")
			}
		})
	}
}

// Of two stores with one content the other serves when one prunes it; nothing
// is downloaded.
func TestOneContentInTwoStores(t *testing.T) {
	t.Parallel()
	w := pattern{42, 2 << 20}
	hub := hubtest.New(t)
	hub.AddRepo(plainRepo("org/m", w))
	home, times := tempDir(t, "home"), map[string]time.Time{}
	stores, env := elsewhere(w), discovering(t, home)
	for i, name := range []string{"hfcache", "docker", "ollama"} {
		s := stores[name]
		dir := filepath.Join(home, name)
		plant(t, filepath.Join(dir, s.at), s.store)
		env = append(env, s.env+"="+dir)
		times[name] = time.Unix(1_000_000_000+int64(i), 0)
		if err := os.Chtimes(filepath.Join(dir, s.blob), times[name], times[name]); err != nil {
			t.Fatal(err)
		}
	}
	d := start(t, append(env, hubFlags(hub)...)...)
	file := d.path("org/m/model.safetensors")
	served := ""
	for range stores {
		eventually(t, "a store that has it serves it", 10*time.Second, func() bool {
			info, err := os.Stat(file)
			served = ""
			for name, at := range times {
				if err == nil && info.ModTime().Equal(at) {
					served = name
				}
			}
			return served != ""
		})
		checkReads(t, file, w)
		if sent := sentOf(hub, "model.safetensors"); sent != 0 {
			t.Errorf("%d bytes were downloaded while %s has it", sent, served)
		}
		prune(t, filepath.Join(home, served), w)
		delete(times, served)
	}
	checkReads(t, file, w)
	if sent := sentOf(hub, "model.safetensors"); sent == 0 {
		t.Error("nothing was downloaded of what is gone")
	}
}

// sentOf is how much of a file the Hub and its CDN have sent.
func sentOf(hub *hubtest.Hub, file string) int64 {
	var sum int64
	for _, q := range hub.Requests(hubtest.Filter{}) {
		if strings.HasSuffix(q.File, file) && (q.Status == 200 || q.Status == 206) {
			sum += q.Sent
		}
	}
	return sum
}
