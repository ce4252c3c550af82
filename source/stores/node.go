package stores

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	"modelfs/internal/format"
	"modelfs/internal/model"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

// maxNodeManifest bounds manifest.json, which lists a model's files.
const maxNodeManifest = 8 << 20

// artifactDirs hold what one backend runs; they are no models of a namespace.
var artifactDirs = map[string]bool{"metal": true, "cuda": true, "directml": true}

// node reads name/files and org/name/files. A directory with a model's file in
// it is a model; any other holds models.
func node(l *look) ([]*book, error) {
	top, err := l.list(".")
	if err != nil {
		return nil, err
	}
	var books []*book
	for _, d := range top.Dirs {
		in, err := l.list(d)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(in.Files, isNodeFile) {
			books = append(books, &book{name: d, dir: d, judge: judgeNode})
			continue
		}
		for _, name := range in.Dirs {
			if !artifactDirs[name] {
				books = append(books, &book{name: d + "/" + name, dir: d + "/" + name, judge: judgeNode})
			}
		}
	}
	return books, nil
}

func isNodeFile(name string) bool {
	return weights.Is(name) || weights.IsMarker(name) || name == "manifest.json"
}

// A nodeManifest is the router's listing, which the node keeps.
type nodeManifest struct {
	formats []string // in order of preference; nil: no constraint
	quant   string
	files   []string // those that a model can't do without
}

// parseNodeManifest takes what it understands: a manifest that can't be read
// says nothing.
func parseNodeManifest(raw []byte) nodeManifest {
	var m struct {
		Format       string   `json:"format"`
		Formats      []string `json:"formats"`
		Quantization string   `json:"quantization"`
		Files        []struct {
			Name     string `json:"name"`
			Optional bool   `json:"optional"`
		} `json:"files"`
	}
	if json.Unmarshal(raw, &m) != nil || len(m.Files) > model.MaxFiles {
		return nodeManifest{}
	}
	n := nodeManifest{quant: m.Quantization}
	for _, f := range append(m.Formats, m.Format) {
		f = strings.ToLower(f)
		if (f == "gguf" || f == "safetensors" || f == "bin") && !slices.Contains(n.formats, f) {
			n.formats = append(n.formats, f)
		}
	}
	for _, f := range m.Files {
		if !f.Optional && model.ValidPath(f.Name) && !isArtifact(f.Name) {
			n.files = append(n.files, f.Name)
		}
	}
	return n
}

// isArtifact reports whether a file is for one backend only: the node fetches
// it where that backend is.
func isArtifact(name string) bool {
	base := path.Base(name)
	return artifactDirs[path.Dir(name)] || slices.Contains([]string{"model.metal.bin", "model.directml.bin", "model.dml.bin", "model.cuda.bin"}, base)
}

// judgeNode applies the node's rules: what the manifest lists is there, one of
// its formats is, and safetensors come with a configuration and a tokenizer.
func judgeNode(b *book, c *copyOf, quant string) (string, error) {
	manifest, err := c.nodeManifest(b.dir)
	if err != nil {
		return "", err
	}
	files := slices.DeleteFunc(slices.Clone(c.files), isArtifact)
	if quant != "" && strings.EqualFold(quant, manifest.quant) && !slices.ContainsFunc(files, func(f string) bool { return weights.IsOf(f, quant) }) {
		quant = ""
		files = slices.DeleteFunc(files, func(f string) bool { return !format.IsGGUF(f) })
	}
	if why, err := weights.Judge(files, quant, c); why != "" || err != nil {
		return why, err
	}
	for _, f := range manifest.files {
		if size, err := c.Size(f); tree.Tolerable(err) != nil {
			return "", err
		} else if err != nil || size == 0 {
			return f + " is missing, which its manifest lists", nil
		}
	}
	return judgeFormats(files, manifest.formats, c)
}

func (c *copyOf) nodeManifest(dir string) (nodeManifest, error) {
	raw, _, err := c.tree.ReadFile(path.Join(dir, "manifest.json"), maxNodeManifest)
	if err != nil {
		if model.IsKind(err, model.Invalid) {
			err = nil
		}
		return nodeManifest{}, tree.Tolerable(err)
	}
	return parseNodeManifest(raw), nil
}

// judgeFormats says why files hold nothing of formats (any, if there are none)
// that can be loaded, or "".
func judgeFormats(files, formats []string, c *copyOf) (string, error) {
	why := "it holds nothing of the formats in its manifest"
	if formats == nil {
		formats, why = []string{"gguf", "safetensors", "bin"}, ""
	}
	for _, f := range formats {
		if !slices.ContainsFunc(files, func(p string) bool { return strings.HasSuffix(strings.ToLower(p), "."+f) && !weights.IsProjector(p) }) {
			continue
		}
		if f != "safetensors" {
			return "", nil
		}
		lacks := ""
		for _, need := range []string{"tokenizer.json", "config.json"} {
			if size, err := c.Size(need); tree.Tolerable(err) != nil {
				return "", err
			} else if err != nil || size == 0 {
				lacks = need
			}
		}
		if lacks == "" {
			return "", nil
		}
		why = lacks + " is missing"
	}
	return why, nil
}
