// Package oci answers: which blobs is a model made of, by its registry
// manifest?
//
// Invariants:
//
//  1. What Parse returns has no more than maxLayers layers, each with a valid
//     sha256 and a size that is not negative.
//  2. Names and paths in it are the manifest's own, unchecked.
//
// It does not know what the media types mean.
package oci

import (
	"encoding/json"
	"strings"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
)

const (
	// MaxManifest bounds a manifest in bytes: models that are kept as single
	// tensors have some thousand layers of 200 bytes.
	MaxManifest = 8 << 20

	maxLayers = 50_000
)

// A Layer is one blob of a model.
type Layer struct {
	MediaType string
	SHA256    string // 64 lower-case hex digits
	Size      int64  // bytes
	Name      string // Ollama's name of a tensor or a file, or ""
	FilePath  string // the path that ModelPack and Docker annotate, or ""
}

// Parse reads a manifest. The error is of kind Invalid.
func Parse(raw []byte) ([]Layer, error) {
	var m struct {
		Layers []struct {
			MediaType   string            `json:"mediaType"`
			Digest      string            `json:"digest"`
			Size        int64             `json:"size"`
			Name        string            `json:"name"`
			Annotations map[string]string `json:"annotations"`
		} `json:"layers"`
	}
	if len(raw) > MaxManifest {
		return nil, model.Errorf(model.Invalid, "the manifest is larger than %d bytes", MaxManifest)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, model.Errorf(model.Invalid, "the manifest can't be read: %w", err)
	}
	if len(m.Layers) == 0 || len(m.Layers) > maxLayers {
		return nil, model.Errorf(model.Invalid, "the manifest has %d layers", len(m.Layers))
	}
	layers := make([]Layer, len(m.Layers))
	for i, l := range m.Layers {
		hash := Digest(l.Digest)
		if hash == "" || l.Size < 0 {
			return nil, model.Errorf(model.Invalid, "layer %d of the manifest has the digest %.80q and the size %d", i, l.Digest, l.Size)
		}
		layers[i] = Layer{MediaType: l.MediaType, SHA256: hash, Size: l.Size, Name: l.Name, FilePath: l.Annotations["org.cncf.model.filepath"]}
	}
	return layers, nil
}

// Digest is the sha256 of "sha256:<64 hex digits>", or "".
func Digest(s string) string {
	if hash, ok := strings.CutPrefix(s, "sha256:"); ok && blobs.IsSHA256(hash) {
		return hash
	}
	return ""
}
