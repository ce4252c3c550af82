package hfcache

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

// zoo is a cache with every kind of repository.
func zoo(t testing.TB) *hub {
	h := newHub(t)
	h.put("CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n")
	h.put(".locks/models--acme--whole/x.lock", "")
	h.put("version.txt", "1")

	whole := map[string]string{"config.json": "{}", "model.safetensors": "weights", "onnx/model.onnx": "graph"}
	h.add("models--acme--whole", commitA, whole)
	h.ref("models--acme--whole", "main", commitA)
	h.add("models--acme--whole", commitB, map[string]string{"model.safetensors": "other weights"})
	h.ref("models--acme--whole", "refs/pr/1", commitB+"\n")
	h.ref("models--acme--whole", "v1.0", commitB)
	h.ref("models--acme--whole", "gone", strings.Repeat("c", 40))
	h.ref("models--acme--whole", "odd", "../../../etc")
	h.put("models--acme--whole/blobs/"+sha256Of("x")+".incomplete", "x")
	h.put("models--acme--whole/snapshots/"+commitA+"/late.gguf.incomplete", "x")

	h.add("models--gpt2", commitA, map[string]string{"model.safetensors": "gpt2"})
	h.ref("models--gpt2", "main", commitA)

	h.add("models--acme--sharded", commitA, map[string]string{
		"model-00001-of-00002.safetensors": "one",
		"model.safetensors.index.json":     `{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`})
	h.ref("models--acme--sharded", "main", commitA)

	h.add("models--acme--config", commitA, map[string]string{"config.json": "{}"})
	h.ref("models--acme--config", "main", commitA)

	h.add("models--acme--unreferenced", commitB, map[string]string{"model.gguf": "weights"})

	h.add("models--acme--GGUF", commitA, map[string]string{"m-Q4_K_M.gguf": "four", "m-Q8_0.gguf": "eight"})
	h.ref("models--acme--GGUF", "main", commitA)

	h.add("models--acme--pruned", commitA, map[string]string{"config.json": "{}", "model.gguf": "weights"})
	h.ref("models--acme--pruned", "main", commitA)
	must(t, os.Remove(filepath.Join(h.root, "models--acme--pruned/blobs", sha256Of("weights"))))

	h.put("models--acme--real/snapshots/"+commitA+"/model.gguf", "no links here")
	h.ref("models--acme--real", "main", commitA)

	h.ref("models--acme--refonly", "main", commitA)
	h.put("models--acme--empty/snapshots/"+commitA+"/.keep.lock", "")
	h.ref("models--acme--empty", "main", commitA)
	h.add("datasets--acme--data", commitA, map[string]string{"data.bin": "data"})
	h.add("spaces--acme--space", commitA, map[string]string{"model.bin": "data"})
	h.add("models--a--b--c", commitA, map[string]string{"model.bin": "data"})
	return h
}

func TestFind(t *testing.T) {
	s := zoo(t).source()
	for name, want := range map[string]string{
		"acme/whole":                      "model acme/whole@a",
		"ACME/Whole":                      "model acme/whole@a",
		"acme/whole@" + commitB:           "model acme/whole@b",
		"acme/whole@main":                 "model acme/whole@a",
		"acme/whole@v1.0":                 "model acme/whole@b",
		"acme/whole@refs/pr/1":            "model acme/whole@b",
		"acme/whole@refs":                 "not found",
		"acme/whole@gone":                 "not found",
		"acme/whole@odd":                  "not found",
		"acme/whole@none":                 "not found",
		"acme/whole@cccccccccccccccccccc": "not found",
		"gpt2":                            "model gpt2@a",
		"acme":                            "namespace acme",
		"Acme":                            "namespace acme",
		"acme:Q4_K_M":                     "not found",
		"acme--whole":                     "not found",
		"acme/sharded":                    "model acme/sharded@a BROKEN model-00002-of-00002.safetensors of the set is missing",
		"acme/config":                     "model acme/config@a BROKEN it holds no weights",
		"acme/unreferenced":               "model acme/unreferenced@b BROKEN the cache does not record which commit main is; bbbbbbb is the newest snapshot",
		"acme/unreferenced@" + commitB:    "model acme/unreferenced@b",
		"acme/unreferenced@main":          "not found",
		"acme/GGUF":                       "model acme/GGUF@a",
		"acme/gguf:q4_k_m":                "model acme/GGUF@a",
		"acme/GGUF:Q4_K":                  "not found",
		"acme/whole:Q4_K_M":               "not found",
		"acme/pruned":                     "model acme/pruned@a BROKEN it holds no weights",
		"acme/real":                       "model acme/real@a",
		"acme/refonly":                    "not found",
		"acme/empty":                      "not found",
		"acme/data":                       "not found",
		"acme/space":                      "not found",
		"a":                               "not found",
		"nobody":                          "not found",
		"nobody/nothing":                  "not found",
	} {
		if got := outcome(find(t, s, name)); got != want {
			t.Errorf("Find(%s) = %s, want %s", name, got, want)
		}
	}
}

