package integration

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// halfRead is a file of a share that was opened and read up to the middle, in
// two ways.
type halfRead struct {
	file    *os.File
	mapping []byte
	want    []byte
}

// readHalf opens a file, reads the first part of it, and maps it.
func readHalf(t *testing.T, path string, want []byte, part int) *halfRead {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	// What the kernel reads ahead is no test of what comes after.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(m) })
	if err := unix.Madvise(m, unix.MADV_RANDOM); err != nil {
		t.Fatal(err)
	}
	h := &halfRead{f, m, want}
	h.check(t, 0, part)
	return h
}

// check reads a range in pieces, by turns with read and through the mapping.
func (h *halfRead) check(t *testing.T, from, to int) {
	t.Helper()
	const piece = 128 << 10
	buf := make([]byte, piece)
	for i, off := 0, from; off < to; i, off = i+1, off+piece {
		p := buf[:min(piece, to-off)]
		if i%2 == 0 {
			if n, err := h.file.ReadAt(p, int64(off)); err != nil || n != len(p) {
				t.Fatalf("read at %d: %d bytes, %v", off, n, err)
			}
		} else if err := copyMapped(p, h.mapping[off:]); err != nil {
			t.Fatalf("mapping at %d: %v", off, err)
		}
		if !bytes.Equal(p, h.want[off:off+len(p)]) {
			t.Fatalf("wrong bytes at %d", off)
		}
	}
}

// copyMapped fills p from a mapping by a system call. A page fault outside of
// one would wait for modelfs, that for the Hub of this process, and that for
// the goroutine in the fault, as soon as the garbage collector wants to stop
// them all.
func copyMapped(p, mapping []byte) error {
	to := unix.Iovec{Base: &p[0]}
	to.SetLen(len(p))
	n, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{to}, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&mapping[0])), Len: len(p)}}, 0)
	if err == nil && n != len(p) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// moveLimit is how long a reader may wait for the rest: the patience with the
// share (3 s), lookups elsewhere, and the comparison of what was read, on a
// loaded machine.
const moveLimit = 20*time.Second + 5*raceAllowance

const weightsFile = "model.safetensors"

// The share hangs in the middle of a file, and the rest comes from the Hub:
// by the hash that both state, or because the Hub states one and all that was
// read is the same there. The reader sees bytes. When the share is back, what
// is opened then is read from it again.
func TestAReadMovesInTheMiddleOfAFile(t *testing.T) {
	t.Parallel()
	want := pattern{21, 8 << 20}
	for _, c := range []struct {
		name   string
		tree   func(t *testing.T) string
		hashed bool
	}{
		{"by the hash that both state", func(t *testing.T) string {
			dir := tempDir(t, "tree")
			plant(t, dir, snapshotOf("org/m", commit, map[string]any{weightsFile: want}))
			return dir
		}, true},
		{"by comparing what was read", func(t *testing.T) string {
			return writeTree(t, map[string][]byte{"org/m/" + weightsFile: want.bytes()})
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hub := hubtest.New(t)
			hub.AddRepo(hubtest.Repo{ID: "org/m", Files: []hubtest.File{{Path: weightsFile, Content: want.content(), LFS: true}}})
			tree := c.tree(t)
			nas := newShare(t, tree)
			d := start(t, append(hubFlags(hub), "--shared", nas.dir, "--shared-io", "daemon", "--fill", "touched")...)
			path, part := d.path("org/m", weightsFile), 3<<20
			h := readHalf(t, path, want.bytes(), part)
			if n := hub.BytesSent("org/m/*"); n != 0 {
				t.Fatalf("%d bytes of a file of the share came from the Hub", n)
			}
			nas.set("hang")
			within(t, "the rest of the file", moveLimit, func() { h.check(t, part, len(h.want)) })
			sent := hub.BytesSent("org/m/*")
			if sent < int64(len(h.want)-part) {
				t.Errorf("only %d bytes came from the Hub", sent)
			}
			if text := jsonText(d.control("explain/org/m.json")); !strings.Contains(text, "reads moved from") {
				t.Errorf("explain does not say what happened: %s", text)
			}
			d.killServer()
			h.forgetPages(t)
			within(t, "the rest of the file, after a crash", moveLimit, func() { h.check(t, part, len(h.want)) })

			nas.set("open")
			if !c.hashed {
				seesNewFile(t, filepath.Join(tree, "org/m", weightsFile), path)
			}
			h.check(t, 0, len(h.want))
		})
	}
}

