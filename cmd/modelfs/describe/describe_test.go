package describe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"modelfs/cmd/modelfs/operate"
	"modelfs/internal/model"
)

// A shelf is a tree of one model that counts what is read of it.
type shelf struct {
	dir          string
	heads, opens atomic.Int64
	gone         error // what every read says; nil: it reads
}

type lying struct {
	s    *shelf
	name string
}

func (p lying) Path() string                             { return filepath.Join(p.s.dir, p.name) }
func (p lying) Stat(context.Context) (model.Stat, error) { return model.Stat{}, p.s.gone }

func (p lying) Head(ctx context.Context, _ int64) ([]byte, error) {
	p.s.heads.Add(1)
	if err := errors.Join(p.s.gone, ctx.Err()); err != nil {
		return nil, err
	}
	return os.ReadFile(p.Path())
}

func (p lying) Reader(context.Context) (model.Reader, model.Stat, error) {
	return nil, model.Stat{}, os.ErrNotExist
}

func (p lying) Open(ctx context.Context) (*os.File, model.Stat, error) {
	p.s.opens.Add(1)
	if err := errors.Join(p.s.gone, ctx.Err()); err != nil {
		return nil, model.Stat{}, err
	}
	f, err := os.Open(p.Path())
	return f, model.Stat{}, err
}

// inPlace is a model of the given texts.
func inPlace(t *testing.T, kind model.SourceKind, files map[string]string) (*model.Model, *shelf) {
	t.Helper()
	s := &shelf{dir: t.TempDir()}
	m := &model.Model{Name: "a/m", Source: kind.String() + ":" + s.dir, Kind: kind}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Files = append(m.Files, model.File{Path: name, Size: int64(len(text)), Place: lying{s, name}})
	}
	m.Files, _ = model.Listing(m.Files)
	return m, s
}

// gguf is a whole GGUF file without tensors.
func gguf(architecture string) string {
	var b bytes.Buffer
	text := func(s string) { _ = binary.Write(&b, binary.LittleEndian, uint64(len(s))); b.WriteString(s) }
	b.WriteString("GGUF")
	_ = binary.Write(&b, binary.LittleEndian, []uint32{3, 0, 0, 2, 0})
	text("general.architecture")
	_ = binary.Write(&b, binary.LittleEndian, uint32(8))
	text(architecture)
	text("general.file_type")
	_ = binary.Write(&b, binary.LittleEndian, []uint32{4, 15})
	return b.String()
}

const awq = `{"model_type":"llama","quantization_config":{"quant_method":"awq","bits":4}}`

// A model that lies here is judged by its config, whatever its name says.
func TestStudyDecidesTheListing(t *testing.T) {
	for _, kind := range []model.SourceKind{model.Local, model.Shared} {
		m, s := inPlace(t, kind, map[string]string{"config.json": awq, "model.safetensors": "x"})
		d := New(machineFor(t, "metal"), never)
		if !d.Filter(m, "").Runs {
			t.Errorf("%v: what is not known is left out", kind)
		}
		d.Study(t.Context(), m)
		if got := d.Filter(m, ""); got.Runs || got.Why != "nothing of it runs on metal: awq safetensors needs cuda or rocm or intel or cpu" {
			t.Errorf("%v: %+v", kind, got)
		}
		d.Study(t.Context(), m)
		if s.heads.Load() != 1 || s.opens.Load() != 0 {
			t.Errorf("%v: %d heads and %d files were read, want 1 and 0", kind, s.heads.Load(), s.opens.Load())
		}
		later := *m
		later.Files = slices.Clone(m.Files)
		later.Files[0].ModTime = time.Unix(1, 0)
		if !d.Filter(&later, "").Runs {
			t.Errorf("%v: what was read of a file counts for its successor", kind)
		}
	}
}

