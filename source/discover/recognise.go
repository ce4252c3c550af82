package discover

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxEntries bounds the entries of a directory that are looked at.
const maxEntries = 10_000

// Recognise tells the layout of a directory, which it reads: false for a plain
// tree, or one that can't be read. The store may be a directory below:
// ~/.ollama/models of ~/.ollama. LM Studio's layout is that of a plain tree, so
// its own name for the directory is what tells it.
func Recognise(dir string) (Store, bool) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Store{}, false
	}
	if kind := layout(dir); kind != "" {
		return Store{Kind: kind, Dir: dir}, true
	}
	for _, below := range []struct{ dir, kind string }{{"hub", HFCache}, {"models", Ollama}, {"models", LMStudio}, {"models", Docker}} {
		at := filepath.Join(dir, below.dir)
		if layout(at) == below.kind {
			return Store{Kind: below.kind, Dir: at}, true
		}
	}
	return Store{}, false
}

// layout is the kind of store that dir itself is, or "".
func layout(dir string) string {
	e := look(dir)
	switch {
	case e.any("models--"), e.any("datasets--"), e.any("spaces--"):
		return HFCache
	case e["models.json"] && e["layout.json"]:
		return Docker
	case e["manifests"] && e["blobs"] && look(filepath.Join(dir, "manifests"))["sha256"]:
		return Docker
	case e["manifests"] && e["blobs"]:
		return Ollama
	case look(filepath.Join(dir, "hub", "models")) != nil, e["models"] && snapshots(filepath.Join(dir, "models")):
		return ModelScope
	case e[".etag_cache.json"], e[".hf_metadata_cache.json"]:
		return Node
	case e.flat():
		return LlamaCpp
	case strings.HasSuffix(dir, "/.lmstudio/models"), strings.HasSuffix(dir, "/lm-studio/models"):
		if e != nil {
			return LMStudio
		}
	}
	return ""
}

// snapshots reports whether dir holds owner--name/snapshots.
func snapshots(dir string) bool {
	for name := range look(dir) {
		if strings.Contains(name, "--") && look(filepath.Join(dir, name, "snapshots")) != nil {
			return true
		}
	}
	return false
}

// entries are the names in a directory.
type entries map[string]bool

func look(dir string) entries {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	e := make(entries, len(names))
	for _, n := range names {
		e[n] = true
	}
	return e
}

func (e entries) any(prefix string) bool {
	for name := range e {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// flat reports whether the entries are those of llama.cpp's flat cache: weights
// with a sidecar, or a manifest of its registry.
func (e entries) flat() bool {
	for name := range e {
		if strings.HasPrefix(name, "manifest=") || strings.HasSuffix(name, ".gguf") && (e[name+".json"] || e[name+".etag"]) {
			return true
		}
	}
	return false
}
