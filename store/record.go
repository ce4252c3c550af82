package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"modelfs/internal/model"
)

// A part's record (fills/<base>.map) is laid out in pages of 4 KiB:
//
//	header        what the part is, the boot in which the live bitmap is true
//	live bitmap   mapped; a bit is set after its block was written
//	slot 0, 1     each a page and a bitmap: what was behind a data sync
//
// The slots are written in turn, so that a torn write spoils one of them and
// the other still holds. Numbers are little-endian, except in the live bitmap,
// which no other machine reads.
const (
	recordVersion = 1
	pageSize      = 4096
	headerMagic   = "mfs-part"
	slotMagic     = "mfs-slot"
	maxSource     = 1024 // bytes of a source's ID; it has to fit into the header's page

	maxPartSize  = 1 << 40 // twice what the Hub takes in one file, and the room of one whose length nobody states; its bitmap has 2 MiB
	crcAt        = pageSize - 4
	maxHashState = 256 // Go's marshalled sha256 has 108 bytes, sha1 96
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

var errRecord = errors.New("the record is damaged or of another version")

// header is the first page of a record.
type header struct {
	id      PartID
	size    int64  // -1: not known yet
	blocks  int64  // how many the bitmaps have room for
	boot    string // the live bitmap is true in this boot; "" in none
	attempt uint64 // random; slots that carry another one belong to an earlier record
	ino     uint64 // inode of the data file: a record that got paired with another file is void
}

// hashState is how far the content hashes have come.
type hashState struct {
	pos    int64  // bytes hashed
	sha256 []byte // marshalled; nil when pos is 0
	sha1   []byte // the git blob hash; nil when it is not wanted
}

// slot is a durable copy: blocks that were on the disk when it was written.
type slot struct {
	seq   uint64 // the higher of two valid slots holds; 0: there is none
	words []uint64
	hash  hashState
}

// record is what a .map file says.
type record struct {
	header
	live []uint64
	slot
}

// capacity is the number of blocks that a record for a file of that size has
// room for.
func capacity(size int64) int64 {
	if size < 0 {
		return maxPartSize / BlockSize
	}
	return blocksFor(size)
}

// area is the length of one bitmap in the file, in whole pages.
func area(blocks int64) int64 {
	return max(1, (wordsFor(blocks)*8+pageSize-1)/pageSize) * pageSize
}

func recordLength(blocks int64) int64 { return 3 * (pageSize + area(blocks)) }
func slotOffset(blocks int64, seq uint64) int64 {
	return (1 + int64(seq%2)) * (pageSize + area(blocks))
}

// page writes fields one after the other into a page that ends in a checksum.
type page struct {
	b  []byte
	at int
}

func newPage(magic string) *page {
	p := &page{b: make([]byte, pageSize)}
	p.at = copy(p.b, magic)
	p.uint(recordVersion)
	return p
}

func (p *page) uint(v uint64) {
	binary.LittleEndian.PutUint64(p.b[p.at:], v)
	p.at += 8
}

func (p *page) bytes(b []byte) {
	p.uint(uint64(len(b)))
	p.at += copy(p.b[p.at:], b)
}

func (p *page) seal() []byte {
	binary.LittleEndian.PutUint32(p.b[crcAt:], crc32.Checksum(p.b[:crcAt], crcTable))
	return p.b
}

// openPage checks magic, version and checksum, and reads fields back.
func openPage(b []byte, magic string) (*page, error) {
	p := &page{b: b, at: len(magic)}
	if string(b[:len(magic)]) != magic || crc32.Checksum(b[:crcAt], crcTable) != binary.LittleEndian.Uint32(b[crcAt:]) {
		return nil, errRecord
	}
	if v := p.readUint(); v != recordVersion {
		return nil, fmt.Errorf("version %d: %w", v, errRecord)
	}
	return p, nil
}

func (p *page) readUint() uint64 {
	if p.at+8 > crcAt {
		p.at = crcAt
		return 0
	}
	v := binary.LittleEndian.Uint64(p.b[p.at:])
	p.at += 8
	return v
}

func (p *page) readBytes(limit int) []byte {
	n := p.readUint()
	if n == 0 || n > uint64(limit) || p.at+int(n) > crcAt {
		return nil
	}
	b := p.b[p.at : p.at+int(n)]
	p.at += int(n)
	return append([]byte(nil), b...)
}

func (h header) encode() []byte {
	p := newPage(headerMagic)
	for _, v := range []uint64{uint64(h.size), uint64(h.blocks), h.attempt, h.ino} {
		p.uint(v)
	}
	p.bytes([]byte(h.boot))
	p.bytes([]byte(h.id.Key))
	p.bytes([]byte(h.id.Source))
	return p.seal()
}

func decodeHeader(b []byte) (header, error) {
	p, err := openPage(b, headerMagic)
	if err != nil {
		return header{}, err
	}
	h := header{size: int64(p.readUint()), blocks: int64(p.readUint()), attempt: p.readUint(), ino: p.readUint()}
	h.boot = string(p.readBytes(64))
	h.id = PartID{Key: model.Key(p.readBytes(pageSize)), Source: string(p.readBytes(maxSource))}
	switch {
	case !h.id.Key.Valid(), h.size < -1, h.size > maxPartSize, h.blocks < 0, h.blocks > maxPartSize/BlockSize:
		return header{}, errRecord
	case h.size >= 0 && blocksFor(h.size) > h.blocks:
		return header{}, errRecord
	}
	return h, nil
}

// encode returns the slot's page and its bitmap. The page holds the bitmap's
// checksum, so that half of a slot is no slot.
func (s slot) encode(attempt uint64) (pg, bm []byte) {
	bm = make([]byte, 8*len(s.words))
	for i, w := range s.words {
		binary.LittleEndian.PutUint64(bm[8*i:], w)
	}
	p := newPage(slotMagic)
	for _, v := range []uint64{attempt, s.seq, uint64(len(s.words)), uint64(crc32.Checksum(bm, crcTable)), uint64(s.hash.pos)} {
		p.uint(v)
	}
	p.bytes(s.hash.sha256)
	p.bytes(s.hash.sha1)
	return p.seal(), bm
}

// readSlot reads a slot of the record with that header from its place at off.
func readSlot(r io.ReaderAt, h header, off int64) (slot, error) {
	pg := make([]byte, pageSize)
	if _, err := r.ReadAt(pg, off); err != nil {
		return slot{}, err
	}
	p, err := openPage(pg, slotMagic)
	if err != nil {
		return slot{}, err
	}
	attempt, seq, n, sum := p.readUint(), p.readUint(), p.readUint(), p.readUint()
	s := slot{seq: seq, hash: hashState{pos: int64(p.readUint())}}
	s.hash.sha256, s.hash.sha1 = p.readBytes(maxHashState), p.readBytes(maxHashState)
	if attempt != h.attempt || seq == 0 || n > uint64(wordsFor(h.blocks)) {
		return slot{}, errRecord
	}
	bm := make([]byte, 8*n)
	if _, err := r.ReadAt(bm, off+pageSize); err != nil {
		return slot{}, err
	}
	if uint64(crc32.Checksum(bm, crcTable)) != sum {
		return slot{}, errRecord
	}
	s.words = make([]uint64, n)
	for i := range s.words {
		s.words[i] = binary.LittleEndian.Uint64(bm[8*i:])
	}
	return s, nil
}

// readRecord reads a .map file of the given length. A record without a valid
// slot is good: nothing of it is durable yet.
func readRecord(r io.ReaderAt, length int64) (*record, error) {
	pg := make([]byte, pageSize)
	if _, err := r.ReadAt(pg, 0); err != nil {
		return nil, fmt.Errorf("read the record's header: %w", err)
	}
	h, err := decodeHeader(pg)
	if err != nil {
		return nil, err
	}
	if length != recordLength(h.blocks) {
		return nil, fmt.Errorf("length %d: %w", length, errRecord)
	}
	rec := &record{header: h}
	if rec.live, err = readLive(r, h.blocks); err != nil {
		return nil, err
	}
	for seq := range uint64(2) {
		s, err := readSlot(r, h, slotOffset(h.blocks, seq))
		if err == nil && s.seq > rec.slot.seq && s.seq%2 == seq {
			rec.slot = s
		}
	}
	rec.limit()
	return rec, nil
}

func readLive(r io.ReaderAt, blocks int64) ([]uint64, error) {
	b := make([]byte, 8*wordsFor(blocks))
	if _, err := r.ReadAt(b, pageSize); err != nil && len(b) > 0 {
		return nil, fmt.Errorf("read the live bitmap: %w", err)
	}
	w := make([]uint64, len(b)/8)
	for i := range w {
		w[i] = binary.NativeEndian.Uint64(b[8*i:])
	}
	return w, nil
}

// limit drops what lies beyond the end of the file, and a hash state that
// claims more than the durable blocks hold.
func (r *record) limit() {
	end := r.blocks
	if r.size >= 0 {
		end = blocksFor(r.size)
	}
	clearFrom(r.live, end)
	clearFrom(r.words, end)
	if h := r.slot.hash; h.pos <= 0 || h.pos > frontBytes(r.words, r.size) {
		r.slot.hash = hashState{}
	}
}

// clearFrom clears all bits from block on.
func clearFrom(w []uint64, block int64) { clearRange(w, block, int64(len(w))*64) }

// clearRange clears the bits of [from, to).
func clearRange(w []uint64, from, to int64) {
	eachWord(from, min(to, int64(len(w))*64), func(i int64, mask uint64) { w[i] &^= mask })
}

// frontBytes is how many bytes from the start on are present without a gap.
func frontBytes(w []uint64, size int64) int64 {
	m := newBitmap(int64(len(w)) * 64)
	m.load(w)
	n := m.next(0, int64(len(w))*64, false) * BlockSize
	if size >= 0 {
		n = min(n, size)
	}
	return n
}
