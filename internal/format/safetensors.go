package format

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"modelfs/internal/model"
)

// maxSafetensorsHeader is what the format's own reader in Python takes.
const maxSafetensorsHeader = 25_000_000

// maxSafetensorsTensors bounds the tensors of one file.
const maxSafetensorsTensors = 1_000_000

// A SafetensorsHeader is what the header of a safetensors file says.
type SafetensorsHeader struct {
	Framework string // "pt", "mlx", "tf", "flax"; "" where it is not stated
	Dtype     string // of most bytes: "BF16", "F8_E4M3", "U32"
	Expected  int64  // bytes that the whole file has
}

// ReadSafetensors reads the header of a safetensors file of the given size.
// Errors: Invalid for what is no safetensors file that can be used, Corrupt
// for a file that ends within its header, else the reader's.
func ReadSafetensors(r io.ReaderAt, size int64) (*SafetensorsHeader, error) {
	var prefix [8]byte
	if size < int64(len(prefix)) {
		return nil, model.Errorf(model.Corrupt, "it is truncated: it has %d bytes", size)
	}
	if _, err := r.ReadAt(prefix[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(prefix[:])
	switch {
	case n > maxSafetensorsHeader || n < 2:
		return nil, model.Errorf(model.Invalid, "it is not a safetensors file: its header would have %d bytes", n)
	case n > uint64(size)-8:
		return nil, model.Errorf(model.Corrupt, "it is truncated: it ends within its header, after %d bytes", size)
	}
	length := int64(n) //nolint:gosec // at most maxSafetensorsHeader
	t := &tensorTable{bytes: make(map[string]int64)}
	dec := json.NewDecoder(io.NewSectionReader(r, 8, length))
	if err := t.read(dec); err != nil {
		return nil, asInvalid(err)
	}
	return &SafetensorsHeader{Framework: printable(t.framework), Dtype: t.dtype(), Expected: 8 + length + t.end}, nil
}

// asInvalid gives what the decoder says of the text a kind. Errors of the
// reader pass; the end of the text is the text's fault.
func asInvalid(err error) error {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &typ) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return model.Errorf(model.Invalid, "it is not a safetensors file: %w", err)
	}
	return err
}

// A tensorTable is what matters of a safetensors header. It is read entry by
// entry, so that memory does not grow with the number of tensors.
type tensorTable struct {
	framework string
	bytes     map[string]int64 // by dtype
	end       int64
}

func (t *tensorTable) read(dec *json.Decoder) error {
	switch tok, err := dec.Token(); {
	case err != nil:
		return err
	case tok != json.Delim('{'):
		return model.Errorf(model.Invalid, "it is not a safetensors file: its header is no object")
	}
	for count := 0; dec.More(); count++ {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		if count > maxSafetensorsTensors {
			return model.Errorf(model.Invalid, "its header has more than %d tensors", maxSafetensorsTensors)
		}
		if name == "__metadata__" {
			err = t.metadata(dec)
		} else {
			err = t.tensor(dec)
		}
		if err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

func (t *tensorTable) metadata(dec *json.Decoder) error {
	var m struct {
		Format string `json:"format"`
	}
	if err := dec.Decode(&m); err != nil {
		return err
	}
	t.framework = m.Format
	return nil
}

func (t *tensorTable) tensor(dec *json.Decoder) error {
	var e struct {
		Dtype   string   `json:"dtype"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	if err := dec.Decode(&e); err != nil {
		return err
	}
	from, to := e.Offsets[0], e.Offsets[1]
	if from < 0 || to < from || to > 1<<62 {
		return model.Errorf(model.Invalid, "a tensor lies at bytes %d to %d", from, to)
	}
	if len(t.bytes) < 64 || t.bytes[e.Dtype] > 0 {
		t.bytes[e.Dtype] = addSize(t.bytes[e.Dtype], to-from)
	}
	t.end = max(t.end, to)
	return nil
}

// dtype is the one of most bytes, the first by name of equals.
func (t *tensorTable) dtype() string {
	best := ""
	for d, n := range t.bytes {
		if best == "" || n > t.bytes[best] || n == t.bytes[best] && d < best {
			best = d
		}
	}
	return printable(fmt.Sprintf("%.16s", best))
}
