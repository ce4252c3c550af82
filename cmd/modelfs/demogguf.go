package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
)

// GGUF's numbers (ggml's docs/gguf.md): the types of values, and the
// alignment of the tensors' data where no key states another.
const (
	ggufVersion   = 3
	ggufUint32    = 4
	ggufFloat32   = 6
	ggufString    = 8
	ggufTensorF32 = 0
	ggufAlignment = 32
)

// demoGGUF makes a valid GGUF with one F32 tensor of rows x 1024 numbers: 4
// KiB a row. The numbers differ from each other and from zero, so that a
// missing block would show.
func demoGGUF(rows int) []byte {
	const columns = 1024
	w := &ggufWriter{}
	w.raw("GGUF")
	w.uint32(ggufVersion)
	w.uint64(1) // tensors
	w.uint64(6) // keys
	w.stringKey("general.architecture", "llama")
	w.stringKey("general.name", "modelfs demo")
	w.uint32Key("general.file_type", 0) // all F32
	w.uint32Key("llama.context_length", 64)
	w.uint32Key("llama.embedding_length", columns)
	w.text("llama.attention.layer_norm_rms_epsilon")
	w.uint32(ggufFloat32)
	w.uint32(math.Float32bits(1e-5))

	w.text("token_embd.weight")
	w.uint32(2) // dimensions, the fastest first
	w.uint64(columns)
	w.uint64(uint64(rows)) //nolint:gosec // not negative
	w.uint32(ggufTensorF32)
	w.uint64(0) // offset in the data
	w.pad(ggufAlignment)

	gguf := slices.Grow(w.buf.Bytes(), 4*columns*rows)
	state := uint32(1)
	for range columns * rows {
		state = state*1664525 + 1013904223                                                           // Numerical Recipes' generator
		gguf = binary.LittleEndian.AppendUint32(gguf, math.Float32bits(float32(state>>8|1)/(1<<24))) // (0, 1)
	}
	return gguf
}

// ggufWriter writes GGUF's little-endian values.
type ggufWriter struct{ buf bytes.Buffer }

func (w *ggufWriter) raw(s string) { w.buf.WriteString(s) }
func (w *ggufWriter) uint32(n uint32) {
	w.buf.Write(binary.LittleEndian.AppendUint32(w.buf.AvailableBuffer(), n))
}
func (w *ggufWriter) uint64(n uint64) {
	w.buf.Write(binary.LittleEndian.AppendUint64(w.buf.AvailableBuffer(), n))
}

// text is a length and the bytes.
func (w *ggufWriter) text(s string) {
	w.uint64(uint64(len(s)))
	w.raw(s)
}

func (w *ggufWriter) stringKey(key, value string) {
	w.text(key)
	w.uint32(ggufString)
	w.text(value)
}

func (w *ggufWriter) uint32Key(key string, value uint32) {
	w.text(key)
	w.uint32(ggufUint32)
	w.uint32(value)
}

func (w *ggufWriter) pad(to int) {
	for w.buf.Len()%to != 0 {
		w.buf.WriteByte(0)
	}
}
