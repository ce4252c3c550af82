package store

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

func TestLayout(t *testing.T) {
	s := newStore(t)
	want := []string{tagFile, blobsDir, fillsDir, lockFile, metaDir, namesDir, versionFile}
	if diff := cmp.Diff(want, tree(t, s, ".")); diff != "" {
		t.Fatal(diff)
	}
	for _, name := range want {
		fi, err := os.Stat(s.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm()&0o022 != 0 {
			t.Errorf("%s is writable for others: %v", name, fi.Mode())
		}
	}
	if b, _ := os.ReadFile(s.path(tagFile)); !strings.HasPrefix(string(b), "Signature: 8a477f597d28d172789f06886806bc55") {
		t.Error("the tag is not the one that backup programs know")
	}
}

func TestWhatIsNotABackingDirIsLeftAlone(t *testing.T) {
	for _, c := range []struct {
		name, file, text, message string
	}{
		{"newer", versionFile, "2\n", "has layout 2, which a newer modelfs wrote"},
		{"no number", versionFile, "x", "does not hold a layout version"},
		{"zero", versionFile, "0\n", "does not hold a layout version"},
		{"someone's models", "models/llama/model.gguf", "precious", "is not a backing dir"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, c.file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(c.text), 0o444); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, Options{Log: slog.New(slog.DiscardHandler)})
		wantKind(t, err, model.Invalid)
		if !strings.Contains(err.Error(), c.message) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", c.name, err)
		}
		if b, _ := os.ReadFile(file); string(b) != c.text {
			t.Errorf("%s: the file was touched", c.name)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("%s: something was made beside it", c.name)
		}
	}
}

