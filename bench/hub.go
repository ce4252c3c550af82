package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"modelfs/internal/hubtest"
)

const repo = "bench/model"

// shards is the number of files of the model that is larger than the cache.
const shards = 7

func shardPath(i int) string { return fmt.Sprintf("shards/part-%05d-of-%05d.gguf", i+1, shards) }

// hubSpec is what the Hub's process is told at its start.
type hubSpec struct{ Large, Small int64 }

// An order is a line of the Hub process's input; each is answered by a reply.
type order struct {
	Do      string // "behave", "reset", "sent", "await"
	Latency time.Duration
	Rate    int64 // bytes a second of one connection to the CDN
	Bytes   int64 // that await waits for
}

// A reply is a line of its output. The first one has the addresses.
type reply struct {
	URL, CDN string
	Sent     int64 // bytes of content since the last reset
	At       int64 // when that was known, in nanoseconds of Unix time
}

// serveHub is the life of the Hub's process; it ends with its input.
func serveHub(text string) int {
	var spec hubSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	hub, err := hubtest.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer hub.Close()
	hub.AddRepo(hubtest.Repo{ID: repo, Files: hubFiles(spec)})
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(reply{URL: hub.URL(), CDN: hub.CDN()})
	in := json.NewDecoder(os.Stdin)
	for {
		var o order
		if in.Decode(&o) != nil {
			return 0
		}
		obey(hub, o)
		_ = out.Encode(reply{Sent: hub.BytesSent(""), At: time.Now().UnixNano()})
	}
}

func hubFiles(spec hubSpec) []hubtest.File {
	o := options{large: spec.Large, small: spec.Small}
	var files []hubtest.File
	for _, f := range append(allShards(o), large, small, other) {
		files = append(files, hubtest.File{Path: f.name, Content: hubtest.Pattern(f.seed, f.size(o)), LFS: true})
	}
	return files
}

func shardSeed(i int) uint64 { return uint64(10 + i) } //nolint:gosec // not negative

func obey(hub *hubtest.Hub, o order) {
	switch o.Do {
	case "behave":
		hub.SetLatency(o.Latency)
		hub.SetConnRate(o.Rate, hubtest.AtCDN)
	case "reset":
		hub.Reset()
	case "await":
		for deadline := time.Now().Add(time.Minute); hub.BytesSent("") < o.Bytes && time.Now().Before(deadline); {
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// hub is the Hub's process as the benchmark sees it.
type hub struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      *json.Decoder
	url, cdn string
}

func startHub(ctx context.Context, spec hubSpec) (*hub, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	h := &hub{cmd: exec.CommandContext(ctx, "/proc/self/exe")}
	h.cmd.Env = append(os.Environ(), hubRole+"="+string(text))
	h.cmd.Stderr = os.Stderr
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	h.out = json.NewDecoder(bufio.NewReader(out))
	var first reply
	if err := h.out.Decode(&first); err != nil {
		return nil, fmt.Errorf("starting the Hub: %w", err)
	}
	h.url, h.cdn = first.URL, first.CDN
	return h, nil
}

// ask gives an order and waits for its reply.
func (h *hub) ask(o order) (reply, error) {
	var r reply
	if err := json.NewEncoder(h.in).Encode(o); err != nil {
		return r, fmt.Errorf("ordering the Hub: %w", err)
	}
	if err := h.out.Decode(&r); err != nil {
		return r, fmt.Errorf("the Hub has ended: %w", err)
	}
	return r, nil
}

func (h *hub) sent() (int64, error) {
	r, err := h.ask(order{Do: "sent"})
	return r.Sent, err
}

func (h *hub) address(file string) string { return h.url + "/" + repo + "/resolve/main/" + file }

func (h *hub) close() {
	_ = h.in.Close()
	_ = h.cmd.Wait() // it ends with its input
}
