package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"modelfs/internal/model"
)

func TestExitCode(t *testing.T) {
	base := errors.New("x")
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, exitDone},
		{base, exitFailed},
		{withCode(exitMount, base), exitMount},
		{fmt.Errorf("starting: %w", withCode(exitUsage, base)), exitUsage},
		{withCode(exitUsage, withCode(exitMount, base)), exitUsage},
		{fmt.Errorf("opening: %w", model.Errorf(model.InUse, "by process 7")), exitInUse},
		{errors.Join(model.Errorf(model.InUse, "by process 7"), base), exitInUse},
		{withCode(exitMount, model.Errorf(model.InUse, "mounted already")), exitMount},
		{model.Errorf(model.NotFound, "x"), exitFailed},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("exitCode(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
	if withCode(exitUsage, nil) != nil {
		t.Error("no error became one")
	}
}

func TestVersionLine(t *testing.T) {
	info := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	rev := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123"}
	dirty := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for _, tt := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{nil, "modelfs (unknown version) go"},
		{info(""), "modelfs (devel) go"},
		{info("v1.2.3", rev), "modelfs v1.2.3 go"},
		{info("(devel)", rev), "modelfs (devel) 0123456789ab go"},
		{info("(devel)", rev, dirty), "modelfs (devel) 0123456789ab (modified) go"},
		{info("(devel)", debug.BuildSetting{Key: "vcs.revision", Value: "01"}), "modelfs (devel) 01 go"},
	} {
		if got := versionLine(tt.info); !strings.HasPrefix(got, tt.want) {
			t.Errorf("got %q, want %q…", got, tt.want)
		}
	}
}

func TestLogger(t *testing.T) {
	for _, tt := range []struct {
		level, format string
		want          []string
		not           string
	}{
		{"info", "auto", []string{`"msg":"hello"`}, "quiet"}, // a buffer is no terminal
		{"debug", "json", []string{`"msg":"hello"`, `"msg":"quiet"`}, "msg=hello"},
		{"info", "text", []string{"msg=hello"}, `"msg"`},
		{"error", "text", nil, "hello"},
	} {
		var out bytes.Buffer
		log := newLogger(&out, tt.level, tt.format)
		log.Debug("quiet")
		log.Info("hello", slog.Int("n", 1))
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s %s: no %q in %q", tt.level, tt.format, want, out.String())
			}
		}
		if strings.Contains(out.String(), tt.not) {
			t.Errorf("%s %s: %q in %q", tt.level, tt.format, tt.not, out.String())
		}
	}
}

func TestNotify(t *testing.T) {
	ctx := context.Background()
	if err := sdNotify(ctx, "", "READY=1"); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	if err := sdNotify(ctx, filepath.Join(t.TempDir(), "missing"), "READY=1"); err == nil {
		t.Error("a manager that is not there was told")
	}
	for _, address := range []string{filepath.Join(t.TempDir(), "notify"), "@modelfs-test-" + t.TempDir()} {
		l, err := new(net.ListenConfig).ListenPacket(t.Context(), "unixgram", strings.Replace(address, "@", "\x00", 1))
		if err != nil {
			t.Fatal(err)
		}
		if err := sdNotify(ctx, address, "READY=1\nSTATUS=x"); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		buf := make([]byte, 100)
		n, _, err := l.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "READY=1\nSTATUS=x" {
			t.Errorf("%s: got %q, %v", address, buf[:n], err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// ggufReader reads what ggufWriter wrote; it fails by panicking.
type ggufReader struct{ b []byte }

func (r *ggufReader) take(n uint64) []byte { b := r.b[:n]; r.b = r.b[n:]; return b }
func (r *ggufReader) uint32() uint32       { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *ggufReader) uint64() uint64       { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *ggufReader) text() string         { return string(r.take(r.uint64())) }

// The demo's model is what the format's description says a GGUF is.
func TestDemoGGUF(t *testing.T) {
	const rows = 3
	whole := demoGGUF(rows)
	r := &ggufReader{whole}
	if magic, version := string(r.take(4)), r.uint32(); magic != "GGUF" || version != 3 {
		t.Fatalf("%q version %d", magic, version)
	}
	tensors, keys := r.uint64(), r.uint64()
	values := make(map[string]any)
	for range keys {
		key := r.text()
		switch kind := r.uint32(); kind {
		case ggufString:
			values[key] = r.text()
		case ggufUint32, ggufFloat32:
			values[key] = r.uint32()
		default:
			t.Fatalf("key %s has the type %d", key, kind)
		}
	}
	if values["general.architecture"] != "llama" || values["llama.embedding_length"] != uint32(1024) {
		t.Errorf("keys: %v", values)
	}
	name, dims := r.text(), r.uint32()
	columns, lines, kind, offset := r.uint64(), r.uint64(), r.uint32(), r.uint64()
	if tensors != 1 || name != "token_embd.weight" || dims != 2 || columns != 1024 || lines != rows || kind != 0 || offset != 0 {
		t.Errorf("tensor %s of %d dimensions: %d x %d, type %d at %d", name, dims, columns, lines, kind, offset)
	}
	start := (len(whole) - len(r.b) + 31) / 32 * 32
	if got := len(whole) - start; got != rows*4096 {
		t.Errorf("%d bytes of data, want %d", got, rows*4096)
	}
	if bytes.Contains(whole[start:], make([]byte, 4)) {
		t.Error("the data has zeros, where a missing block would not show")
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := progress{out: &out, label: "x", total: 1000}
	for n := int64(0); n <= 1000; n += 7 {
		p.at(n)
	}
	p.at(1000)
	if got := strings.Count(out.String(), "\n"); got != 10 || !strings.Contains(out.String(), "100 %") {
		t.Errorf("%d lines:\n%s", got, out.String())
	}
}

func TestStatusNumbers(t *testing.T) {
	var s status
	if err := json.Unmarshal([]byte(`{"mount":{"reads":7},"fetch":{"bytes":9,"asked_again":3},"cache":{"used":5},
		"sources":[{"id":"a","breaker":"closed","latency_ms":1500},{"id":"b","breaker":"open"},{"id":"c","breaker":"half-open"}]}`), &s); err != nil {
		t.Fatal(err)
	}
	n := s.numbers()
	if n.Reads != 7 || n.Fetched != 9 || n.Again != 3 || n.CacheUsed != 5 || len(n.Sources) != 3 {
		t.Fatalf("got %+v", n)
	}
	if !n.Sources[0].Up || n.Sources[1].Up || !n.Sources[2].Up || n.Sources[0].Latency.Seconds() != 1.5 {
		t.Errorf("got %+v", n.Sources)
	}
}
