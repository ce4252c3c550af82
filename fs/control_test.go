package fs

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"modelfs/internal/model"
)

// FuzzControlPath walks any path below .modelfs as the kernel does, a name at
// a time: nothing is there that no model can be called, what is read is JSON,
// and what the walk made is forgotten with it.
func FuzzControlPath(f *testing.F) {
	for _, p := range []string{".modelfs/status.json", ".modelfs/explain/org/m.json", ".modelfs/explain/m:Q4@main.json", ".modelfs/explain/../status.json",
		"org/m/.modelfs/explain.json", "org/m/.modelfs/status.json", "org/.modelfs/status.json", ".modelfs/all/org/m/x.gguf", ".modelfs/all/.modelfs/status.json",
		".modelfs/explain/a/b/c.json", ".modelfs/explain/.json", ".modelfs/explain/a.json/b.json", ".modelfs/explain/HEAD.json", ".modelfs/all", ".modelfs/all/all",
		"org/m/sub/.modelfs/status.json", "org/m/.modelfs/all/org", ".modelfs/explain/\xff.json", ".modelfs/explain/a\nb.json"} {
		f.Add(p)
	}
	names, _ := coldModel([]byte("x"))
	names.models["org/m"] = view(model.Hub, "hub:test", model.File{Path: "sub/x.gguf", Size: 1, Key: "at-2"})
	f.Fuzz(func(t *testing.T, path string) {
		file, err := newLedgerFile()
		must(t, err)
		defer file.Close()
		l, _, err := openLedger(file)
		must(t, err)
		asked := ""
		r := newRawFS(Config{Names: names, All: names, Content: &fakeContent{}, Log: slog.New(slog.DiscardHandler),
			Status:  func() any { return map[string]string{"is": "status"} },
			Explain: func(_ context.Context, name string) any { asked = name; return map[string]string{"name": name} },
		}, l)
		defer func() { r.shutdown(); must(t, l.close()) }()
		walked := []*node{r.nodes.get(1)}
		for name := range strings.SplitSeq(path, "/") {
			if name == "" || name == "." || name == ".." || len(name) > 255 {
				break // the kernel does not ask for these
			}
			n, _, err := r.child(t.Context(), walked[len(walked)-1], name)
			if err != nil {
				if !model.IsKind(err, model.NotFound) {
					t.Errorf("%q: %v", path, err)
				}
				break
			}
			walked = append(walked, n)
		}
		last := walked[len(walked)-1]
		if last.kind == kindCtlFile {
			checkControlFile(t, r, last, &asked)
		}
		for _, n := range walked[1:] {
			r.nodes.forget(n.id, 1)
		}
		if n := r.nodes.len(); n != 1 {
			t.Errorf("%q: %d nodes are left", path, n)
		}
	})
}

func checkControlFile(t *testing.T, r *rawFS, n *node, asked *string) {
	t.Helper()
	reader, err := r.controlText(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, reader.Size())
	if _, err := reader.ReadAt(t.Context(), text, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if !json.Valid(text) {
		t.Errorf("%s is %q", n.path, text)
	}
	if !strings.HasSuffix(n.path, explainName+jsonSuffix) && !strings.Contains(n.path, explainName+"/") {
		return
	}
	if _, err := model.ParseName(*asked); err != nil {
		t.Errorf("%s explains %q: %v", n.path, *asked, err)
	}
}