func TestList(t *testing.T) {
	s := zoo(t).source()
	for name, want := range map[string]map[string]string{
		"acme/whole":           {"config.json": "{}", "model.safetensors": "weights", "onnx/model.onnx": "graph"},
		"acme/whole@refs/pr/1": {"model.safetensors": "other weights"},
		"acme/pruned":          {"config.json": "{}"},
		"acme/real":            {"model.gguf": "no links here"},
		"gpt2":                 {"model.safetensors": "gpt2"},
	} {
		m := list(t, s, name)
		if d := cmp.Diff(want, contentsOf(t, m)); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
		if m.Source != s.ID() || m.Kind != model.Local || m.Revision == "" || m.ModTime.IsZero() {
			t.Errorf("%s: %+v", name, m)
		}
	}
	m := list(t, s, "acme/whole")
	if f := m.File("config.json"); f.GitSHA1 != gitSHA1("{}") || f.SHA256 != "" {
		t.Errorf("config.json: %+v", f)
	}
	if f := m.File("model.safetensors"); f.SHA256 != sha256Of("weights") || f.GitSHA1 != "" || f.Key != "" || f.URLs != nil {
		t.Errorf("model.safetensors: %+v", f)
	}
	if f := list(t, s, "acme/real").File("model.gguf"); f.SHA256 != "" || f.GitSHA1 != "" {
		t.Errorf("a file without a blob has hashes: %+v", f)
	}
}

