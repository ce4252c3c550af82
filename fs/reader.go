package fs

import (
	"context"
	"errors"
	"io"
	"os"
)

// textReader reads a text that is in memory.
type textReader []byte

func (t textReader) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if off >= int64(len(t)) {
		return 0, nil
	}
	return copy(p, t[off:]), nil
}

func (t textReader) Size() int64    { return int64(len(t)) }
func (t textReader) File() *os.File { return nil }
func (t textReader) Close() error   { return nil }

// placedReader reads a file of a tree that this process serves.
type placedReader struct {
	file *os.File
	size int64
}

func (p *placedReader) ReadAt(_ context.Context, b []byte, off int64) (int, error) {
	n, err := p.file.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (p *placedReader) Size() int64    { return p.size }
func (p *placedReader) File() *os.File { return p.file }
func (p *placedReader) Close() error   { return p.file.Close() }