func TestLeftoversAreRemovedAtTheStart(t *testing.T) {
	s := newStore(t)
	link := Link{Source: "hub:test", Repo: "o/r", Revision: "c", Path: "keep.bin"}
	data := blob(t, s, 0, 1, link)
	p := openPart(t, s, PartID{Key: key(1)}, 2*bs)
	write(t, p, data, 0, bs)
	closePart(t, p)
	if err := s.Facts("listings").Put("a", 1); err != nil {
		t.Fatal(err)
	}
	done := pattern(50, bs)
	leftovers := map[string]os.FileMode{
		"fills/" + tempMark + "0123": 0o600, "fills/at-5.part": 0o600, "fills/at-6.map": 0o600, "fills/junk": 0o600,
		"version" + tempMark + "01": 0o644, "meta/listings/x.json" + tempMark + "01": 0o600,
		"models/hub:test/o/r/c/gone.bin": 0o444, "models/hub:test/o/r/empty/": 0, "blobs/once-0123": 0o444,
	}
	for name, perm := range leftovers {
		makeFile(t, s.path(name), done, perm)
	}
	makeFile(t, s.path("models/hub:test/o/r/c/README"), []byte("not ours"), 0o644)
	makeFile(t, s.path("blobs/Not A Key"), []byte("not ours"), 0o644)

	s = reopen(t, s)
	for name := range leftovers {
		if _, err := os.Lstat(s.path(name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range []string{"models/hub:test/o/r/c/README", "models/hub:test/o/r/c/keep.bin", "blobs/Not A Key", "fills/at-1.part"} {
		if _, err := os.Lstat(s.path(name)); err != nil {
			t.Error(err)
		}
	}
	wantBlob(t, s, key(0), data)
	if u := s.Usage(); u.Blobs != 1 || u.Parts != 1 {
		t.Errorf("usage %+v", u)
	}
}

func makeFile(t *testing.T, name string, b []byte, perm os.FileMode) {
	t.Helper()
	dir := filepath.Dir(name)
	if strings.HasSuffix(name, "/") {
		dir = name
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if perm == 0 {
		return
	}
	if err := os.WriteFile(name, b, perm); err != nil {
		t.Fatal(err)
	}
}

// A crash between the link and the removal leaves a part that is complete.
func TestACompletedPartIsNotFilledAgain(t *testing.T) {
	s := newStore(t)
	data := pattern(1, 2*bs)
	p := openPart(t, s, PartID{Key: key(0)}, 2*bs)
	write(t, p, data, 0, 2*bs)
	closePart(t, p)
	if err := os.Link(s.path(fillName("at-0")), s.path(blobName(key(0)))); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s)
	wantBlob(t, s, key(0), data)
	if got := tree(t, s, fillsDir); len(got) != 0 {
		t.Errorf("left in fills: %v", got)
	}
	if fi, err := os.Stat(s.path(blobName(key(0)))); err != nil || fi.Mode().Perm() != blobPerm {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

func TestNamesStayInTheirPlace(t *testing.T) {
	for _, c := range []struct {
		link Link
		want string // "" for refused
	}{
		{Link{"hub:https://hf.co", "org/repo", "abc", "a/b.gguf"}, "models/hub:https:%2F%2Fhf.co/org/repo/abc/a/b.gguf"},
		{Link{"hub:x", "repo", "", ".gitattributes"}, "models/hub:x/repo/-/.gitattributes"},
		{Link{"..", "repo", "..", "f"}, "models/%2E./repo/%2E./f"},
		{Link{"a/../../b", "repo", "refs/pr/1", "f"}, "models/a%2F..%2F..%2Fb/repo/refs%2Fpr%2F1/f"},
		{Link{"100%", "repo", "a\x00b", "f"}, "models/100%25/repo/a%00b/f"},
		{Link{"s", "../repo", "c", "f"}, ""},
		{Link{"s", "repo", "c", "../f"}, ""},
		{Link{"s", "repo", "c", "/f"}, ""},
		{Link{"s", "repo", "c", "a//f"}, ""},
		{Link{"s", "", "c", "f"}, ""},
		{Link{"", "repo", "c", "f"}, ""},
		{Link{"s", "repo", "\xff", "f"}, ""},
	} {
		got, err := c.link.name()
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %q, %v", c.link, got, err)
		}
	}
}

func TestAlienSymlinkDoesNotLeadOut(t *testing.T) {
	s := newStore(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, s.path("models/hub:test")); err != nil {
		t.Fatal(err)
	}
	blob(t, s, 0, 1, Link{Source: "hub:test", Repo: "o/r", Revision: "c", Path: "f"})
	if entries, _ := os.ReadDir(outside); len(entries) != 0 {
		t.Fatal("something was written outside the backing dir")
	}
	wantHas(t, s, 0)
}

func TestANameChangesOver(t *testing.T) {
	s := newStore(t)
	link := Link{Source: "hub:test", Repo: "o/r", Revision: "main", Path: "f"}
	blob(t, s, 0, 1, link)
	data := blob(t, s, 1, 1, link, link)
	name, _ := link.name()
	if got, err := os.ReadFile(s.path(name)); err != nil || sha256Hex(got) != sha256Hex(data) {
		t.Fatalf("the name is not the newer file's: %v", err)
	}
	if err := s.Remove(key(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.path(name)); err != nil {
		t.Error("removing the older blob took the newer one's name:", err)
	}
	wantKind(t, s.Link(key(0), link), model.NotFound)
	wantKind(t, s.Link(key(1), Link{Source: "s", Repo: "..", Path: "f"}), model.Invalid)
}

func TestANameThatCannotBeMadeDoesNoHarm(t *testing.T) {
	s := newStore(t)
	data := blob(t, s, 0, 1, Link{Source: strings.Repeat("/", 200), Repo: "o/r", Path: "f"}, Link{Source: "s", Repo: "..", Path: "f"})
	wantBlob(t, s, key(0), data)
	blob(t, s, 1, 1, Link{Source: "s", Repo: "r", Path: "d"}, Link{Source: "s", Repo: "r", Path: "d/e"})
	wantHas(t, s, 0, 1)
}

// Whatever happens to blobs/ behind the store's back, it serves no other file.
func TestChangesFromOutside(t *testing.T) {
	for name, change := range map[string]func(file string) error{
		"removed": os.Remove,
		"cut":     func(f string) error { return os.Truncate(f, 10) },
		"replaced": func(f string) error {
			if err := os.Remove(f); err != nil {
				return err
			}
			return os.WriteFile(f, make([]byte, 2*bs), 0o444)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			data := blob(t, s, 0, 2)
			if err := change(s.path(blobName(key(0)))); err != nil {
				t.Fatal(err)
			}
			_, err := s.OpenBlob(key(0))
			wantKind(t, err, model.NotFound)
			if s.Has(key(0)) || s.Usage().Used != 0 {
				t.Error("the blob is still counted")
			}
			store(t, s, key(0), data)
			wantBlob(t, s, key(0), data)

			if err := change(s.path(blobName(key(0)))); err != nil {
				t.Fatal(err)
			}
			store(t, s, key(0), data) // nobody looked in between
			wantBlob(t, s, key(0), data)
		})
	}
}

// What a private mount hides can't be read in its backing dir.
func TestAPrivateBackingDirKeepsOthersOut(t *testing.T) {
	dir := t.TempDir()
	for _, private := range []bool{false, true, true} { // it becomes private
		s := openStore(t, dir, Options{Private: private}, roomy())
		for _, d := range ourDirs {
			fi, err := os.Stat(s.path(d))
			if err != nil {
				t.Fatal(err)
			}
			if open := fi.Mode().Perm()&0o077 != 0; open == private {
				t.Errorf("private %v: %s is %v", private, d, fi.Mode())
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s.lock = nil
	}
}

// Somebody who makes room with rm -rf must not have all that comes later
// streamed, nor a directory that the next start takes for someone else's.
func TestWhatWasRemovedAsAWholeIsMadeAgain(t *testing.T) {
	for name, removed := range map[string][]string{
		"everything":     append([]string{versionFile, tagFile, lockFile}, ourDirs...),
		"what is whole":  {blobsDir},
		"what is begun":  {fillsDir},
		"what has names": {blobsDir, namesDir},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			data, other := pattern(1, 2*bs), pattern(2, 2*bs)
			store(t, s, contentKey(data), data)
			for _, e := range removed {
				if err := os.RemoveAll(s.path(e)); err != nil {
					t.Fatal(err)
				}
			}
			store(t, s, contentKey(other), other, Link{Source: "s", Repo: "m", Path: "f"})
			wantBlob(t, s, contentKey(other), other)
			wantBlob(t, reopen(t, s), contentKey(other), other)
		})
	}
}
