package integration

import (
	"bytes"
	"debug/elf"
	le "encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// A wallClock is the clock of one process, which can be set without the
// machine's being touched. A Go program reads the time through the kernel's
// vDSO, of which every process has its own mapping: there clock_gettime is made
// to add an offset to CLOCK_REALTIME, and to nothing else.
type wallClock struct {
	t      testing.TB
	mem    *os.File
	offset int64 // where the offset lies in the process's memory
}

// shiftedClock is the code that takes clock_gettime's place. The system call
// leaves rdi and rsi alone.
var shiftedClock = []byte{
	0xb8, 0xe4, 0, 0, 0, // mov $228, %eax
	0x0f, 0x05, // syscall
	0x85, 0xff, // test %edi, %edi
	0x75, 0x0a, // jne to the end, unless it is CLOCK_REALTIME
	0x48, 0x8b, 0x0d, 6, 0, 0, 0, // mov offset(%rip), %rcx
	0x48, 0x01, 0x0e, // add %rcx, (%rsi)
	0xc3, 0, 0, // ret
	0, 0, 0, 0, 0, 0, 0, 0, // offset, in seconds
}

// takeClock takes the clock of a daemon's server. The supervisor is stopped
// meanwhile, too: it replaces a server that is.
func takeClock(t testing.TB, d *daemon) *wallClock {
	t.Helper()
	pid := d.server()
	from, to := vdsoOf(t, pid)
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	image := make([]byte, to-from)
	if _, err := mem.ReadAt(image, from); err != nil {
		t.Fatal(err)
	}
	entry := symbolAt(t, image, "__vdso_clock_gettime")
	stub := int64(len(image) - 64)
	if len(bytes.Trim(image[stub:], "\x00")) > 0 {
		t.Fatal("the vDSO has no room at its end")
	}
	jump := le.LittleEndian.AppendUint32([]byte{0xe9}, uint32(stub-entry-5)) //nolint:gosec // within two pages
	change := func() (changed bool) {
		stopped(t, pid, func() {
			if executes(t, pid, from+entry+1, from+entry+int64(len(jump))) {
				return
			}
			for at, code := range map[int64][]byte{from + stub: shiftedClock, from + entry: jump} {
				if _, err := mem.WriteAt(code, at); err != nil {
					t.Errorf("change the vDSO of process %d: %v", pid, err)
				}
			}
			changed = true
		})
		return changed
	}
	stopped(t, d.cmd.Process.Pid, func() { eventually(t, "no thread is inside what changes", 10*time.Second, change) })
	return &wallClock{t, mem, from + stub + int64(len(shiftedClock)) - 8}
}

// set makes the process's wall clock so much later than the machine's.
func (c *wallClock) set(d time.Duration) {
	c.t.Helper()
	if _, err := c.mem.WriteAt(le.LittleEndian.AppendUint64(nil, uint64(d/time.Second)), c.offset); err != nil { //nolint:gosec // two's complement is meant
		c.t.Fatal(err)
	}
}

func vdsoOf(t testing.TB, pid int) (from, to int64) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "[vdso]") {
			if _, err := fmt.Sscanf(line, "%x-%x ", &from, &to); err != nil {
				t.Fatal(err)
			}
			return from, to
		}
	}
	t.Fatalf("process %d has no vDSO", pid)
	return 0, 0
}

func symbolAt(t testing.TB, image []byte, name string) int64 {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if s.Name == name {
			return int64(s.Value) //nolint:gosec // an offset in two pages
		}
	}
	t.Fatalf("the vDSO has no %s", name)
	return 0
}

// stopped does something while no thread of a process runs.
func stopped(t testing.TB, pid int, do func()) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Kill(pid, unix.SIGCONT) }()
	eventually(t, "all threads have stopped", 10*time.Second, func() bool {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, s := range stats {
			text, _ := os.ReadFile(s)
			if _, state, _ := strings.Cut(string(text), ") "); state != "" && !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return true
	})
	do()
}

// executes reports whether the next instruction of a thread of a stopped
// process lies in [from, to).
func executes(t testing.TB, pid int, from, to int64) bool {
	t.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(string(text)) // the last two are the stack pointer and the program counter
		at, err := strconv.ParseInt(words[len(words)-1], 0, 64)
		if err != nil || from <= at && at < to { // it says "running" of a thread that is not at rest yet
			return true
		}
	}
	return false
}

// The wall clock may jump by hours, forwards and backwards, in the middle of a
// download and around the expiry of a signed URL: no read notices, no URL is
// used after its time, none is thrown away before it, and times don't change.
func TestTheClockJumps(t *testing.T) {
	t.Parallel()
	o := newOrdeal(t, "--fill", "touched")
	const life = 12 * time.Second // less 1.2 s for requests that are on their way
	o.hub.SetURLLife(life)
	large := pattern{23, 1 << 30} // so that a read far from the others needs a request
	o.hub.AddRepo(hubtest.Repo{ID: "org/large", Files: []hubtest.File{{Path: "l.gguf", Content: large.content(), LFS: true, SHA256: strings.Repeat("a", 64)}}})
	path := o.d.path("org/large/l.gguf")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	clock := takeClock(t, o.d)
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // twice does no harm
	jumps := []time.Duration{0, 5 * time.Hour, -7 * time.Hour, 40 * 24 * time.Hour, time.Hour}
	got, exp := alignedMiB()[:4096], make([]byte, 4096)
	began, reads := time.Now(), int64(0)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ; time.Since(began) < life*3/2; reads++ {
		clock.set(jumps[reads/20%int64(len(jumps))])
		off := (reads*389 + 200) % 1024 << 20 // another place each time, and none that a stream comes to
		if n, err := f.ReadAt(got, off); err != nil {
			t.Fatalf("read %d: %d bytes, %v", reads, n, err)
		}
		if err := compareAt(got, exp, large.content(), off); err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	if after, err := os.Stat(path); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("times changed from %v to %v: %v", before, after, err)
	}
	for _, q := range o.hub.Requests(hubtest.Filter{Host: hubtest.AtCDN}) {
		if q.Status == 403 {
			t.Errorf("a URL was used after it had expired, %v after the start", q.Time.Sub(began))
		}
	}
	if asked := len(resolves(o.hub, "HEAD", "l.gguf")); asked != 2 {
		t.Errorf("the Hub was asked %d times where the file is, want 2: one URL lives for %v, and this took %v", asked, life, time.Since(began))
	}
	f.Close()
	o.hub.SetURLLife(time.Hour)
	o.end(o.readers(), 0)
	clock.set(40 * 24 * time.Hour)
	checkReads(t, o.d.path("org/other/m.gguf"), pattern{22, 4 << 20}, "read")
	blob := o.d.completes("org/other", "m.gguf")
	checkReads(t, o.d.path("org/other/m.gguf"), pattern{22, 4 << 20}, "read") // an open is recorded with its time
	var st unix.Stat_t
	if err := unix.Stat(blob, &st); err != nil || time.Until(time.Unix(st.Atim.Unix())) < 39*24*time.Hour {
		t.Errorf("the server's clock was not set: this test sees nothing (used at %v, %v)", time.Unix(st.Atim.Unix()), err)
	}
	clock.set(0)
	checkReads(t, o.d.completes("org/m", "m.gguf"), o.want)
}