// forgetPages makes the kernel read again what it has of the file.
func (h *halfRead) forgetPages(t *testing.T) {
	t.Helper()
	if err := unix.Madvise(h.mapping, unix.MADV_DONTNEED); err != nil {
		t.Error(err)
	}
	if err := unix.Fadvise(int(h.file.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Error(err)
	}
}

// seesNewFile replaces a file of a share and waits until an open sees that.
func seesNewFile(t *testing.T, file, path string) {
	t.Helper()
	fresh := pattern{22, 1 << 20}
	writeFile(t, file+".new", fresh.bytes())
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the share is used again", 20*time.Second, func() bool {
		return reader(path, fresh, "read").Run() == nil
	})
}

// killServer ends the process that serves, as a crash would; the supervisor
// starts another.
func (d *daemon) killServer() {
	d.t.Helper()
	before := d.server()
	signalServer(unix.SIGKILL)(d)
	eventually(d.t, "another server serves", 20*time.Second, func() bool { return d.server() != before })
}

// Where nothing shows that another source has the same content, a read waits
// for the share: until that is back, or until the read timeout.
func TestAReadThatMayNotMoveWaits(t *testing.T) {
	t.Parallel()
	want := pattern{23, 4 << 20}
	other := func(change int) []byte {
		b := want.bytes()
		b[change] ^= 1
		return b
	}
	for _, c := range []struct {
		name   string
		model  string
		others func(*testing.T) (sent func() int64, flags []string)
		most   int64 // bytes that may be asked of the other source
		says   string
	}{
		{"nobody states a hash", "m", func(t *testing.T) (func() int64, []string) {
			router := oldRouter(t)
			router.SetModel(hubtest.RouterModel{Name: "m", Format: "safetensors", Files: []hubtest.RouterFile{{Name: weightsFile, Content: want.content()}}})
			return func() int64 { return router.BytesSent("*") }, []string{"--hf-endpoint", "", "--router", router.URL()}
		}, 0, "states no hash"},
		{"other bytes were read", "org/m", hubOf(func() []byte { return other(70_000) }), 4 << 20, "other bytes"},
		{"another size", "org/m", hubOf(func() []byte { return append(want.bytes(), 1) }), 0, "bytes instead of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sent, flags := c.others(t)
			nas := newShare(t, writeTree(t, map[string][]byte{c.model + "/" + weightsFile: want.bytes()}))
			d := start(t, append(flags, "--shared", nas.dir, "--shared-io", "daemon", "--read-timeout", "5s", "--fill", "touched")...)
			h := readHalf(t, d.path(c.model, weightsFile), want.bytes(), 1<<20)
			nas.set("hang")
			_, err := h.file.ReadAt(make([]byte, 4096), 2<<20)
			if !errors.Is(err, syscall.ETIMEDOUT) {
				t.Errorf("a read that nobody can answer: %v", err)
			}
			if n := sent(); n > c.most {
				t.Errorf("%d bytes were asked of a source that must not be used", n)
			}
			if text := jsonText(d.control("explain/" + c.model + ".json")); !strings.Contains(text, c.says) {
				t.Errorf("explain does not say %q: %s", c.says, text)
			}
			nas.set("open")
			eventually(t, "the share answers again", moveLimit, func() bool {
				_, err := h.file.ReadAt(make([]byte, 4096), 2<<20)
				return err == nil
			})
			h.check(t, 0, len(h.want))
		})
	}
}

func hubOf(data func() []byte) func(*testing.T) (func() int64, []string) {
	return func(t *testing.T) (func() int64, []string) {
		hub := hubtest.New(t)
		hub.AddRepo(hubtest.Repo{ID: "org/m", Files: []hubtest.File{{Path: weightsFile, Content: hubtest.Bytes(data()), LFS: true}}})
		return func() int64 { return hub.BytesSent("org/m/*") }, hubFlags(hub)
	}
}
