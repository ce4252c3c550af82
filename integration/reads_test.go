package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
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

func (p pattern) content() hubtest.Content {
	if p.seed == islands {
		return islandsContent(p.size)
	}
	return hubtest.Pattern(p.seed, p.size)
}

func (p pattern) bytes() []byte { return hubtest.PatternAt(p.content(), 0, int(p.size)) }

// islands is the seed of a content that is zeros but for islandSize bytes at
// its start, at its end and around 4 GiB.
const (
	islands    = 0
	islandSize = 1 << 20
)

func islandOffsets(size int64) []int64 {
	return []int64{0, 4<<30 - islandSize/2, size - islandSize}
}

func islandsContent(size int64) hubtest.Content {
	parts := make(map[int64][]byte)
	for i, off := range islandOffsets(size) {
		parts[off] = hubtest.PatternAt(hubtest.Pattern(uint64(i)+1, islandSize), 0, islandSize)
	}
	return hubtest.Sparse(size, parts)
}

// ways are the ways in which engines read a file.
var ways = map[string]func(path string, want wanted) error{
	"read": opened(checkSequential), "pread": opened(checkRandom), "direct": checkDirect,
	"scattered": opened(checkScattered), "parallel": opened(checkParallel), "cat": checkCat, "head": opened(checkHead), "head-direct": checkHeadDirect,
	"mmap-shared":  opened(func(f *os.File, w wanted) error { return checkMapping(f, w, unix.MAP_SHARED) }),
	"mmap-private": opened(func(f *os.File, w wanted) error { return checkMapping(f, w, unix.MAP_PRIVATE) }),
}

// allWays are those that judge a file by themselves.
var allWays = []string{"direct", "mmap-private", "mmap-shared", "pread", "read"}

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

// readerJob is the environment variable that makes the helper a reader. A
// page fault that waits stops the whole process that it happens in, the
// scripted origins with it; so no test reads the mount by itself.
const readerJob = "MODELFS_IT_READ"

// job is what a reader process is told.
type job struct {
	Path string
	Seed uint64
	Size int64
	Ways []string
	Hold bool // wait for the end of standard input first
}

// runReader is the life of a reader process.
func runReader(text string) int {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Println(err)
		return 2
	}
	debug.SetPanicOnFault(true)
	endOnInterrupt()
	if j.Hold {
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	code := 0
	for _, way := range j.Ways {
		if err := guarded(ways[way], j.Path, pattern{j.Seed, j.Size}.content()); err != nil {
			fmt.Printf("%s of %s: %v\n", way, j.Path, err)
			code = 1
		}
	}
	return code
}

// endOnInterrupt makes SIGINT end this process wherever it is, as it ends one
// that isn't written in Go: Go's own handler runs on a thread that may be
// waiting in the kernel.
func endOnInterrupt() {
	var byDefault [4]uint64 // struct kernel_sigaction: handler, flags, restorer, mask
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGINT), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
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
		how = allWays
	}
	return readerFor(job{Path: path, Seed: want.seed, Size: want.size, Ways: how})
}

func readerFor(j job) *exec.Cmd {
	text, _ := json.Marshal(j)
	cmd := exec.Command(helper)
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
	if _, err := want.ReadAt(exp, off); err != nil && !errors.Is(err, io.EOF) {
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

// spot is how much is read at each of the spots of a file: both ends, and
// around 4 GiB.
const spot = 64 << 20

func spots(size int64) []int64 {
	list := []int64{0, max(0, (size-spot)&^4095)}
	if size > 4<<30 {
		list = append(list, 4<<30-spot/2)
	}
	return list
}

// checkMapping maps the spots.
func checkMapping(f *os.File, want wanted, flags int) error {
	if want.Size() == 0 {
		return nil // mmap of nothing is EINVAL everywhere
	}
	size := want.Size()
	for _, off := range spots(size) {
		n := int(min(size-off, spot))
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

// checkDirect reads the spots with aligned buffers.
func checkDirect(path string, want wanted) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	raw := make([]byte, 1<<20+4096)
	skip := int(-uintptr(unsafe.Pointer(&raw[0])) & 4095)
	buf := raw[skip : skip+1<<20]
	size := want.Size()
	for _, from := range spots(size) {
		for off := from; off < min(size, from+spot); off += int64(len(buf)) {
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

// checkScattered reads 200 ranges at once, 1 MiB apart.
func checkScattered(f *os.File, want wanted) error {
	errs := make(chan error)
	const n = 200
	for i := range n {
		go func() {
			got := make([]byte, 4096)
			off := int64(i) << 20
			_, err := f.ReadAt(got, off)
			if err == nil {
				err = compareAt(got, make([]byte, len(got)), want, off)
			}
			errs <- err
		}()
	}
	var all []error
	for range n {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}
