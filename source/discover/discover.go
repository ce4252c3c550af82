// Package discover answers: which stores of other tools are on this machine,
// and what is the layout of a directory?
//
// Invariants:
//
//  1. Stores never touches a network filesystem, FUSE or an automount point, and
//     LocalLayouts none but the one that its directory is on.
//  2. Nothing is written, and nothing is read but two small files of LM Studio.
//
// It opens no store and lists no model.
package discover

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"

	"modelfs/source/internal/mounts"
)

// The kinds of store. They begin the IDs of their sources.
const (
	HFCache    = "hfcache"
	Ollama     = "ollama"
	LMStudio   = "lmstudio"
	ModelScope = "modelscope"
	LlamaCpp   = "llamacpp"
	Docker     = "docker"
	Node       = "node"
)

// A Store is a directory with a layout.
type Store struct {
	Kind   string   // one of the kinds; "" for a plain tree, which only Layouts and LocalLayouts return
	Dir    string   // absolute
	From   string   // what named it: a variable ("HF_HOME") or "default"
	Remote string   // not "": the type of the network filesystem it is said to be on. Nothing has been looked at there, not even whether the directory exists
	Skip   []string // of a plain tree: names of directories in it that are other stores', or hold one
}

// Stores are the stores at the configured and usual places, in the order in
// which they should be believed, each directory once. env is os.Getenv, home
// the home directory or "". A relative place is ignored.
func Stores(env func(string) string, home string) []Store {
	return find(env, home, mounts.Current())
}

func find(env func(string) string, home string, m *mounts.Table) []Store {
	var found []Store
	seen := make(map[string]bool)
	for _, s := range places(env, home, m) {
		if !filepath.IsAbs(s.Dir) {
			continue
		}
		s.Dir = filepath.Clean(s.Dir)
		real, remote, ok := resolve(m, s.Dir)
		if !ok || seen[real] {
			continue
		}
		seen[real] = true
		// A default on a network filesystem may not exist, and must not be
		// asked; one that may not be read could only refuse every name. One
		// that is configured is meant.
		if s.From == byDefault && (remote != "" || !readable(m, s)) {
			continue
		}
		s.Remote = remote
		if s.Kind == LlamaCpp && remote == "" {
			if kind := (eye{table: m}).layout(s.Dir); kind != "" {
				s.Kind = kind
			}
		}
		found = append(found, s)
	}
	return found
}

const byDefault = "default"

// readable reports whether a store of this machine may be read: other users'
// services keep theirs to themselves.
func readable(m *mounts.Table, s Store) bool {
	dirs := []string{s.Dir}
	if s.Kind == Ollama {
		dirs = append(dirs, filepath.Join(s.Dir, "manifests"))
	}
	for _, d := range dirs {
		real, remote, ok := resolve(m, d)
		if ok && remote == "" && errors.Is(unix.Access(real, unix.R_OK|unix.X_OK), unix.EACCES) {
			return false
		}
	}
	return true
}

// places are all that are worth a look.
func places(env func(string) string, home string, m *mounts.Table) []Store {
	var all []Store
	add := func(kind, from, dir string, below ...string) {
		if dir != "" {
			all = append(all, Store{Kind: kind, From: from, Dir: filepath.Join(append([]string{expand(dir, home)}, below...)...)})
		}
	}
	byEnv := func(kind, name string, below ...string) { add(kind, name, env(name), below...) }
	inHome := func(kind string, below ...string) { add(kind, byDefault, home, below...) }

	byEnv(HFCache, "HF_HUB_CACHE")
	byEnv(HFCache, "HUGGINGFACE_HUB_CACHE")
	byEnv(HFCache, "HF_HOME", "hub")
	byEnv(HFCache, "XDG_CACHE_HOME", "huggingface", "hub")
	inHome(HFCache, ".cache", "huggingface", "hub")

	byEnv(LlamaCpp, "LLAMA_CACHE")
	byEnv(LlamaCpp, "XDG_CACHE_HOME", "llama.cpp")
	inHome(LlamaCpp, ".cache", "llama.cpp")

	byEnv(Node, "XLLM_MODELS_DIR")
	byEnv(Node, "LLM_NODE_MODELS_DIR")
	byEnv(Node, "LLM_MODELS_DIR")
	inHome(Node, ".xllm", "models")
	inHome(Node, ".llmlb", "models")
	inHome(Node, ".llm-router", "models")

	all = append(all, lmStudio(home, m)...)

	byEnv(ModelScope, "MODELSCOPE_CACHE")
	inHome(ModelScope, ".cache", "modelscope")

	byEnv(Ollama, "OLLAMA_MODELS")
	inHome(Ollama, ".ollama", "models")
	add(Ollama, byDefault, "/usr/share/ollama/.ollama/models")
	add(Ollama, byDefault, "/var/lib/ollama/models")

	byEnv(Docker, "MODELS_PATH")
	inHome(Docker, ".docker", "models")
	add(Docker, byDefault, "/var/lib/docker/volumes/docker-model-runner-models/_data")
	return all
}

// expand replaces the ~ that the tools understand in their variables.
func expand(dir, home string) string {
	if home != "" && (dir == "~" || len(dir) > 1 && dir[:2] == "~/") {
		return filepath.Join(home, dir[1:])
	}
	return dir
}
