package stores

import (
	"encoding/json"
	"path"
	"strings"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
	"modelfs/source/internal/oci"
	"modelfs/source/internal/tree"
	"modelfs/source/internal/weights"
)

const (
	dockerIndex     = "models.json"
	dockerManifests = "manifests/sha256"
	dockerBlobs     = "blobs/sha256"

	// maxDockerIndex bounds models.json: some kilobytes for each model.
	maxDockerIndex = 64 << 20

	// defaultNamespace is what short names leave out, on Docker Hub.
	defaultNamespace = "ai"
)

// dockerFiles are what layers without a path of their own are called as files,
// by the end of their media type. Archives are not served.
var dockerFiles = map[string]string{"gguf.v3": "model.gguf", "gguf.lora": "adapter.gguf", "safetensors": "model.safetensors",
	"mmproj": "mmproj.gguf", "license": "LICENSE", "chat.template.jinja": "chat_template.jinja", "dduf": "model.dduf"}

// ownMedia begins Docker's media types, rawMedia ends those of ModelPack whose
// blob is the file itself.
const (
	ownMedia  = "application/vnd.docker.ai."
	packMedia = "application/vnd.cncf.model."
	rawMedia  = ".raw"
)

func dockerHash(name string) string {
	if blobs.IsSHA256(name) {
		return name
	}
	return ""
}

// docker reads the index of Docker Model Runner's store, and the manifest of
// each of its models.
func docker(l *look) ([]*book, error) {
	if _, err := l.list("."); err != nil { // the index is replaced, never changed
		return nil, err
	}
	if _, err := l.list(dockerManifests); err != nil {
		return nil, err
	}
	raw, _, err := l.tree.ReadFile(dockerIndex, maxDockerIndex)
	var entries []dockerEntry
	if err == nil {
		entries, err = parseDockerIndex(raw)
	}
	if model.IsKind(err, model.Invalid) {
		return nil, nil // Docker can't use it either; it says nothing of any name
	}
	if err != nil {
		return nil, tree.Tolerable(err)
	}
	var books []*book
	for _, e := range entries {
		manifest, stamp, err := l.tree.ReadFile(dockerManifests+"/"+e.hash, oci.MaxManifest)
		if model.IsKind(err, model.Invalid) || err != nil && tree.Tolerable(err) == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		layers, err := oci.Parse(manifest)
		if err != nil {
			continue
		}
		files := dockerLeaves(layers)
		if len(files) == 0 {
			continue
		}
		for _, tag := range e.tags {
			if name, also := dockerName(tag); name != "" {
				books = append(books, &book{name: name, also: also, files: files, modTime: stamp.ModTime(), judge: judgeDocker})
			}
		}
	}
	return books, nil
}

// A dockerEntry is a model of the index.
type dockerEntry struct {
	hash string // of the manifest
	tags []string
}

// parseDockerIndex reads models.json. The error is of kind Invalid.
func parseDockerIndex(raw []byte) ([]dockerEntry, error) {
	var index struct {
		Models []struct {
			ID   string   `json:"id"`
			Tags []string `json:"tags"`
		} `json:"models"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, model.Errorf(model.Invalid, "%s can't be read: %w", dockerIndex, err)
	}
	var entries []dockerEntry
	for _, m := range index.Models {
		if hash := oci.Digest(m.ID); hash != "" {
			entries = append(entries, dockerEntry{hash, m.Tags})
		}
	}
	return entries, nil
}

// dockerName is what modelfs calls a reference: [host/]namespace/model:tag
// without Docker Hub's host, and without the tag latest. Models of the
// namespace ai answer to their short name too. "" if no model can have it.
func dockerName(ref string) (name string, also []string) {
	for _, host := range []string{"index.docker.io/", "docker.io/", "registry-1.docker.io/", "hf.co/", "huggingface.co/"} {
		ref = strings.TrimPrefix(ref, host)
	}
	ref, latest := strings.CutSuffix(ref, ":latest")
	n, err := model.ParseName(ref)
	if err != nil || n.Revision != "" || !model.ValidRepoPart(n.Repo) {
		return "", nil
	}
	names := []string{n.String()}
	if latest || n.Quant == "" {
		names = append(names, n.Path()+":latest")
	}
	switch n.Org {
	case "":
		n.Org = defaultNamespace
		names = append(names, n.String())
	case defaultNamespace:
		for _, full := range names {
			names = append(names, strings.TrimPrefix(full, defaultNamespace+"/"))
		}
	}
	return names[0], names[1:]
}

// judgeDocker accepts a model only if every layer is here: each is part of what
// its digest names.
func judgeDocker(_ *book, c *copyOf, quant string) (string, error) {
	for _, p := range c.files {
		if _, err := c.Size(p); tree.Tolerable(err) != nil {
			return "", err
		} else if err != nil {
			return "the blob of its " + p + " is missing or incomplete; docker model pull brings it back", nil
		}
	}
	return weights.Judge(c.files, quant, c)
}

// dockerLeaves are the layers that are files, under their own paths where they
// have one. Of two with one name the first counts.
func dockerLeaves(layers []oci.Layer) []leaf {
	used := make(map[string]int)
	var files []leaf
	for _, l := range layers {
		kind, own := strings.CutPrefix(l.MediaType, ownMedia)
		pack := strings.HasPrefix(l.MediaType, packMedia) && strings.HasSuffix(l.MediaType, rawMedia)
		name := dockerFiles[kind]
		if (own && !strings.HasSuffix(kind, ".tar") || pack) && l.FilePath != "" {
			name = strings.TrimPrefix(l.FilePath, "./")
		}
		if !own && !pack || !model.ValidPath(name) {
			continue
		}
		if used[name]++; used[name] > 1 {
			continue
		}
		files = append(files, leaf{path: name, at: path.Join(dockerBlobs, l.SHA256), size: l.Size, sha256: l.SHA256})
	}
	return files
}
