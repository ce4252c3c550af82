package hubtest

import (
	"io"
	"net/http"
	"os/exec"
	"testing"
)

func BenchmarkPatternReadAt(b *testing.B) {
	p := Pattern(1, 1<<30)
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(buf)))
	for i := 0; b.Loop(); i++ {
		_, _ = p.ReadAt(buf, int64(i%1000)<<20)
	}
}

func BenchmarkPatternStream(b *testing.B) {
	p := Pattern(1, 1<<30)
	b.SetBytes(1 << 28)
	for b.Loop() {
		_ = p.stream(io.Discard, 0, 1<<28)
	}
}

// cdnURL is a signed URL of a large file.
func cdnURL(b *testing.B, size int64) string {
	h := New(b)
	h.AddRepo(Repo{ID: "org/big", Files: []File{{Path: "x.bin", Content: Pattern(1, size), SHA256: "00"}}})
	resp, _ := newClient(b).get(h.ResolveURL("org/big", "main", "x.bin"), nil)
	return resp.Header.Get("Location")
}

func BenchmarkCDNCurl(b *testing.B) {
	const size = 4 << 30
	url := cdnURL(b, size)
	b.SetBytes(size)
	for b.Loop() {
		if out, err := exec.Command("curl", "-sf", "-o", "/dev/null", url).CombinedOutput(); err != nil {
			b.Fatalf("curl: %v %s", err, out)
		}
	}
}

func BenchmarkCDNGo(b *testing.B) {
	const size = 4 << 30
	url := cdnURL(b, size)
	c := newClient(b)
	buf := make([]byte, 1<<20)
	b.SetBytes(size)
	for b.Loop() {
		resp := c.send(http.MethodGet, url, nil)
		if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf); n != size || err != nil {
			b.Fatalf("got %d bytes, %v", n, err)
		}
		resp.Body.Close()
	}
}
