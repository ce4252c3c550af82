package hubtest_test

import (
	"fmt"
	"io"
	"net/http"

	"modelfs/internal/hubtest"
)

// A Hub whose CDN cuts the first download, and what the log says of it.
func Example() {
	hub, err := hubtest.Start()
	if err != nil {
		panic(err)
	}
	defer hub.Close()
	hub.AddRepo(hubtest.Repo{ID: "acme/tiny", Files: []hubtest.File{
		{Path: "config.json", Content: hubtest.Text(`{"model_type":"llama"}`)},
		{Path: "model.gguf", Content: hubtest.Pattern(1, 64<<20)},
	}})
	hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: "acme/tiny/*"}, hubtest.First(1), hubtest.CutAt(1<<20, hubtest.CleanClose))

	for range 2 {
		resp, err := http.Get(hub.ResolveURL("acme/tiny", "main", "model.gguf"))
		if err != nil {
			panic(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, n, err)
	}
	times, _ := hub.MostSent("acme/tiny/model.gguf")
	fmt.Println(hub.BytesSent("acme/tiny/model.gguf"), times)
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// 200 1048576 unexpected EOF
	// 200 67108864 <nil>
	// 68157440 2
}
