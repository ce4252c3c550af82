package format

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"modelfs/internal/model"
)

// The types of GGUF's values.
const (
	ggufString = 8
	ggufArray  = 9
)

// ggufSizes are the bytes of values of fixed size, by type.
var ggufSizes = map[uint32]uint64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// A ggufDecoder reads GGUF's values one after another. After an error all
// reads return zeros; err is the first one.
type ggufDecoder struct {
	in    *bufio.Reader
	order binary.ByteOrder
	off   int64 // bytes that were read
	size  int64 // of the file
	newer bool  // of a version that is not known here
	err   error
}

func newGGUFDecoder(r io.ReaderAt, size int64) *ggufDecoder {
	head := io.NewSectionReader(r, 0, min(size, maxGGUFHeader))
	return &ggufDecoder{in: bufio.NewReaderSize(head, 128<<10), order: binary.LittleEndian, size: size}
}

func (d *ggufDecoder) fail(kind model.Kind, text string, args ...any) {
	if d.err == nil {
		d.err = model.Errorf(kind, text, args...)
	}
}

// failed takes a reader's error: the end of input is the file's, or that of
// what is read of it.
func (d *ggufDecoder) failed(err error) {
	switch {
	case d.err != nil:
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		d.err = err
	case d.size > maxGGUFHeader:
		d.fail(model.Invalid, "its header is larger than %d bytes", maxGGUFHeader)
	default:
		d.fail(model.Corrupt, "it is truncated: it ends within its header, after %d bytes", d.size)
	}
}

func (d *ggufDecoder) read(b []byte) {
	if d.err != nil {
		clear(b)
		return
	}
	n, err := io.ReadFull(d.in, b)
	d.off += int64(n)
	if err != nil {
		clear(b)
		d.failed(err)
	}
}

func (d *ggufDecoder) discard(n uint64) {
	for n > 0 && d.err == nil {
		step := min(n, 1<<20)
		done, err := d.in.Discard(int(step)) //nolint:gosec // at most 1<<20
		d.off += int64(done)
		n -= step
		if err != nil {
			d.failed(err)
		}
	}
}

func (d *ggufDecoder) uint32() uint32 {
	var b [4]byte
	d.read(b[:])
	return d.order.Uint32(b[:])
}

func (d *ggufDecoder) uint64() uint64 {
	var b [8]byte
	d.read(b[:])
	return d.order.Uint64(b[:])
}

// length reads the length of a text, which may be limit at most.
func (d *ggufDecoder) length(limit uint64) uint64 {
	n := d.uint64()
	if n > limit {
		d.fail(model.Invalid, "its header has a text of %d bytes", n)
		return 0
	}
	return n
}

// text reads a text of limit bytes at most.
func (d *ggufDecoder) text(limit uint64) string {
	b := make([]byte, d.length(limit))
	d.read(b)
	if d.err != nil {
		return ""
	}
	return string(b)
}

// textValue reads a value that should be a short text; "" if it is not.
func (d *ggufDecoder) textValue(typ uint32) string {
	if typ != ggufString {
		d.skip(typ, 0)
		return ""
	}
	n := d.length(maxGGUFString)
	if n > maxGGUFKept {
		d.discard(n)
		return ""
	}
	b := make([]byte, n)
	d.read(b)
	return printable(string(b))
}

// printable keeps texts that may be shown on a terminal.
func printable(s string) string {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == '\uFFFD' || r >= 0x80 && r < 0xa0 {
			return ""
		}
	}
	return s
}

// number reads a value that should be an integer that is not negative; 0 if
// it is not.
func (d *ggufDecoder) number(typ uint32) uint64 {
	var n uint64
	switch typ {
	case 2, 3:
		var b [2]byte
		d.read(b[:])
		n = uint64(d.order.Uint16(b[:]))
	case 4, 5:
		n = uint64(d.uint32())
	case 10, 11:
		n = d.uint64()
	case 0, 1:
		var b [1]byte
		d.read(b[:])
		n = uint64(b[0])
	default:
		d.skip(typ, 0)
	}
	return n
}

// skip reads past a value of any type.
func (d *ggufDecoder) skip(typ uint32, depth int) {
	size, fixed := ggufSizes[typ]
	switch {
	case d.err != nil:
	case fixed:
		d.discard(size)
	case typ == ggufString:
		d.discard(d.length(maxGGUFString))
	case typ == ggufArray && depth < maxGGUFNesting:
		d.skipArray(depth)
	default:
		d.fail(model.Invalid, "its header has a value of type %d", typ)
	}
}

func (d *ggufDecoder) skipArray(depth int) {
	typ, n := d.uint32(), d.uint64()
	if n > maxGGUFArray {
		d.fail(model.Invalid, "its header has an array of %d elements", n)
		return
	}
	if size, fixed := ggufSizes[typ]; fixed {
		d.discard(n * size)
		return
	}
	for ; n > 0 && d.err == nil; n-- {
		d.skip(typ, depth+1)
	}
}
