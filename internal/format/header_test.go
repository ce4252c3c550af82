package format

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"modelfs/internal/model"
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

func readGGUF(s string) (*GGUFHeader, error) { return ReadGGUF(strings.NewReader(s), int64(len(s))) }

func TestReadGGUF(t *testing.T) {
	for _, order := range []binary.ByteOrder{le, be} {
		raw := goodGGUF(order)
		want := &GGUFHeader{Architecture: "llama", Type: "model", SizeLabel: "8B", FileType: "Q4_K_M", SplitNo: 1, SplitCount: 3, Expected: int64(len(raw))}
		got, err := readGGUF(raw)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v: %v %s", order, err, diff)
		}
	}
}

func TestGGUFExpectedSize(t *testing.T) {
	for _, tt := range []struct {
		name string
		file *ggufFile
		want func(header int) int64
	}{
		{"no tensors", newGGUF(le, 0, 0), func(h int) int64 { return int64(h) }},
		{"padding after the last may be missing", newGGUF(le, 1, 0).tensor("a", 0, 0, 3), func(h int) int64 { return int64((h+31)/32*32 + 12) }},
		{"alignment", newGGUF(le, 1, 1).key("general.alignment", 4, uint32(4096)).tensor("a", 0, 4096, 1), func(int) int64 { return 4096 + 4096 + 4 }},
		{"a type that is not known", newGGUF(le, 2, 0).tensor("a", 99, 0, 3).tensor("b", 0, 32, 3), func(int) int64 { return -1 }},
		{"Q6_K", newGGUF(le, 1, 0).tensor("a", 14, 0, 512, 3), func(h int) int64 { return int64((h+31)/32*32 + 2*3*210) }},
		{"scalar", newGGUF(le, 1, 0).tensor("a", 0, 0), func(h int) int64 { return int64((h+31)/32*32 + 4) }},
	} {
		raw := tt.file.String()
		h, err := readGGUF(raw)
		if err != nil || h.Expected != tt.want(len(raw)) {
			t.Errorf("%s: %+v, %v; want %d", tt.name, h, err, tt.want(len(raw)))
		}
	}
}

// Of a version of tomorrow nothing is known, least of all that it is broken.
func TestGGUFOfTomorrow(t *testing.T) {
	for _, version := range []uint32{4, 99} {
		h, err := readGGUF("GGUF" + string(le.AppendUint32(nil, version)))
		if diff := cmp.Diff(&GGUFHeader{Expected: -1}, h); diff != "" || err != nil {
			t.Errorf("version %d: %v %s", version, err, diff)
		}
	}
}

