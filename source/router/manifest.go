package router

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"modelfs/internal/model"
	"modelfs/source/internal/jsonlist"
)

const (
	// maxManifest bounds a manifest, in bytes.
	maxManifest = 8 << 20

	// maxArtifacts bounds its files, each of which may cost a request. The
	// largest sets have some 200.
	maxArtifacts = 5000
)

// manifest is what is used of a router's manifest. The newest routers send
// neither size nor digest.
type manifest struct {
	Format       string     `json:"format"`
	Formats      []string   `json:"formats"`
	Quantization string     `json:"quantization"`
	Files        []artifact `json:"-"`
}

// artifact is a file of a manifest.
type artifact struct {
	Name     string `json:"name"`
	URL      string `json:"url"`
	Optional bool   `json:"optional"`
	Digest   string `json:"digest"` // sha256 in hex, with or without "sha256:"
	Size     *int64 `json:"size"`
}

// parseManifest reads a manifest. Any error is of kind Unavailable.
func parseManifest(body []byte) (*manifest, error) {
	var m struct {
		manifest
		Files json.RawMessage `json:"files"`
	}
	err := json.Unmarshal(body, &m)
	if err == nil && m.Files != nil {
		m.manifest.Files, err = jsonlist.Decode[artifact](m.Files, maxArtifacts)
	}
	switch {
	case err != nil:
		return nil, model.Errorf(model.Unavailable, "the answer is not a manifest: %w", err)
	case m.manifest.Files == nil:
		return nil, model.Errorf(model.Unavailable, "the answer is not a manifest: it has no files")
	}
	return &m.manifest, nil
}

// tags are the words that say what can load the model.
func (m *manifest) tags() []string {
	var tags []string
	for _, t := range append([]string{m.Format}, append(m.Formats, m.Quantization)...) {
		if t != "" && !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	return tags
}

// sha256 is the digest as 64 lower-case hex digits, or "".
func (a artifact) sha256() string {
	d := strings.TrimPrefix(strings.ToLower(a.Digest), "sha256:")
	if len(d) != 64 || strings.Trim(d, "0123456789abcdef") != "" {
		return ""
	}
	return d
}

// size is the stated size: -1 where none is, and a negative one stays one that
// a listing refuses.
func (a artifact) size() int64 {
	switch {
	case a.Size == nil:
		return -1
	case *a.Size < 0:
		return -2
	}
	return *a.Size
}

// strayPercent is a '%' that begins no escape.
var strayPercent = regexp.MustCompile(`%([^0-9A-Fa-f]|[0-9A-Fa-f][^0-9A-Fa-f]|.?$)`)

// address makes a manifest's URL fit for a request, or returns nil. Routers
// paste names of files into it as they are, so what must be escaped is
// escaped here: a '#' never begins a fragment.
func address(raw string) *url.URL {
	raw = strings.ReplaceAll(raw, "#", "%23")
	for strayPercent.MatchString(raw) {
		raw = strayPercent.ReplaceAllString(raw, "%25$1")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return nil
	}
	// A path that can't be one inside a model could mean another path to
	// whoever normalises it.
	if !model.ValidPath(strings.TrimPrefix(u.Path, "/")) {
		return nil
	}
	return u
}
