package format

import (
	"encoding/binary"
	"io"
	"math/bits"

	"modelfs/internal/model"
)

// Limits on what a GGUF header may claim. The largest real ones have some 15
// MB (vocabularies), 100 keys and 5,000 tensors.
const (
	maxGGUFHeader  = 64 << 20
	maxGGUFKeys    = 100_000
	maxGGUFTensors = 1_000_000
	maxGGUFString  = 10 << 20
	maxGGUFArray   = 10_000_000
	maxGGUFName    = 1 << 16 // of a key or a tensor
	maxGGUFKept    = 1 << 10 // of a text that is kept
	maxGGUFNesting = 4

	unlikelyVersion = 100 // no GGUF, but something else that begins with its letters
)

// A GGUFHeader is what the header of a GGUF file says.
type GGUFHeader struct {
	Architecture string // "llama"; "" in later parts of a set
	Type         string // "model", "mmproj", "adapter"; "" where it is not stated
	SizeLabel    string // "8B"; "" where it is not stated
	FileType     string // "Q4_K_M"; "" where it is not stated or not known. File names say it better
	SplitNo      int    // of a part of a set, from 0
	SplitCount   int    // parts of the set; 0 where it is not stated
	Expected     int64  // bytes that the whole file has at least; -1 where a tensor's type is not known
}

// ReadGGUF reads the header of a GGUF file of the given size. It reads no
// tensor, and at most 64 MiB. Of a version that is newer than what is known
// here it says nothing. Errors: Invalid for what is no GGUF that can be
// used, Corrupt for a file that ends within its header, else the reader's.
func ReadGGUF(r io.ReaderAt, size int64) (*GGUFHeader, error) {
	d := newGGUFDecoder(r, size)
	h := &GGUFHeader{Expected: -1}
	tensors, keys := d.preamble()
	if d.newer {
		return h, nil
	}
	alignment := uint64(32)
	for i := uint64(0); i < keys && d.err == nil; i++ {
		d.pair(h, &alignment)
	}
	if d.err == nil && (bits.OnesCount64(alignment) != 1 || alignment > 1<<30) {
		d.fail(model.Invalid, "its alignment is %d", alignment)
	}
	end, known := d.tensors(tensors)
	if d.err != nil {
		return nil, d.err
	}
	if known {
		h.Expected = expectedSize(uint64(d.off), alignment, tensors, end) //nolint:gosec // an offset is not negative
	}
	return h, nil
}

// expectedSize is where the last tensor ends. The padding after it may be
// missing, so it is not asked for. -1 where it does not fit a file.
func expectedSize(header, alignment, tensors, end uint64) int64 {
	if tensors == 0 {
		return int64(header) //nolint:gosec // bounded by maxGGUFHeader
	}
	start := (header + alignment - 1) &^ (alignment - 1)
	if end > 1<<62 {
		return -1
	}
	return int64(start + end) //nolint:gosec // both are below 1<<62
}

// preamble reads up to the first key.
func (d *ggufDecoder) preamble() (tensors, keys uint64) {
	var magic [4]byte
	d.read(magic[:])
	if d.err == nil && string(magic[:]) != "GGUF" {
		d.fail(model.Invalid, "it is not a GGUF file: it does not begin with GGUF")
	}
	version := d.uint32()
	if d.err == nil && version&0xffff == 0 {
		d.order, version = binary.BigEndian, bits.ReverseBytes32(version)
	}
	if d.err == nil && version > 3 && version < unlikelyVersion {
		d.newer = true
		return 0, 0
	}
	if d.err == nil && version != 2 && version != 3 {
		d.fail(model.Invalid, "it is GGUF version %d; modelfs knows 2 and 3", version)
	}
	tensors, keys = d.uint64(), d.uint64()
	if d.err == nil && (tensors > maxGGUFTensors || keys > maxGGUFKeys) {
		d.fail(model.Invalid, "its header claims %d tensors and %d keys", tensors, keys)
	}
	return tensors, keys
}

// pair reads a key and its value, and keeps it if it matters.
func (d *ggufDecoder) pair(h *GGUFHeader, alignment *uint64) {
	key := d.text(maxGGUFName)
	typ := d.uint32()
	switch key {
	case "general.architecture":
		h.Architecture = d.textValue(typ)
	case "general.type":
		h.Type = d.textValue(typ)
	case "general.size_label":
		h.SizeLabel = d.textValue(typ)
	case "general.file_type":
		h.FileType = fileTypes[d.number(typ)&^1024] // 1024 says that it was guessed
	case "general.alignment":
		*alignment = d.number(typ)
	case "split.no":
		h.SplitNo = int(d.number(typ) & 0xffff) //nolint:gosec // 16 bits
	case "split.count":
		h.SplitCount = int(d.number(typ) & 0xffff) //nolint:gosec // 16 bits
	default:
		d.skip(typ, 0)
	}
}

// tensors reads the table of tensors: where the last one ends in the data,
// and whether all their types are known.
func (d *ggufDecoder) tensors(n uint64) (end uint64, known bool) {
	known = true
	for ; n > 0 && d.err == nil; n-- {
		d.discard(d.length(maxGGUFName))
		elements, row := d.dimensions()
		typ := d.uint32()
		offset := d.uint64()
		block, ok := blocks[typ]
		if !ok {
			known = false
			continue
		}
		if d.err != nil {
			return 0, false
		}
		if row%block.elements != 0 {
			d.fail(model.Invalid, "a row of %d elements does not divide into blocks of %d", row, block.elements)
			return 0, false
		}
		over, size := bits.Mul64(elements/block.elements, block.bytes)
		last, carry := bits.Add64(offset, size, 0)
		if over != 0 || carry != 0 || last > 1<<62 {
			d.fail(model.Invalid, "a tensor is larger than any file")
		}
		end = max(end, last)
	}
	return end, known && d.err == nil
}

// dimensions reads a tensor's: the product of all, and the first.
func (d *ggufDecoder) dimensions() (elements, row uint64) {
	n := d.uint32()
	if d.err == nil && n > 4 {
		d.fail(model.Invalid, "a tensor has %d dimensions", n)
	}
	elements = 1
	for i := uint32(0); i < n && d.err == nil; i++ {
		dim := d.uint64()
		if i == 0 {
			row = dim
		}
		over, product := bits.Mul64(elements, dim)
		if over != 0 {
			d.fail(model.Invalid, "a tensor has more elements than can be counted")
		}
		elements = product
	}
	if n == 0 {
		row = 1
	}
	return elements, row
}
