package hubtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// flat is the whole of a content, built byte by byte from single reads.
func flat(t interface{ Fatal(...any) }, c Content) []byte {
	var out []byte
	for off := int64(0); off < c.Size(); off += 4093 {
		b := make([]byte, min(4093, c.Size()-off))
		if n, err := c.ReadAt(b, off); n != len(b) || err != nil && !errors.Is(err, io.EOF) {
			t.Fatal("read", off, n, err)
		}
		out = append(out, b...)
	}
	return out
}

func TestContentReadsAgree(t *testing.T) {
	const size = 3<<20 + 777
	for name, c := range map[string]Content{
		"pattern": Pattern(3, size),
		"sparse":  Sparse(size, map[int64][]byte{0: []byte("head"), 65530: bytes.Repeat([]byte("land"), 9000), size - 3: []byte("end and more")}),
		"bytes":   Bytes(bytes.Repeat([]byte("0123456789abc"), size/13)),
	} {
		whole := flat(t, c)
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			off := rapid.Int64Range(0, c.Size()+10).Draw(t, "off")
			buf := make([]byte, rapid.IntRange(0, 1<<18).Draw(t, "len"))
			n, err := c.ReadAt(buf, off)
			want := whole[min(off, int64(len(whole))):min(off+int64(len(buf)), int64(len(whole)))]
			if !bytes.Equal(buf[:n], want) {
				t.Fatalf("ReadAt(%d, %d) = %d bytes that differ", off, len(buf), n)
			}
			if n < len(buf) && !errors.Is(err, io.EOF) {
				t.Fatalf("short read without io.EOF: %d of %d, %v", n, len(buf), err)
			}
			var streamed bytes.Buffer
			if err := streamTo(&streamed, c, min(off, c.Size()), int64(len(want))); err != nil || !bytes.Equal(streamed.Bytes(), want) {
				t.Fatalf("streamTo(%d, %d): %v, %d bytes", off, len(want), err, streamed.Len())
			}
		}))
	}
}

func TestPatternBlocksDiffer(t *testing.T) {
	seen := map[string]int64{}
	for _, seed := range []uint64{1, 2} {
		p := Pattern(seed, 8<<20)
		for off := int64(0); off < p.Size(); off += markEvery {
			b := string(PatternAt(p, off, markEvery))
			if at, dup := seen[b]; dup {
				t.Fatalf("the block at %d equals the one at %d", off, at)
			}
			seen[b] = off
		}
	}
}

func TestPatternBeyond4GiB(t *testing.T) {
	p := Pattern(1, 6<<40)
	off := int64(5)<<40 + 3
	if bytes.Equal(PatternAt(p, off, 64), PatternAt(p, off-1<<40, 64)) {
		t.Error("offsets 1 TiB apart hold the same mark")
	}
	if n, err := p.ReadAt(make([]byte, 10), 6<<40-4); n != 4 || !errors.Is(err, io.EOF) {
		t.Errorf("read at the end: %d, %v", n, err)
	}
}

func TestHashes(t *testing.T) {
	p := Pattern(9, 300_000)
	sum := sha256.Sum256(flat(t, p))
	if got := p.SHA256(); got != hex.EncodeToString(sum[:]) || sha256Of(p) != got {
		t.Errorf("SHA256 = %s, want %x", got, sum)
	}
	if got := gitSHA1(Text("Hello World!")); got != "c57eff55ebc0c54973903af5f72bac72762cf4f4" {
		t.Errorf("git sha1 of Hello World! = %s", got)
	}
	if got := sha256Of(Text("Hello World!")); got != "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069" {
		t.Errorf("sha256 of Hello World! = %s", got)
	}
}

func TestMismatch(t *testing.T) {
	c := Text("0123456789")
	for _, tt := range []struct {
		got  string
		off  int64
		want int64
	}{
		{"0123", 0, -1}, {"456", 4, -1}, {"4x6", 4, 5}, {"89a", 8, 10}, {"", 10, -1}, {"z", 10, 10},
	} {
		if got := Mismatch(c, []byte(tt.got), tt.off); got != tt.want {
			t.Errorf("Mismatch(%q at %d) = %d, want %d", tt.got, tt.off, got, tt.want)
		}
	}
}

func TestCommitIDs(t *testing.T) {
	id := func(repo, parent string, files ...File) string {
		return newCommit(repo, parent, newRepoTime, files).id
	}
	base := id("a/b", "", File{Path: "x", Content: Text("1")})
	if again := id("a/b", "", File{Path: "x", Content: Text("1")}); again != base {
		t.Errorf("equal commits have ids %s and %s", base, again)
	}
	for name, other := range map[string]string{
		"repository": id("a/c", "", File{Path: "x", Content: Text("1")}),
		"parent":     id("a/b", base, File{Path: "x", Content: Text("1")}),
		"path":       id("a/b", "", File{Path: "y", Content: Text("1")}),
		"content":    id("a/b", "", File{Path: "x", Content: Text("2")}),
		"seed":       id("a/b", "", File{Path: "x", Content: Pattern(1, 1)}),
		"lfs":        id("a/b", "", File{Path: "x", Content: Text("1"), LFS: true}),
	} {
		if other == base {
			t.Errorf("another %s has the same commit id", name)
		}
	}
}

// broken is a content whose second half can't be read.
type broken struct{ Content }

func (broken) id() string { return "broken" }

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > b.Size()/2 {
		return 0, errors.New("broken")
	}
	return b.Content.ReadAt(p, off)
}

func TestUnreadableContentEndsTheAnswer(t *testing.T) {
	h := New(t)
	h.AddRepo(Repo{ID: "org/x", Files: []File{{Path: "f", Content: broken{Pattern(1, 2<<20)}, LFS: true, SHA256: "0"}}})
	c := newClient(t)
	resp := c.send("GET", location(c, h.ResolveURL("org/x", "main", "f")), nil)
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if d := cmp.Diff(io.ErrUnexpectedEOF.Error(), err.Error()); d != "" || n > 1<<20 {
		t.Errorf("read %d bytes, %v", n, err)
	}
}
