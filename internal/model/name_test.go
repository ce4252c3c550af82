package model

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	long := strings.Repeat("x", MaxSegment)
	for text, want := range map[string]Name{
		"gpt2":                             {Repo: "gpt2"},
		"org/repo":                         {Org: "org", Repo: "repo"},
		"org/repo:Q4_K_M":                  {Org: "org", Repo: "repo", Quant: "Q4_K_M"},
		"repo@refs/pr/1":                   {Repo: "repo", Revision: "refs/pr/1"},
		"org/repo:Q4_K_M@v1.0+a":           {Org: "org", Repo: "repo", Quant: "Q4_K_M", Revision: "v1.0+a"},
		"naïve and wide/über":              {Org: "naïve and wide", Repo: "über"},
		long + "/" + long:                  {Org: long, Repo: long},
		"repo@" + strings.Repeat("a", 255): {Repo: "repo", Revision: strings.Repeat("a", 255)},
	} {
		if got, err := ParseName(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/", "a/", "/a", "a/b/c", ".", "..", "../a", "a/..", ".hidden", "a/.git", "HEAD", "a/refs", "a\x00b", "a\nb", "a\x7f", "a\u009b2J", "\xff",
		long + "x", "a:", "a@", "a:b c", "a:../b", "a@-x", "a@x/", "a@x//y", "a@..", "a:b@c d", "a@" + long + "x", "a:" + strings.Repeat("q", MaxRepoPart+1)} {
		if got, err := ParseName(text); !IsKind(err, NotFound) {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
}

func TestPathsInsideAModel(t *testing.T) {
	deep := strings.Repeat("d/", MaxDepth-1)
	wide := strings.Repeat(strings.Repeat("w", MaxSegment-1)+"/", MaxPath/MaxSegment)
	for _, p := range []string{"a", "a/b", "a-b/c d/ü", deep + "f", strings.Repeat("x", MaxSegment), wide + strings.Repeat("f", MaxPath-len(wide)), "...", ".gitattributes"} {
		if !ValidPath(p) {
			t.Errorf("%q is refused", p)
		}
	}
	for _, p := range []string{"", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", `a\b`, "a\x00", "a\tb", "a\u009b2J", "\xff", "d/" + deep + "f", strings.Repeat("x", MaxSegment+1),
		wide + strings.Repeat("f", MaxPath-len(wide)+1)} {
		if ValidPath(p) {
			t.Errorf("%q is taken", p)
		}
	}
}

// A listing of any size and with any paths comes out sorted, bounded, and
// with every file in one place only.
func TestListingIsBounded(t *testing.T) {
	files := make([]File, MaxFiles+10)
	for i := range files {
		files[i] = File{Path: fmt.Sprintf("f%07d", i)}
	}
	kept, refused := Listing(files)
	if len(kept) != MaxFiles || len(refused) != 1 {
		t.Errorf("%d files, %v", len(kept), refused)
	}
	kept, refused = Listing([]File{{Path: "a"}, {Path: "a-b"}, {Path: "a/b"}, {Path: "a-b", Size: 1}, {Path: "../x"}, {Path: ".modelfs/x"}, {Path: "n", Size: -2}})
	if len(kept) != 2 || kept[0].Path != "a-b" || kept[0].Size != 0 || kept[1].Path != "a/b" || len(refused) != 5 {
		t.Errorf("%+v, refused %v", kept, refused)
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"gpt2", "org/repo:Q4_K_M@refs/pr/1", "a:b:c", "a@b@c", "a@b:c", "a/b/c", "..", "a/..", "HEAD", "", "a\x00b", "naïve", "\xff", "a--b", "a.git", "x.GGUF"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if err != nil {
			if !IsKind(err, NotFound) || n != (Name{}) {
				t.Errorf("%q: %+v, %v", s, n, err)
			}
			return
		}
		if n.String() != s || n.Org != "" && !ValidEntry(n.Org) || !ValidEntry(n.Repo) {
			t.Errorf("%q is %+v, which is %q", s, n, n)
		}
		if again, err := ParseName(n.Path()); err != nil || again != (Name{Org: n.Org, Repo: n.Repo}) {
			t.Errorf("the path %q of %q is %+v, %v", n.Path(), s, again, err)
		}
		if segments := strings.Split(n.Path(), "/"); len(segments) > 2 || strings.ContainsAny(n.Quant+n.Revision, "\x00\n\\") || strings.Contains(n.Quant+"/"+n.Revision, "..") {
			t.Errorf("%q is %+v", s, n)
		}
		if ValidRepoPart(n.Repo) && (!ValidPath(n.Repo) || len(n.Repo) > MaxRepoPart) {
			t.Errorf("%q could be asked of the Hub, but is no file's name", n.Repo)
		}
	})
}

func FuzzListing(f *testing.F) {
	f.Add("a\na/b\na-b")
	f.Add("../x\n/y\n.modelfs/z\n.modelfs")
	f.Add("a\na\nA\na/b/c/d\na/b")
	f.Add("\xff\n\\\n.\n..")
	f.Fuzz(func(t *testing.T, paths string) {
		var files []File
		for p := range strings.SplitSeq(paths, "\n") {
			files = append(files, File{Path: p})
		}
		n := len(files)
		kept, refused := Listing(files)
		if len(kept)+len(refused) != n {
			t.Errorf("of %d files %d are kept and %d refused", n, len(kept), len(refused))
		}
		seen := map[string]bool{}
		for i, k := range kept {
			if !ValidPath(k.Path) || i > 0 && kept[i-1].Path >= k.Path || strings.HasPrefix(k.Path+"/", ControlDir+"/") {
				t.Errorf("kept %q", k.Path)
			}
			seen[k.Path] = true
		}
		for p := range seen {
			for i := range p {
				if p[i] == '/' && seen[p[:i]] {
					t.Errorf("%q is a file and a directory", p[:i])
				}
			}
		}
	})
}