func TestDescribeReadsHeadersOfThisMachineOnly(t *testing.T) {
	files := map[string]string{"model.gguf": gguf("qwen3")}
	want := operate.Description{Format: "gguf", Quant: "Q4_K_M", Architecture: "qwen3", Backends: []string{"cuda", "rocm", "metal", "vulkan", "intel", "cpu"}, Limited: []string{"intel"}}
	byName := want
	byName.Quant, byName.Architecture = "", ""
	ended, end := context.WithCancel(t.Context())
	end()
	for _, tt := range []struct {
		what string
		kind model.SourceKind
		ctx  context.Context
		gone error
		want operate.Description
		read int64
	}{
		{"local", model.Local, t.Context(), nil, want, 1},
		{"shared", model.Shared, t.Context(), nil, byName, 0},
		{"no time left", model.Local, ended, nil, byName, 0},
		{"gone", model.Local, t.Context(), os.ErrNotExist, byName, 2}, // tried each time
	} {
		m, s := inPlace(t, tt.kind, files)
		s.gone = tt.gone
		d := New(machineFor(t, "cuda"), never)
		for range 2 {
			got := d.Describe(tt.ctx, m)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s: %s", tt.what, diff)
			}
		}
		if n := s.opens.Load(); n != tt.read {
			t.Errorf("%s: %d files were read, want %d", tt.what, n, tt.read)
		}
	}
}

func TestDescribeSaysWhatIsBroken(t *testing.T) {
	m, _ := inPlace(t, model.Local, map[string]string{"a.gguf": gguf("llama")[:30]})
	got := New(machineFor(t, "cuda"), never).Describe(t.Context(), m)
	if got.Broken != "a.gguf: it is truncated: it ends within its header, after 30 bytes" || got.Why != got.Broken {
		t.Errorf("%+v", got)
	}
}

// A model that has to be fetched is described by what its source says.
func TestDescribeReadsNothingOfWhatIsFetched(t *testing.T) {
	m := repo("a/m", "config.json model.safetensors")
	m.Traits = model.Traits{Architecture: "llama", Scheme: "gptq", Bits: 4}
	want := operate.Description{Format: "safetensors", Quant: "gptq 4-bit", Architecture: "llama", Backends: []string{"cuda", "rocm", "intel", "cpu"}, Limited: []string{"rocm", "intel", "cpu"},
		Hidden: true, Why: "nothing of it runs on metal: gptq safetensors needs cuda or rocm or intel or cpu"}
	if diff := cmp.Diff(want, New(machineFor(t, "metal"), never).Describe(t.Context(), m)); diff != "" {
		t.Error(diff)
	}
}

// A studied source lists as its source does, and fails as it does.
func TestStudied(t *testing.T) {
	m, s := inPlace(t, model.Local, map[string]string{"config.json": awq, "model.safetensors": "x"})
	d := New(machineFor(t, "metal"), never)
	src := d.Studied(&fixed{m: m})
	if got, err := src.List(t.Context(), model.Name{}, model.Found{}); got != m || err != nil || d.Filter(m, "").Runs {
		t.Errorf("%v, %v, runs: %v", got, err, d.Filter(m, "").Runs)
	}
	src = d.Studied(&fixed{err: os.ErrPermission})
	if got, err := src.List(t.Context(), model.Name{}, model.Found{}); got != nil || !errors.Is(err, os.ErrPermission) {
		t.Errorf("%v, %v", got, err)
	}
	if n := s.heads.Load(); n != 1 {
		t.Errorf("%d reads", n)
	}
}

// fixed is a source of one answer.
type fixed struct {
	m   *model.Model
	err error
}

func (f *fixed) ID() string             { return "local:fixed" }
func (f *fixed) Kind() model.SourceKind { return model.Local }
func (f *fixed) Find(context.Context, model.Name) (model.Found, error) {
	return model.Found{}, f.err
}
func (f *fixed) List(context.Context, model.Name, model.Found) (*model.Model, error) {
	return f.m, f.err
}
func (f *fixed) Names(context.Context) ([]model.Found, error) { return nil, f.err }