func TestListRefuses(t *testing.T) {
	s := zoo(t).source()
	for _, f := range []model.Found{
		{Kind: model.Namespace, Name: "acme"}, {Kind: model.ModelDir, Name: "../hub/models--gpt2"}, {Kind: model.ModelDir}, {Kind: model.ModelDir, Name: "acme--whole"},
	} {
		if _, err := s.List(context.Background(), model.Name{Repo: "x"}, f); !model.IsKind(err, model.Invalid) {
			t.Errorf("List(%+v): %v", f, err)
		}
	}
	if _, err := s.List(context.Background(), model.Name{}, model.Found{Kind: model.ModelDir, Name: "acme/none", Revision: commitA}); !model.IsKind(err, model.NotFound) {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	h := zoo(t)
	s := h.source()
	want := []string{"model acme/GGUF@a", "model acme/pruned@a", "model acme/real@a", "model acme/sharded@a",
		"model acme/unreferenced@b BROKEN the cache does not record which commit main is; bbbbbbb is the newest snapshot",
		"model acme/whole@a", "model gpt2@a"}
	if d := cmp.Diff(want, names(t, s)); d != "" {
		t.Error(d)
	}
	h.age()
	for range 2 {
		if d := cmp.Diff(want, names(t, s)); d != "" {
			t.Error(d)
		}
	}
	h.ref("models--acme--refonly", "v2", commitB) // changes nothing
	h.put("models--acme--whole/refs/main", commitB)
	h.add("models--acme--config", commitA, map[string]string{"model.bin": "weights"})
	must(t, os.RemoveAll(filepath.Join(h.root, "models--gpt2")))
	h.add("models--new", commitA, map[string]string{"deep/er/model.onnx": "weights"})
	h.ref("models--new", "main", commitA)
	want = append([]string{want[0], "model acme/config@a"}, want[1:5]...)
	want = append(want, "model acme/whole@b", "model new@a")
	if d := cmp.Diff(want, names(t, s)); d != "" {
		t.Errorf("after changes:\n%s", d)
	}
}

func TestNoCache(t *testing.T) {
	s := newHub(t).source()
	if got := outcome(find(t, s, "acme/whole")); got != "not found" {
		t.Errorf("Find: %s", got)
	}
	if got := names(t, s); got != nil {
		t.Errorf("Names: %v", got)
	}
	must(t, s.Refresh(context.Background()))
	for _, c := range []Config{{}, {Root: "/x", Kind: model.Hub}} {
		if _, err := New(c); !model.IsKind(err, model.Invalid) {
			t.Errorf("New(%+v): %v", c, err)
		}
	}
}

// A share that is not mounted has said nothing.
func TestSharedCache(t *testing.T) {
	h := newHub(t)
	s, err := New(Config{Root: h.root, Kind: model.Shared})
	must(t, err)
	defer s.Close()
	if got := outcome(find(t, s, "acme/m")); got != "unavailable" {
		t.Errorf("Find: %s", got)
	}
	if _, err := s.Names(context.Background()); !model.IsKind(err, model.Unavailable) {
		t.Errorf("Names: %v", err)
	}
	h.add("models--acme--m", commitA, map[string]string{"model.gguf": "w"})
	h.ref("models--acme--m", "main", commitA)
	if d := cmp.Diff(map[string]string{"model.gguf": "w"}, contentsOf(t, list(t, s, "acme/m"))); d != "" {
		t.Error(d)
	}
}

// tree is the listing of a commit as the Python client keeps it.
func treeOf(files map[string]string) string {
	var lines []string
	for p, content := range files {
		line := fmt.Sprintf(`%q:{"size":%d,"blob_id":%q}`, p, len(content), gitSHA1(content))
		if etag(p, content) == sha256Of(content) {
			line = fmt.Sprintf(`%q:{"size":%d,"blob_id":%q,"lfs_sha256":%q,"lfs_size":%d}`, p, len(content), gitSHA1("pointer"), sha256Of(content), len(content))
		}
		lines = append(lines, line)
	}
	return `{"format_version":1,"files":{` + strings.Join(lines, ",") + `}}`
}

func TestPartialSnapshots(t *testing.T) {
	full := map[string]string{"config.json": "{}", "m-Q4_K_M.gguf": "four", "m-Q8_0.gguf": "eight", "optional.md": "text"}
	without := func(gone ...string) map[string]string {
		some := map[string]string{}
		for p, c := range full {
			some[p] = c
		}
		for _, p := range gone {
			delete(some, p)
		}
		return some
	}
	for label, c := range map[string]struct {
		here    map[string]string
		tree    string
		noExist string
		name    string
		want    string
		list    int
	}{
		"whole":                {here: full, tree: treeOf(full), want: "model acme/m@a", list: 4},
		"lacks a file":         {here: without("config.json"), tree: treeOf(full), want: "model acme/m@a BROKEN it lacks config.json, which the commit has", list: 3},
		"no listing":           {here: without("config.json"), want: "model acme/m@a", list: 3},
		"known not to exist":   {here: without("optional.md"), tree: treeOf(full), noExist: "optional.md", want: "model acme/m@a", list: 3},
		"quant here":           {here: without("m-Q8_0.gguf", "config.json"), tree: treeOf(full), name: ":Q4_K_M", want: "model acme/m@a", list: 2},
		"quant not here":       {here: without("m-Q8_0.gguf"), tree: treeOf(full), name: ":Q8_0", want: "model acme/m@a BROKEN it lacks the files of Q8_0, which the commit has", list: 3},
		"quant nowhere":        {here: full, tree: treeOf(full), name: ":Q2_K", want: "not found"},
		"unreadable listing":   {here: without("config.json"), tree: "{", want: "model acme/m@a", list: 3},
		"other version":        {here: without("config.json"), tree: `{"format_version":2,"files":{"x":{}}}`, want: "model acme/m@a", list: 3},
		"hostile paths":        {here: full, tree: `{"format_version":1,"files":{"../../x":{"size":1},"/etc/passwd":{}}}`, want: "model acme/m@a", list: 4},
		"a size that is wrong": {here: full, tree: strings.Replace(treeOf(full), `"size":2`, `"size":3`, 1), want: "model acme/m@a BROKEN config.json has 2 bytes instead of 3", list: 3},
		"another file's blob": {here: full, tree: strings.Replace(treeOf(full), sha256Of("eight"), sha256Of("other"), 1),
			want: "model acme/m@a BROKEN m-Q8_0.gguf points at another file's blob", list: 3},
	} {
		t.Run(label, func(t *testing.T) {
			h := newHub(t)
			h.add("models--acme--m", commitA, c.here)
			h.ref("models--acme--m", "main", commitA)
			if c.tree != "" {
				h.put("models--acme--m/trees/"+commitA+".json", c.tree)
			}
			if c.noExist != "" {
				h.put("models--acme--m/.no_exist/"+commitA+"/"+c.noExist, "")
			}
			s := h.source()
			if got := outcome(find(t, s, "acme/m"+c.name)); got != c.want {
				t.Errorf("Find = %s, want %s", got, c.want)
			}
			if c.list == 0 {
				return
			}
			got := contentsOf(t, list(t, s, "acme/m"+c.name))
			if len(got) != c.list {
				t.Errorf("List = %v, want %d files", got, c.list)
			}
		})
	}
}

// Links lead into the repository's own blobs or into a trusted place, or the
// file does not exist.
func TestLinks(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.MkdirAll(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "big.gguf"), []byte("on another disk"), 0o644))
	h := newHub(t)
	h.add("models--acme--other", commitA, map[string]string{"secret.gguf": "another repository's"})
	h.add("models--acme--m", commitA, map[string]string{"good.gguf": "good"})
	h.ref("models--acme--m", "main", commitA)
	snap := "models--acme--m/snapshots/" + commitA
	other := sha256Of("another repository's")
	for p, target := range map[string]string{
		"absolute.gguf": h.root + "/models--acme--m/blobs/" + sha256Of("good"),
		"twin.gguf":     "good.gguf",
		"out.gguf":      outside + "/big.gguf",
		"up.gguf":       "../../../../outside/big.gguf",
		"other.gguf":    "../../../models--acme--other/blobs/" + other,
		"ref.gguf":      "../../refs/main",
		"part.gguf":     "../../blobs/" + sha256Of("y") + ".incomplete",
		"loop.gguf":     "loop.gguf",
		"proc.gguf":     "/proc/self/exe",
		"moved.gguf":    "../../blobs/" + sha256Of("on another disk"),
		"stolen.gguf":   "../../blobs/" + other,
		"dir":           "../../blobs",
		"pipe.gguf":     "../../blobs/pipe",
	} {
		h.put(snap+"/"+p, "->"+target)
	}
	h.put("models--acme--m/blobs/"+sha256Of("y")+".incomplete", "y")
	h.put("models--acme--m/blobs/"+sha256Of("on another disk"), "->"+outside+"/big.gguf")
	h.put("models--acme--m/blobs/"+other, "->../../models--acme--other/blobs/"+other)
	must(t, syscall.Mkfifo(filepath.Join(h.root, "models--acme--m/blobs/pipe"), 0o644))
	must(t, os.Symlink(outside, filepath.Join(h.root, "models--outside")))

	inside := map[string]string{"good.gguf": "good", "absolute.gguf": "good", "twin.gguf": "good"}
	if d := cmp.Diff(inside, contentsOf(t, list(t, h.source(), "acme/m"))); d != "" {
		t.Errorf("untrusted:\n%s", d)
	}
	inside["out.gguf"], inside["moved.gguf"] = "on another disk", "on another disk"
	m := list(t, h.source(outside), "acme/m")
	if d := cmp.Diff(inside, contentsOf(t, m)); d != "" {
		t.Errorf("trusted:\n%s", d)
	}
	if f := m.File("absolute.gguf"); f.SHA256 != sha256Of("good") {
		t.Errorf("absolute.gguf: %+v", f)
	}
	if f := m.File("out.gguf"); f.SHA256 != "" {
		t.Errorf("out.gguf: %+v", f)
	}
}

