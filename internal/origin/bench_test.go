package origin

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// BenchmarkRange compares a stream with a plain http.Client, one connection
// each, read with a fill's buffer. The difference is what the checks cost.
func BenchmarkRange(b *testing.B) {
	const size = 64 << 20
	srv := httptest.NewServer(file{content(size), "x"})
	defer srv.Close()
	d, err := New(Config{Endpoints: []string{srv.URL}})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	o := d.Object(srv.URL+"/f", Want{Size: size})
	for name, open := range map[string]func() (io.ReadCloser, error){
		"door": func() (io.ReadCloser, error) { return o.Range(b.Context(), 0, size) },
		"plain": func() (io.ReadCloser, error) {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, srv.URL+"/f", nil)
			if err != nil {
				return nil, err
			}
			req.Header.Set("Range", "bytes=0-67108863")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return nil, err
			}
			return resp.Body, nil
		},
	} {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, 256<<10)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				s, err := open()
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, s, buf)
				if err != nil || n != size {
					b.Fatal(n, err)
				}
				_ = s.Close()
			}
		})
	}
	http.DefaultClient.CloseIdleConnections()
}
