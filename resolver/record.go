package resolver

import (
	"cmp"
	"net/url"
	"slices"
	"time"

	"modelfs/internal/model"
)

// maxRecordedFiles bounds a recorded listing (some 2 MB of JSON). A longer one
// is recorded without its files: it can't be compared with another source's,
// so nobody stands in for it.
const maxRecordedFiles = 20_000

// A record is the source that answered a name, with its listing.
type record struct {
	Source   string // that the model says it is of
	Kind     model.SourceKind
	Model    string // the true name
	Revision string `json:",omitempty"`
	ModTime  time.Time
	Tags     []string       `json:",omitempty"`
	Traits   model.Traits   `json:",omitzero"`
	Stored   bool           // bytes of it are in the backing dir
	Whole    bool           // Files is the listing; else it was too long
	Files    []recordedFile `json:",omitempty"`

	// By is the ID of the source that answered if it is a Renamer, and Meaning
	// what the name stood for there.
	By      string `json:",omitempty"`
	Meaning string `json:",omitempty"`

	of *model.Model // what it was made of, if in this process
}

// A recordedFile is a model.File without what can't outlive the process: its
// place, and URLs that may be signed.
type recordedFile struct {
	Path    string
	Size    int64
	ModTime time.Time
	Key     model.Key `json:",omitempty"`
	SHA256  string    `json:",omitempty"`
	GitSHA1 string    `json:",omitempty"`
	URLs    []string  `json:",omitempty"`
	// Validator is that of the first of URLs.
	Validator string `json:",omitempty"`
}

func newRecord(m *model.Model) *record {
	rec := &record{Source: m.Source, Kind: m.Kind, Model: m.Name, Revision: m.Revision, ModTime: m.ModTime, Tags: m.Tags, Traits: m.Traits, of: m}
	if len(m.Files) > maxRecordedFiles {
		return rec
	}
	rec.Whole = true
	rec.Files = make([]recordedFile, len(m.Files))
	for i, f := range m.Files {
		r := recordedFile{f.Path, f.Size, f.ModTime, f.Key, f.SHA256, f.GitSHA1, unsigned(f.URLs), f.Validator}
		if len(r.URLs) == 0 || r.URLs[0] != f.URLs[0] {
			r.Validator = ""
			if f.SHA256 == "" && f.GitSHA1 == "" && !f.Key.Once() {
				r.URLs = nil // the key was made of the first: others may have another content
			}
		}
		rec.Files[i] = r
	}
	return rec
}

// unsigned leaves out URLs with a query or a user: these can be credentials,
// and signed ones expire.
func unsigned(urls []string) []string {
	var kept []string
	for _, s := range urls {
		if u, err := url.Parse(s); err == nil && u.RawQuery == "" && u.User == nil {
			kept = append(kept, s)
		}
	}
	return kept
}

// held is how many files a record holds in memory, and itself.
func (rec *record) held() int {
	n := len(rec.Files)
	if rec.of != nil {
		n = max(n, len(rec.of.Files))
	}
	return 1 + n
}

// by is the ID of the source that answered.
func (rec *record) by() string { return cmp.Or(rec.By, rec.Source) }

// found is what the recorded source said of the name.
func (rec *record) found() model.Found {
	return model.Found{Kind: model.ModelDir, Name: rec.Model, Revision: rec.Revision, ModTime: rec.ModTime}
}

// usable reports whether the record can be served while its source can't be
// asked. A tree's can't: its files are where the tree is.
func (rec *record) usable() bool { return rec.Whole && !rec.Kind.InPlace() }

// model is the recorded listing as a model. A file without a lasting identity
// gets a new one, which is good for one download again.
func (rec *record) model() *model.Model {
	if rec.of != nil {
		return rec.of
	}
	m := &model.Model{Name: rec.Model, Source: rec.Source, Kind: rec.Kind, Revision: rec.Revision, ModTime: rec.ModTime, Tags: rec.Tags, Traits: rec.Traits}
	files := make([]model.File, len(rec.Files))
	for i, f := range rec.Files {
		if f.Key.Once() {
			f.Key = model.OnceKey()
		}
		files[i] = model.File{Path: f.Path, Size: f.Size, ModTime: f.ModTime, Key: f.Key, SHA256: f.SHA256, GitSHA1: f.GitSHA1, URLs: f.URLs, Validator: f.Validator}
	}
	m.Files, _ = model.Listing(files) // the disk is outside, too
	return m
}

// equal reports whether two records say the same, but for Stored.
func (rec *record) equal(b *record) bool {
	if rec.of != nil && rec.of == b.of {
		return true
	}
	return rec.sameModel(b) && rec.Whole == b.Whole && rec.ModTime.Equal(b.ModTime) && rec.Traits == b.Traits && slices.EqualFunc(rec.Files, b.Files, recordedFile.equal)
}

// sameModel reports whether two records are of one model at one revision.
func (rec *record) sameModel(b *record) bool {
	return rec.Source == b.Source && rec.by() == b.by() && rec.Meaning == b.Meaning && rec.Model == b.Model && rec.Revision == b.Revision
}

func (f recordedFile) equal(g recordedFile) bool {
	return f.Path == g.Path && f.Size == g.Size && f.Key == g.Key && f.SHA256 == g.SHA256 && f.GitSHA1 == g.GitSHA1 &&
		f.Validator == g.Validator && f.ModTime.Equal(g.ModTime) && slices.Equal(f.URLs, g.URLs)
}
