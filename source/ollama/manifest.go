package ollama

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
	"modelfs/source/internal/oci"
	"modelfs/source/internal/tree"
)

// maxManifests bounds the manifests that are remembered; beyond it all are
// forgotten.
const maxManifests = 50_000

const (
	mediaPrefix = "application/vnd.ollama.image."
	modelFile   = "model.gguf"
	blobPrefix  = "sha256-"
)

// fileNames are what layers are called as files. A layer of the type "json"
// has a name of its own; any other type is no file.
var fileNames = map[string]string{"model": modelFile, "projector": "mmproj.gguf", "adapter": "adapter.gguf", "draft": "draft.gguf",
	"template": "template", "prompt": "prompt", "system": "system", "params": "params", "messages": "messages", "license": "license"}

// isOurs reports whether a layer can't give itself the name.
func isOurs(name string) bool {
	for _, n := range fileNames {
		if n == name {
			return true
		}
	}
	return false
}

// A manifest is what a tag stands for. It is immutable.
type manifest struct {
	stamp tree.Stamp
	files []layerFile
	// tensors counts layers that are single tensors.
	tensors int
}

// A layerFile is a layer that is shown as a file.
type layerFile struct {
	name string
	oci.Layer
}

func blobHash(name string) string {
	if hash, ok := strings.CutPrefix(name, blobPrefix); ok && blobs.IsSHA256(hash) {
		return hash
	}
	return ""
}

// parse reads a manifest. The error is of kind Invalid.
func parse(raw []byte) (*manifest, error) {
	layers, err := oci.Parse(raw)
	if err != nil {
		return nil, err
	}
	m, used := &manifest{}, make(map[string]int)
	for _, l := range layers {
		kind, ok := strings.CutPrefix(l.MediaType, mediaPrefix)
		name := fileNames[kind]
		switch {
		case !ok:
			continue
		case kind == "tensor":
			m.tensors++
			continue
		case kind == "json":
			name = l.Name
			if isOurs(name) {
				continue
			}
		}
		if !model.ValidPath(name) {
			continue
		}
		if used[name]++; used[name] > 1 {
			ext := path.Ext(name)
			name = strings.TrimSuffix(name, ext) + "-" + strconv.Itoa(used[name]) + ext
		}
		m.files = append(m.files, layerFile{name, l})
	}
	return m, nil
}

// manifests remembers what was parsed.
type manifests struct {
	mu sync.Mutex           // guards by
	by map[string]*manifest // by path
}

func (c *manifests) get(p string) *manifest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by[p]
}

func (c *manifests) put(p string, m *manifest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil || len(c.by) >= maxManifests {
		c.by = make(map[string]*manifest)
	}
	c.by[p] = m
}

// manifest is the manifest of r: one stat if it is unchanged. Invalid: it
// can't be read as one.
func (l *look) manifest(r ref) (*manifest, error) {
	p := r.path()
	if m := l.s.manifests.get(p); m != nil {
		now, err := l.tree.FileStamp(p)
		if err != nil {
			return nil, err
		}
		if now == m.stamp {
			return m, nil
		}
	}
	readAt := time.Now()
	raw, stamp, err := l.tree.ReadFile(p, oci.MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.tree.Abs(p), err)
	}
	m.stamp = stamp
	if l.tree.Settled(stamp, readAt) {
		l.s.manifests.put(p, m)
	}
	return m, nil
}

// model is the layer with the weights, or nil.
func (m *manifest) model() *layerFile {
	for i := range m.files {
		if m.files[i].name == modelFile {
			return &m.files[i]
		}
	}
	return nil
}

// loadable reports whether the weights are among the blobs, a sorted list.
func (m *manifest) loadable(blobs []string) bool {
	l := m.model()
	return l != nil && tree.Has(blobs, blobPrefix+l.SHA256)
}

// broken says why the model can't be loaded, or "".
func (l *look) broken(m *manifest) (string, error) {
	if m.model() == nil && m.tensors > 0 {
		return "Ollama keeps it as single tensors, which only Ollama reads", nil
	}
	if m.model() == nil {
		return "its manifest names no weights", nil
	}
	for _, f := range m.files {
		st, err := l.tree.Stat("blobs/" + blobPrefix + f.SHA256)
		switch {
		case tree.Tolerable(err) != nil:
			return "", err
		case err != nil:
			return fmt.Sprintf("the blob of its %s is missing; ollama pull brings it back", f.name), nil
		case st.Size != f.Size:
			return fmt.Sprintf("the blob of its %s has %d bytes instead of %d; ollama pull brings it back", f.name, st.Size, f.Size), nil
		}
	}
	return "", nil
}

// list is List, for the goroutine that may get stuck. f.Name is what Find found.
func (s *Source) list(f model.Found) (*model.Model, error) {
	n, err := model.ParseName(f.Name)
	if err != nil || f.Kind != model.ModelDir {
		return nil, model.Errorf(model.Invalid, "%s: listing %q, which is no model", s.ID(), f.Name)
	}
	l, release, err := s.look()
	if err != nil {
		return nil, err
	}
	defer release()
	r, err := l.locate(n)
	if err == nil && r.name() != f.Name {
		err = s.Absent(n)
	}
	if err != nil {
		return nil, err
	}
	m, err := l.manifest(r)
	if err != nil {
		return nil, err
	}
	var files []model.File
	for _, layer := range m.files {
		blob := blobPrefix + layer.SHA256
		st, err := l.tree.Stat("blobs/" + blob)
		if tree.Tolerable(err) != nil {
			return nil, err
		}
		if err == nil && st.Size == layer.Size {
			files = append(files, model.File{Path: layer.name, Size: layer.Size, ModTime: st.ModTime, SHA256: layer.SHA256, Place: s.place(blob, layer.Size)})
		}
	}
	f.ModTime = m.stamp.ModTime()
	return s.Model(f, files), nil
}
