package hubtest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
)

// Content is the bytes of a file. ReadAt must be safe for parallel calls and
// always give the same bytes.
type Content interface {
	io.ReaderAt
	Size() int64
}

// A stream writes n bytes of a content, from off, faster than ReadAt can.
type stream interface {
	stream(w io.Writer, off, n int64) error
}

// An identified content names itself without being read: equal ids, equal bytes.
type identified interface {
	id() string
}

const (
	tileSize  = 1 << 20   // the period of a Pattern, but for its marks
	markEvery = 64 << 10  // one mark a block, where the block's number is mixed in
	pieceSize = 256 << 10 // of one write: larger ones are no faster on the loopback interface
)

// Pattern is a content of size bytes that looks random, differs for each seed
// and costs no memory: a random tile of 1 MiB over and over, the first eight
// bytes of each 64 KiB mixed with the number of that block, so that no two
// blocks are equal.
func Pattern(seed uint64, size int64) *PatternContent {
	p := &PatternContent{seed: seed, size: size, tile: make([]byte, tileSize)}
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	_, _ = rand.NewChaCha8(key).Read(p.tile)
	p.sum = sync.OnceValue(func() string { return hexSum(sha256.New(), p) })
	return p
}

// PatternContent is what Pattern makes.
type PatternContent struct {
	seed uint64
	size int64
	tile []byte
	sum  func() string

	mu   sync.Mutex // guards free
	free [][]byte   // tiles whose marks may be of any part of the file
}

// scratch is a tile to write marks into. Whoever has it gives it back to free.
func (p *PatternContent) scratch() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return slices.Clone(p.tile)
	}
	tile := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	return tile
}

func (p *PatternContent) giveBack(tile []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, tile)
}

// Size is the length in bytes.
func (p *PatternContent) Size() int64 { return p.size }

// SHA256 is the hash in hex. The first call reads the whole pattern, later
// ones cost nothing.
func (p *PatternContent) SHA256() string { return p.sum() }

func (p *PatternContent) id() string { return fmt.Sprintf("pattern %d %d", p.seed, p.size) }

// ReadAt follows io.ReaderAt.
func (p *PatternContent) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read the pattern at %d: negative offset", off)
	}
	want := len(b)
	n := min(int64(want), max(p.size-off, 0))
	b = b[:n]
	for done := 0; done < len(b); {
		done += copy(b[done:], p.tile[(off+int64(done))%tileSize:])
	}
	for block := off / markEvery; block*markEvery < off+n; block++ {
		p.mark(b, off, block)
	}
	if len(b) < want {
		return len(b), io.EOF
	}
	return want, nil
}

// mark mixes the block's number into those bytes of its mark that b, which
// starts at off, has.
func (p *PatternContent) mark(b []byte, off, block int64) {
	var mark [8]byte
	at := block * markEvery
	tile := binary.LittleEndian.Uint64(p.tile[at%tileSize:])
	binary.LittleEndian.PutUint64(mark[:], tile^uint64(block))
	if at >= off {
		copy(b[at-off:], mark[:])
	} else if off-at < 8 {
		copy(b, mark[off-at:])
	}
}

// stream moves no byte but the marks: it writes from a tile of its own.
func (p *PatternContent) stream(w io.Writer, off, n int64) error {
	tile := p.scratch()
	defer p.giveBack(tile)
	marked := int64(-1)
	for n > 0 {
		if turn := off / tileSize; turn != marked {
			for block := turn * tileSize / markEvery; block < (turn+1)*tileSize/markEvery; block++ {
				p.mark(tile, turn*tileSize, block)
			}
			marked = turn
		}
		at := off % tileSize
		piece := min(n, tileSize-at, pieceSize)
		if _, err := w.Write(tile[at : at+piece]); err != nil {
			return err
		}
		off, n = off+piece, n-piece
	}
	return nil
}

// Bytes is a content that is in memory. The caller must not change b.
func Bytes(b []byte) Content { return bytesContent{bytes.NewReader(b), b} }

// Text is Bytes of a string.
func Text(s string) Content { return Bytes([]byte(s)) }

type bytesContent struct {
	*bytes.Reader
	b []byte
}

