package hfcache

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const (
	commitA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	commitB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// A hub is a cache that a test writes as the clients do.
type hub struct {
	t    testing.TB
	root string
}

func newHub(t testing.TB) *hub {
	return &hub{t, filepath.Join(t.TempDir(), "hub")}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file. A content that begins with "->" is a link's target.
func (h *hub) put(rel, content string) {
	h.t.Helper()
	p := filepath.Join(h.root, rel)
	must(h.t, os.MkdirAll(filepath.Dir(p), 0o755))
	if link, ok := strings.CutPrefix(content, "->"); ok {
		must(h.t, os.Symlink(link, p))
		return
	}
	must(h.t, os.WriteFile(p, []byte(content), 0o644))
}

func sha256Of(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }

func gitSHA1(content string) string {
	return fmt.Sprintf("%x", sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(content), content)))
}

// etag names a blob: weights are LFS files.
func etag(p, content string) string {
	if strings.HasSuffix(p, ".json") || strings.HasSuffix(p, ".md") {
		return gitSHA1(content)
	}
	return sha256Of(content)
}

// add downloads files to the snapshot of a commit, as huggingface_hub does.
func (h *hub) add(repo, commit string, files map[string]string) {
	h.t.Helper()
	for p, content := range files {
		h.put(path.Join(repo, "blobs", etag(p, content)), content)
		up := strings.Repeat("../", 2+strings.Count(p, "/"))
		h.put(path.Join(repo, "snapshots", commit, p), "->"+up+"blobs/"+etag(p, content))
	}
}

func (h *hub) ref(repo, ref, commit string) { h.put(path.Join(repo, "refs", ref), commit) }

// age makes every directory and reference look as if it had changed long ago,
// so that it may be remembered.
func (h *hub) age() {
	old := time.Now().Add(-time.Hour)
	must(h.t, filepath.WalkDir(h.root, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSymlink == 0 {
			err = os.Chtimes(p, old, old)
		}
		return err
	}))
}

func (h *hub) source(trust ...string) *Source {
	h.t.Helper()
	s, err := New(Config{Root: h.root, Trust: trust})
	must(h.t, err)
	h.t.Cleanup(s.Close)
	return s
}

func find(t testing.TB, s *Source, name string) (model.Found, error) {
	t.Helper()
	n, err := model.ParseName(name)
	must(t, err)
	return s.Find(context.Background(), n)
}

func list(t testing.TB, s *Source, name string) *model.Model {
	t.Helper()
	f, err := find(t, s, name)
	must(t, err)
	n, err := model.ParseName(name)
	must(t, err)
	m, err := s.List(context.Background(), n, f)
	must(t, err)
	return m
}

func names(t testing.TB, s *Source) []string {
	t.Helper()
	found, err := s.Names(context.Background())
	must(t, err)
	var out []string
	for _, f := range found {
		out = append(out, outcome(f, nil))
	}
	return out
}

// outcome is a found name, or the kind of the error, as one line.
func outcome(f model.Found, err error) string {
	if err != nil {
		return model.KindOf(err).String()
	}
	what := map[model.EntryKind]string{model.Namespace: "namespace ", model.ModelDir: "model "}[f.Kind] + f.Name
	if f.Revision != "" {
		what += "@" + f.Revision[:1]
	}
	if f.Broken != "" {
		what += " BROKEN " + f.Broken
	}
	return what
}

// contentsOf is every file of a model as a reader gets it.
func contentsOf(t testing.TB, m *model.Model) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, f := range m.Files {
		all[f.Path] = readAll(t, f.Place)
		if int64(len(all[f.Path])) != f.Size {
			t.Errorf("%s: listed with %d bytes, has %d", f.Path, f.Size, len(all[f.Path]))
		}
	}
	return all
}

func readAll(t testing.TB, p model.Place) string {
	t.Helper()
	f, st, err := p.Open(context.Background())
	must(t, err)
	defer f.Close()
	b, err := io.ReadAll(f)
	must(t, err)
	again, err := p.Stat(context.Background())
	must(t, err)
	if st != again || st.Size != int64(len(b)) {
		t.Errorf("%s: opened as %+v, stat says %+v", p.Path(), st, again)
	}
	return string(b)
}