// Another tool may delete anything at any time.
func TestPrunedUnderUs(t *testing.T) {
	h := zoo(t)
	s := h.source()
	m := list(t, s, "acme/whole")
	p := m.File("model.safetensors").Place
	f, _, err := p.Open(context.Background())
	must(t, err)
	defer f.Close()
	must(t, os.RemoveAll(filepath.Join(h.root, "models--acme--whole")))
	if _, _, err := p.Open(context.Background()); !model.IsKind(err, model.NotFound) {
		t.Errorf("Open: %v", err)
	}
	if _, err := p.Stat(context.Background()); !model.IsKind(err, model.NotFound) {
		t.Errorf("Stat: %v", err)
	}
	b := make([]byte, 7)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "weights" {
		t.Errorf("the file that was open: %q, %v", b, err)
	}
	if got := outcome(find(t, s, "acme/whole")); got != "not found" {
		t.Errorf("Find: %s", got)
	}
}

func TestBySHA256(t *testing.T) {
	h := zoo(t)
	s := h.source()
	ctx := context.Background()
	if _, _, ok := s.BySHA256(sha256Of("weights")); ok {
		t.Error("known before anything was read")
	}
	must(t, s.Refresh(ctx))
	p, size, ok := s.BySHA256(sha256Of("other weights"))
	if !ok || size != int64(len("other weights")) || readAll(t, p) != "other weights" {
		t.Fatalf("%v, %d, %v", p, size, ok)
	}
	for label, hash := range map[string]string{"incomplete": sha256Of("x"), "git": gitSHA1("{}"), "dataset": sha256Of("data"), "none": ""} {
		if _, _, ok := s.BySHA256(hash); ok {
			t.Errorf("%s is known", label)
		}
	}
	blob := filepath.Join(h.root, "models--acme--whole/blobs", sha256Of("other weights"))
	must(t, os.WriteFile(blob, []byte("longer than it was"), 0o644))
	if _, _, err := p.Open(ctx); !model.IsKind(err, model.NotFound) {
		t.Errorf("a blob of another size: %v", err)
	}
	must(t, os.Remove(blob))
	h.add("models--new", commitA, map[string]string{"model.gguf": "new"})
	must(t, s.Refresh(ctx))
	if _, _, ok := s.BySHA256(sha256Of("other weights")); ok {
		t.Error("a blob that is gone is known")
	}
	if p, _, ok := s.BySHA256(sha256Of("new")); !ok || readAll(t, p) != "new" {
		t.Error("a new blob is not known")
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(treeOf(map[string]string{"config.json": "{}", "m.gguf": "w"})))
	f.Add([]byte(`{"format_version":1,"files":{"a":{"size":-1},"../b":{"size":1e30}}}`))
	f.Add([]byte(`{"format_version":1,"files":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for p, l := range parseManifest(raw) {
			if !model.ValidPath(p) || l.size < -1 || l.sha256 != "" && len(l.sha256) != 64 || l.sha1 != "" && len(l.sha1) != 40 {
				t.Errorf("%q: %+v", p, l)
			}
		}
	})
}

// After a restart a file is found again by the path that its place had.
func TestAt(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.MkdirAll(outside, 0o755))
	must(t, os.WriteFile(filepath.Join(outside, "big.gguf"), []byte("on another disk"), 0o644))
	h := zoo(t)
	h.put("models--acme--whole/snapshots/"+commitA+"/big.gguf", "->"+outside+"/big.gguf")
	s := h.source(outside)
	files := list(t, s, "acme/whole").Files
	if len(files) != 4 {
		t.Errorf("%d files", len(files))
	}
	for _, f := range files {
		p := s.At(f.Place.Path())
		if p == nil || p.Path() != f.Place.Path() || readAll(t, p) != readAll(t, f.Place) {
			t.Errorf("%s is found as %v", f.Path, p)
		}
	}
	if p := s.At(filepath.Dir(outside) + "/x"); p != nil {
		t.Errorf("outside: %s", p.Path())
	}
}
