package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// wanted is what a file must hold.
type wanted interface {
	io.ReaderAt
	Size() int64
}

// pattern describes a hubtest.Pattern, so that another process can make it.
type pattern struct {
	seed uint64
	size int64
}

func (p pattern) content() *hubtest.PatternContent { return hubtest.Pattern(p.seed, p.size) }
func (p pattern) bytes() []byte                    { return hubtest.PatternAt(p.content(), 0, int(p.size)) }

// ways are the ways in which engines read a file.
var ways = map[string]func(path string, want wanted) error{
	"read": opened(checkSequential), "pread": opened(checkRandom), "direct": checkDirect,
	"mmap-shared":  opened(func(f *os.File, w wanted) error { return checkMapping(f, w, unix.MAP_SHARED) }),
	"mmap-private": opened(func(f *os.File, w wanted) error { return checkMapping(f, w, unix.MAP_PRIVATE) }),
}

func opened(check func(*os.File, wanted) error) func(string, wanted) error {
	return func(path string, want wanted) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return check(f, want)
	}
}

// readerJob is the environment variable that makes this binary a reader. A
// page fault that waits stops the whole process that it happens in, the
// scripted origins with it; so no test reads the mount by itself.
const readerJob = "MODELFS_IT_READ"

// job is what a reader process is told.
type job struct {
	Path string
	Seed uint64
	Size int64
	Ways []string
}

// runReader is the life of a reader process.
func runReader(text string) int {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Println(err)
		return 2
	}
	debug.SetPanicOnFault(true)
	code := 0
	for _, way := range j.Ways {
		if err := guarded(ways[way], j.Path, hubtest.Pattern(j.Seed, j.Size)); err != nil {
			fmt.Printf("%s of %s: %v\n", way, j.Path, err)
			code = 1
		}
	}
	return code
}

// guarded turns a SIGBUS into an error.
func guarded(check func(string, wanted) error, path string, want wanted) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("fault: %v", v)
		}
	}()
	return check(path, want)
}

// reader makes the command that reads a file in the given ways, or in all.
func reader(path string, want pattern, how ...string) *exec.Cmd {
	if len(how) == 0 {
		how = slices.Sorted(maps.Keys(ways))
	}
	text, _ := json.Marshal(job{path, want.seed, want.size, how})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), readerJob+"="+string(text))
	return cmd
}

// checkReads judges a file by every way that engines read one.
func checkReads(t testing.TB, path string, want pattern, how ...string) {
	t.Helper()
	if out, err := reader(path, want, how...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func checkSequential(f *os.File, want wanted) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != want.Size() {
		return fmt.Errorf("st_size is %d, want %d", info.Size(), want.Size())
	}
	got, exp := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); ; {
		n, err := io.ReadFull(f, got)
		if err := compareAt(got[:n], exp[:n], want, off); err != nil {
			return err
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			if off != want.Size() {
				return fmt.Errorf("ends at %d of %d", off, want.Size())
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func compareAt(got, exp []byte, want wanted, off int64) error {
	if _, err := want.ReadAt(exp, off); err != nil && err != io.EOF {
		return err
	}
	if !bytes.Equal(got, exp) {
		return fmt.Errorf("wrong bytes in the %d at %d", len(got), off)
	}
	return nil
}

// checkRandom reads 64 ranges, some across the end of the file.
func checkRandom(f *os.File, want wanted) error {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 64 {
		off := rnd.Int64N(want.Size() + 4097)
		n := 1 + rnd.IntN(300_000)
		exp := min(max(want.Size()-off, 0), int64(n))
		got := make([]byte, n)
		k, err := f.ReadAt(got, off)
		if int64(k) != exp || err != nil && err != io.EOF {
			return fmt.Errorf("seed %d: %d bytes at %d: got %d, want %d: %w", seed, n, off, k, exp, err)
		}
		if err := compareAt(got[:k], make([]byte, k), want, off); err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
	}
	return nil
}

// checkMapping maps at most 64 MiB at both ends of the file.
func checkMapping(f *os.File, want wanted, flags int) error {
	const most = 64 << 20
	if want.Size() == 0 {
		return nil // mmap of nothing is EINVAL everywhere
	}
	size := want.Size()
	for _, off := range []int64{0, max(0, (size-most)&^4095)} {
		n := int(min(size-off, most))
		m, err := unix.Mmap(int(f.Fd()), off, n, unix.PROT_READ, flags)
		if err != nil {
			return err
		}
		err = compareAt(m, make([]byte, n), want, off)
		if e := unix.Munmap(m); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkDirect reads at most 64 MiB at both ends with aligned buffers.
func checkDirect(path string, want wanted) error {
	const most = 64 << 20
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	raw := make([]byte, 1<<20+4096)
	skip := int(-uintptr(unsafe.Pointer(&raw[0])) & 4095)
	buf := raw[skip : skip+1<<20]
	size := want.Size()
	for _, from := range []int64{0, max(0, (size-most)&^4095)} {
		for off := from; off < min(size, from+most); off += int64(len(buf)) {
			n, err := f.ReadAt(buf, off)
			if exp := min(size-off, int64(len(buf))); int64(n) != exp || err != nil && err != io.EOF {
				return fmt.Errorf("at %d: got %d, want %d: %w", off, n, exp, err)
			}
			if err := compareAt(buf[:n], make([]byte, n), want, off); err != nil {
				return err
			}
		}
	}
	return nil
}