func (c bytesContent) stream(w io.Writer, off, n int64) error {
	for n > 0 {
		piece := min(n, pieceSize)
		if _, err := w.Write(c.b[off : off+piece]); err != nil {
			return err
		}
		off, n = off+piece, n-piece
	}
	return nil
}

// Sparse is a content of size bytes that are zero but for the islands, given
// by their offsets. Where islands overlap, the one that starts later shows.
func Sparse(size int64, islands map[int64][]byte) Content {
	s := &sparse{size: size, islands: islands}
	for off := range islands {
		s.order = append(s.order, off)
	}
	slices.Sort(s.order)
	return s
}

type sparse struct {
	size    int64
	islands map[int64][]byte
	order   []int64
}

func (s *sparse) Size() int64 { return s.size }

func (s *sparse) id() string {
	h := sha1.New()
	for _, off := range s.order {
		fmt.Fprintf(h, "%d %d ", off, len(s.islands[off]))
		h.Write(s.islands[off])
	}
	return fmt.Sprintf("sparse %d %x", s.size, h.Sum(nil))
}

func (s *sparse) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read sparse content at %d: negative offset", off)
	}
	n := int(min(int64(len(b)), max(s.size-off, 0)))
	clear(b[:n])
	for _, at := range s.order {
		land := s.islands[at]
		switch {
		case at >= off+int64(n) || at+int64(len(land)) <= off:
		case at >= off:
			copy(b[at-off:n], land)
		default:
			copy(b[:n], land[off-at:])
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// PatternAt is the bytes [off, off+n) of c, cut at its end: what a reader of
// that range must have seen.
func PatternAt(c Content, off int64, n int) []byte {
	b := make([]byte, n)
	got, err := c.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		panic(fmt.Sprintf("hubtest: content of a test: %v", err))
	}
	return b[:got]
}

// Mismatch is the offset in c of the first byte of got, which starts at off,
// that c does not have there; -1 if there is none.
func Mismatch(c Content, got []byte, off int64) int64 {
	n := min(int64(len(got)), max(c.Size()-off, 0))
	seen := comparison{rest: got[:n], at: off}
	if err := streamTo(&seen, c, off, n); err != nil && !errors.Is(err, errDiffers) {
		panic(fmt.Sprintf("hubtest: content of a test: %v", err))
	}
	if seen.at < off+int64(len(got)) {
		return seen.at
	}
	return -1
}

var errDiffers = errors.New("not these bytes")

// A comparison takes what should have been read, and copies none of it: tests
// compare gigabytes.
type comparison struct {
	rest []byte // what was read and is not compared yet
	at   int64  // the offset of rest
}

// Write follows io.Writer. It stops at the first byte that differs.
func (c *comparison) Write(want []byte) (int, error) {
	got := c.rest[:len(want)]
	n := len(want)
	if !bytes.Equal(got, want) {
		n = 0
		for got[n] == want[n] {
			n++
		}
	}
	c.rest, c.at = c.rest[n:], c.at+int64(n)
	if n < len(want) {
		return n, errDiffers
	}
	return n, nil
}

// streamTo writes n bytes of c from off, in pieces.
func streamTo(w io.Writer, c Content, off, n int64) error {
	if s, ok := c.(stream); ok {
		return s.stream(w, off, n)
	}
	buf := make([]byte, min(n, pieceSize))
	for n > 0 {
		piece := buf[:min(n, int64(len(buf)))]
		if got, err := c.ReadAt(piece, off); got < len(piece) {
			return fmt.Errorf("content ends at %d: %w", off+int64(got), err)
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		off, n = off+int64(len(piece)), n-int64(len(piece))
	}
	return nil
}

// hexSum is the hash of the whole of c, after what h has seen.
func hexSum(h hash.Hash, c Content) string {
	if err := streamTo(h, c, 0, c.Size()); err != nil {
		panic(fmt.Sprintf("hubtest: content of a test: %v", err))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sha256Of is the hash of c, from its own cache where it has one.
func sha256Of(c Content) string {
	if p, ok := c.(*PatternContent); ok {
		return p.SHA256()
	}
	return hexSum(sha256.New(), c)
}

// gitSHA1 is the name that git gives to c.
func gitSHA1(c Content) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", c.Size())
	return hexSum(h, c)
}
