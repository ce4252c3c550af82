package fs

import (
	"context"
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
