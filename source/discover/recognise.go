package discover

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"modelfs/source/internal/mounts"
)

// maxEntries bounds the entries of a directory that are looked at.
const maxEntries = 10_000

// Layouts says what is in a directory, which it reads. One that has a store's
// layout is that store. Any other is a plain tree (Kind ""), and the stores
// that lie in it at the places that tools use are stores of their own; the
// tree leaves their directories out. The home of a tool is no tree: what lies
// there beside its store belongs to the tool. What can't be read is a plain
// tree.
func Layouts(dir string) []Store { return eye{}.layouts(dir) }

// LocalLayouts is Layouts of a directory of this machine: where its links lead
// to a network filesystem, nothing is looked at.
func LocalLayouts(dir string) []Store {
	home := ""
	if abs, err := filepath.Abs(dir); err == nil {
		home, _ = filepath.EvalSymlinks(abs) // "": nobody gets there
	}
	return eye{mounts.Current(), home}.layouts(dir)
}

// OnNetwork is the type of the network filesystem that a directory lies on, or
// "". It touches none.
func OnNetwork(dir string) string {
	table := mounts.Current()
	_, kind := table.Remote(whereabouts(table, dir))
	return kind
}

// NetworkBelow are the points in a directory at which network filesystems are
// mounted. It touches none.
func NetworkBelow(dir string) []string {
	table := mounts.Current()
	return table.RemoteBelow(whereabouts(table, dir))
}

// whereabouts is where a directory is, as far as that is known without touching
// a network filesystem: its links are followed up to there.
func whereabouts(table *mounts.Table, dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir
	}
	at, err := table.Follow("/", abs, "")
	var far *mounts.RemoteError
	switch {
	case errors.As(err, &far):
		return far.Path
	case err != nil:
		return abs
	}
	return at
}

// An eye looks at directories. The zero eye looks wherever it is told to.
type eye struct {
	table *mounts.Table // not nil: of network filesystems only those on the way to home are looked at
	home  string        // without links
}

func (y eye) layouts(dir string) []Store {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	plain := Store{Dir: dir}
	kind := y.layout(dir)
	switch kind {
	case "":
	case ModelScope: // it is in two directories of dir, which may hold more
		plain.Skip = []string{"hub", "models"}
		return []Store{plain, {Kind: kind, Dir: dir}}
	default:
		return []Store{{Kind: kind, Dir: dir}}
	}
	var below []Store
	for _, place := range nested {
		at := filepath.Join(dir, place.dir)
		top, _, _ := strings.Cut(place.dir, "/")
		if !slices.Contains(place.kinds, y.layout(at)) || slices.Contains(plain.Skip, top) {
			continue
		}
		below = append(below, Store{Kind: y.layout(at), Dir: at})
		plain.Skip = append(plain.Skip, top)
	}
	if len(below) > 0 && toolHomes[filepath.Base(dir)] {
		return below
	}
	return append([]Store{plain}, below...)
}

// nested are the places of stores in a directory that people name.
var nested = []struct {
	dir   string
	kinds []string
}{
	{"hub", []string{HFCache}},
	{"huggingface/hub", []string{HFCache}},
	{"models", []string{Ollama, LMStudio, Docker}},
	{"ollama", []string{Ollama}},
	{"ollama/models", []string{Ollama}},
}

// toolHomes are the directories that hold one tool's store and nothing of
// anybody else's.
var toolHomes = map[string]bool{".ollama": true, ".lmstudio": true, ".docker": true, "huggingface": true}

// layout is the kind of store that dir itself is, or "". LM Studio's layout is
// that of a plain tree, so its own name for the directory is what tells it.
func (y eye) layout(dir string) string {
	e := y.look(dir)
	switch {
	case e.any("models--"), e.any("datasets--"), e.any("spaces--"):
		return HFCache
	case e["models.json"] && e["layout.json"]:
		return Docker
	case e["manifests"] && e["blobs"] && y.look(filepath.Join(dir, "manifests"))["sha256"]:
		return Docker
	case e["manifests"] && e["blobs"]:
		return Ollama
	case y.look(filepath.Join(dir, "hub", "models")) != nil, e["models"] && y.snapshots(filepath.Join(dir, "models")):
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
func (y eye) snapshots(dir string) bool {
	for name := range y.look(dir) {
		if strings.Contains(name, "--") && y.look(filepath.Join(dir, name, "snapshots")) != nil {
			return true
		}
	}
	return false
}

// entries are the names in a directory.
type entries map[string]bool

func (y eye) look(dir string) entries {
	if y.table != nil {
		var err error
		if dir, err = y.table.Follow("/", dir, y.home); err != nil {
			return nil
		}
	}
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
