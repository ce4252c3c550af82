package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"modelfs/internal/model"
)

// repo is a model of files of 1000 bytes each.
func repo(name string, tags []string, files ...string) *model.Model {
	m := &model.Model{Name: name, Tags: tags}
	for _, p := range files {
		m.Files = append(m.Files, model.File{Path: p, Size: 1000})
	}
	m.Files, _ = model.Listing(m.Files)
	return m
}

func split(s string) []string { return strings.Fields(s) }

// lines is an artifact a line: format[/scheme][@target][ "quant"][ companion]: files[ !broken].
func lines(s Summary) []string {
	var list []string
	for _, a := range s.Artifacts {
		l := string(a.Format)
		if a.Scheme != "" {
			l += "/" + a.Scheme
		}
		if a.Target != "" {
			l += "@" + string(a.Target)
		}
		if a.Quant != "" {
			l += fmt.Sprintf(" %q", a.Quant)
		}
		if a.Role == Companion {
			l += " companion"
		}
		l += ": " + strings.Join(a.Files, " ")
		if a.Broken != "" {
			l += " !" + a.Broken
		}
		list = append(list, l)
	}
	return list
}

// A memFile is a file for Inspect.
type memFile struct {
	*bytes.Reader
	closed *int
}

func (f memFile) Close() error { *f.closed++; return nil }

// inspect reads a model whose files are the given texts, in place.
func inspect(t *testing.T, name string, files map[string]string) (*model.Model, Hints) {
	t.Helper()
	m := &model.Model{Name: name}
	for p, text := range files {
		m.Files = append(m.Files, model.File{Path: p, Size: int64(len(text))})
	}
	m.Files, _ = model.Listing(m.Files)
	opened, closed := 0, 0
	h, err := Inspect(m, func(f *model.File) (Local, error) {
		opened++
		return memFile{bytes.NewReader([]byte(files[f.Path])), &closed}, nil
	})
	if err != nil || opened != closed {
		t.Fatalf("%d opened, %d closed: %v", opened, closed, err)
	}
	return m, h
}

// A ggufFile writes GGUF headers, right and wrong ones.
type ggufFile struct {
	bytes.Buffer
	order binary.ByteOrder
}

func newGGUF(order binary.ByteOrder, tensors, keys uint64) *ggufFile {
	g := &ggufFile{order: order}
	g.WriteString("GGUF")
	g.put(uint32(3), tensors, keys)
	return g
}

// put writes numbers in their width, and texts with their length.
func (g *ggufFile) put(values ...any) *ggufFile {
	for _, v := range values {
		if s, ok := v.(string); ok {
			g.put(uint64(len(s)))
			g.WriteString(s)
			continue
		}
		if err := binary.Write(g, g.order, v); err != nil {
			panic(err)
		}
	}
	return g
}

func (g *ggufFile) key(name string, typ uint32, values ...any) *ggufFile {
	return g.put(name, typ).put(values...)
}

func (g *ggufFile) tensor(name string, typ uint32, offset uint64, dims ...uint64) *ggufFile {
	g.put(name, uint32(len(dims)))
	for _, d := range dims {
		g.put(d)
	}
	return g.put(typ, offset)
}

// data pads to the alignment and appends n bytes.
func (g *ggufFile) data(alignment, n int) string {
	for g.Len()%alignment != 0 {
		g.WriteByte(0)
	}
	g.Write(make([]byte, n))
	return g.String()
}

// goodGGUF has one Q4_0 tensor of 64x2 (72 bytes at 0), one F32 of 8 (32
// bytes at 96), and values of every type.
func goodGGUF(order binary.ByteOrder) string {
	g := newGGUF(order, 2, 12)
	g.key("general.architecture", 8, "llama").key("general.type", 8, "model").key("general.size_label", 8, "8B")
	g.key("general.file_type", 4, uint32(15|1024)).key("split.no", 2, uint16(1)).key("split.count", 2, uint16(3))
	g.key("tokens", 9, uint32(8), uint64(2), "a", "bc").key("scores", 9, uint32(6), uint64(3), float32(1), float32(2), float32(3))
	g.key("nested", 9, uint32(9), uint64(1), uint32(0), uint64(2), uint8(1), uint8(2))
	g.key("b", 7, uint8(1)).key("d", 12, float64(1)).key("i", 11, int64(-1))
	g.tensor("w", 2, 0, 64, 2).tensor("n", 0, 96, 8)
	return g.data(32, 96+32)
}

func safetensors(header string, data int) string {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, uint64(len(header)))
	b.WriteString(header)
	b.Write(make([]byte, data))
	return b.String()
}