func TestGGUFRefuses(t *testing.T) {
	v := func(n uint32) string { return "GGUF" + string(le.AppendUint32(nil, n)) + strings.Repeat("\x00", 16) }
	for _, tt := range []struct {
		name, raw string
		kind      model.Kind
	}{
		{"empty", "", model.Corrupt},
		{"another magic", "GGML" + strings.Repeat("\x00", 40), model.Invalid},
		{"version 1", v(1), model.Invalid},
		{"version 100", v(100), model.Invalid},
		{"version 0", v(0), model.Invalid},
		{"tensors without number", newGGUF(le, 1<<60, 0).String(), model.Invalid},
		{"keys without number", newGGUF(le, 0, 1<<60).String(), model.Invalid},
		{"a long key", newGGUF(le, 0, 1).put(uint64(1 << 40)).String(), model.Invalid},
		{"a long text", newGGUF(le, 0, 1).key("a", 8, uint64(1<<40)).String(), model.Invalid},
		{"a long array", newGGUF(le, 0, 1).key("a", 9, uint32(4), uint64(1<<62)).String(), model.Invalid},
		{"an array that is not there", newGGUF(le, 0, 1).key("a", 9, uint32(4), uint64(1000)).String(), model.Corrupt},
		{"arrays in arrays", newGGUF(le, 0, 1).key("a", 9, uint32(9), uint64(1), uint32(9), uint64(1), uint32(9), uint64(1), uint32(9), uint64(1), uint32(9), uint64(1)).String(), model.Invalid},
		{"a type that is none", newGGUF(le, 0, 1).key("a", 13).String(), model.Invalid},
		{"alignment 0", newGGUF(le, 0, 1).key("general.alignment", 4, uint32(0)).String(), model.Invalid},
		{"alignment 48", newGGUF(le, 0, 1).key("general.alignment", 4, uint32(48)).String(), model.Invalid},
		{"five dimensions", newGGUF(le, 1, 0).tensor("a", 0, 0, 1, 1, 1, 1, 1).String(), model.Invalid},
		{"elements overflow", newGGUF(le, 1, 0).tensor("a", 0, 0, 1<<40, 1<<40).String(), model.Invalid},
		{"bytes overflow", newGGUF(le, 1, 0).tensor("a", 0, 0, 1<<63).String(), model.Invalid},
		{"the offset overflows", newGGUF(le, 1, 0).tensor("a", 0, 1<<63|1<<62, 1<<20, 1<<20, 1<<21).String(), model.Invalid},
		{"a row that does not divide", newGGUF(le, 1, 0).tensor("a", 2, 0, 33).String(), model.Invalid},
		{"a tensor's name is long", newGGUF(le, 1, 0).put(uint64(1 << 20)).String(), model.Invalid},
	} {
		if h, err := readGGUF(tt.raw); !model.IsKind(err, tt.kind) || h != nil {
			t.Errorf("%s: %+v, %v; want an error of kind %v", tt.name, h, err, tt.kind)
		}
	}
	raw := goodGGUF(le)
	header := len(raw) - 128 - 31 // the padding is no part of the header
	for n := range header {
		if _, err := readGGUF(raw[:n]); !model.IsKind(err, model.Corrupt) {
			t.Fatalf("cut at %d of %d: %v", n, header, err)
		}
	}
}

// Values of the wrong type, and texts that are no names, are not kept.
func TestGGUFOddValues(t *testing.T) {
	g := newGGUF(le, 0, 5).key("general.architecture", 4, uint32(7)).key("general.size_label", 8, "8B\x1b[2J").key("general.file_type", 8, "x")
	g.key("general.type", 8, strings.Repeat("x", maxGGUFKept+1)).key("split.count", 10, uint64(1<<40|5))
	got, err := readGGUF(g.String())
	want := &GGUFHeader{SplitCount: 5, FileType: "F32", Expected: int64(g.Len())}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// A header that goes on for ever costs a bounded number of bytes.
func TestGGUFHeaderIsBounded(t *testing.T) {
	endless := newGGUF(le, 0, maxGGUFKeys)
	r := &countingReader{head: endless.Bytes(), repeat: newGGUF(le, 0, 0).key("a", 9, uint32(8), uint64(1), strings.Repeat("x", 8000)).Bytes()[24:]}
	if _, err := ReadGGUF(r, 1<<40); !model.IsKind(err, model.Invalid) || !strings.Contains(err.Error(), "larger") || r.read > maxGGUFHeader {
		t.Errorf("%d bytes read: %v", r.read, err)
	}
}

// A countingReader is a file of head, and then repeat again and again.
type countingReader struct {
	head, repeat []byte
	read         int64
}

func (r *countingReader) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(r.head)) {
		n = copy(b, r.head[off:])
	}
	for n < len(b) {
		at := (off + int64(n) - int64(len(r.head))) % int64(len(r.repeat))
		n += copy(b[n:], r.repeat[at:])
	}
	r.read += int64(n)
	return n, nil
}

func TestReadSafetensors(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		want         SafetensorsHeader
	}{
		{"two tensors", `{"__metadata__":{"format":"pt","x":"y"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[4,12]}}  `,
			SafetensorsHeader{Framework: "pt", Dtype: "BF16", Expected: 12}},
		{"none", `{}`, SafetensorsHeader{}},
		{"metadata without format", `{"__metadata__":{}}`, SafetensorsHeader{}},
		{"unknown fields", `{"a":{"dtype":"F8_E4M3","shape":[[1]],"data_offsets":[0,9],"z":{"y":[]}}}`, SafetensorsHeader{Dtype: "F8_E4M3", Expected: 9}},
		{"hostile texts", `{"__metadata__":{"format":"\u001b"},"a":{"dtype":"\u0007","data_offsets":[0,1]}}`, SafetensorsHeader{Expected: 1}},
	} {
		raw := safetensors(tt.header, 0)
		tt.want.Expected += int64(len(raw))
		got, err := ReadSafetensors(strings.NewReader(raw), int64(len(raw)))
		if diff := cmp.Diff(&tt.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", tt.name, err, diff)
		}
	}
}

func TestSafetensorsRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		kind      model.Kind
	}{
		{"empty", "", model.Corrupt},
		{"short", "\x10\x00", model.Corrupt},
		{"ends within the header", safetensors(`{"a":{}}`, 0)[:12], model.Corrupt},
		{"length 0", strings.Repeat("\x00", 20), model.Invalid},
		{"length without end", strings.Repeat("\xff", 20), model.Invalid},
		{"a pointer", "version https://git-lfs.github.com/spec/v1", model.Invalid},
		{"no JSON", safetensors(`abc`, 0), model.Invalid},
		{"an array", safetensors(`[]`, 0), model.Invalid},
		{"JSON that ends", safetensors(`{"a":{"dtype":"F32"`, 100), model.Invalid},
		{"negative", safetensors(`{"a":{"data_offsets":[-1,4]}}`, 0), model.Invalid},
		{"backwards", safetensors(`{"a":{"data_offsets":[4,0]}}`, 0), model.Invalid},
		{"beyond any file", safetensors(`{"a":{"data_offsets":[0,9000000000000000000]}}`, 0), model.Invalid},
		{"overflow", safetensors(`{"a":{"data_offsets":[0,99999999999999999999]}}`, 0), model.Invalid},
		{"a tensor that is text", safetensors(`{"a":"b"}`, 0), model.Invalid},
		{"deep", safetensors(`{"a":{"x":`+strings.Repeat("[", 20000)+`}}`, 0), model.Invalid},
	} {
		if h, err := ReadSafetensors(strings.NewReader(tt.raw), int64(len(tt.raw))); !model.IsKind(err, tt.kind) || h != nil {
			t.Errorf("%s: %+v, %v; want an error of kind %v", tt.name, h, err, tt.kind)
		}
	}
}

func FuzzReadGGUF(f *testing.F) {
	f.Add([]byte(goodGGUF(le)))
	f.Add([]byte(goodGGUF(be)))
	f.Add(newGGUF(le, 1, 1).key("general.alignment", 4, uint32(64)).tensor("a", 14, 0, 256, 2).Bytes())
	f.Add(newGGUF(le, 1<<19, 0).Bytes())
	f.Add(newGGUF(le, 0, 1).key("a", 9, uint32(9), uint64(9), uint32(9), uint64(1)).Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := ReadGGUF(bytes.NewReader(raw), int64(len(raw)))
		if err != nil && !model.IsKind(err, model.Invalid) && !model.IsKind(err, model.Corrupt) {
			t.Fatalf("an error of another kind: %v", err)
		}
		if err == nil && (h.Expected < -1 || h.SplitNo < 0 || h.SplitNo > 1<<16 || h.SplitCount > 1<<16 || len(h.Architecture) > maxGGUFKept) {
			t.Fatalf("%+v", h)
		}
	})
}

func FuzzReadSafetensors(f *testing.F) {
	f.Add([]byte(safetensors(`{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4)))
	f.Add([]byte(safetensors(`{"a":{"data_offsets":[0,9000000000000000000]}}`, 0)))
	f.Add([]byte(safetensors(`{"a":`, 0)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := ReadSafetensors(bytes.NewReader(raw), int64(len(raw)))
		if err != nil && !model.IsKind(err, model.Invalid) && !model.IsKind(err, model.Corrupt) {
			t.Fatalf("an error of another kind: %v", err)
		}
		if err == nil && h.Expected < 8 {
			t.Fatalf("%+v", h)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"architectures":["X"],"quantization":{"bits":4},"quantization_config":{"quant_method":"exl2","bits":2.25}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConfig(raw)
		if err != nil && !model.IsKind(err, model.Invalid) {
			t.Fatalf("an error of another kind: %v", err)
		}
		if err == nil && (c.Bits < 0 || c.Bits > 64 || printable(c.Architecture) != c.Architecture || printable(c.Scheme) != c.Scheme) {
			t.Fatalf("%+v", c)
		}
	})
}
