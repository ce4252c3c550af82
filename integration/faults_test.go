package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// faultWays are the readers that meet each fault, all at once and each in a
// process of its own.
var faultWays = []string{"cat", "mmap-shared", "direct", "parallel"}

// checkCat judges what cat writes.
func checkCat(path string, want wanted) error {
	cmd := exec.Command("cat", path)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n, err := compareStream(out, want)
	_, _ = io.Copy(io.Discard, out)
	switch werr := cmd.Wait(); {
	case err != nil:
		return err
	case werr != nil:
		return fmt.Errorf("%w after %d bytes: %s", werr, n, said.String())
	case n != want.Size():
		return fmt.Errorf("cat ended well after %d of %d bytes", n, want.Size())
	}
	return nil
}

// compareStream reads to the end and compares.
func compareStream(r io.Reader, want wanted) (n int64, err error) {
	got, exp := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		k, err := io.ReadFull(r, got)
		if err := compareAt(got[:k], exp[:k], want, n); err != nil {
			return n, err
		}
		n += int64(k)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// checkParallel has 8 threads read all of the file, every eighth piece each.
func checkParallel(f *os.File, want wanted) error {
	const threads, piece = 8, 200_000
	errs := make(chan error)
	for i := range int64(threads) {
		go func() {
			got, exp := make([]byte, piece), make([]byte, piece)
			for off := i * piece; off < want.Size(); off += threads * piece {
				n := min(piece, want.Size()-off)
				k, err := f.ReadAt(got[:n], off)
				if err == nil && int64(k) != n {
					err = fmt.Errorf("%d of %d bytes at %d", k, n, off)
				}
				if err == nil {
					err = compareAt(got[:n], exp[:n], want, off)
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var all []error
	for range threads {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// checkHead reads the first want.Size() bytes of a file that is longer.
func checkHead(f *os.File, want wanted) error {
	got, exp := alignedMiB(), make([]byte, 1<<20)
	for off := int64(0); off < want.Size(); off += 1 << 20 {
		if n, err := f.ReadAt(got, off); err != nil {
			return fmt.Errorf("%d bytes at %d: %w", n, off, err)
		}
		if err := compareAt(got, exp, want, off); err != nil {
			return err
		}
	}
	return nil
}

func checkHeadDirect(path string, want wanted) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return checkHead(f, want)
}

// An ordeal is a daemon, its Hub, and the file that a fault is about.
type ordeal struct {
	*testing.T
	hub  *hubtest.Hub
	d    *daemon
	want pattern
	path string

	faults []*hubtest.Fault // that have to have hit something
}

// ordealSize is small, and still many requests.
const ordealSize = 12<<20 + 345

func newOrdeal(t *testing.T, flags ...string) *ordeal {
	t.Helper()
	return ordealOn(t, tempDir(t, "cache"), flags...)
}

// ordealOn has the backing dir in a directory of the caller's.
func ordealOn(t *testing.T, cache string, flags ...string) *ordeal {
	t.Helper()
	o := &ordeal{T: t, hub: hubtest.New(t), want: pattern{21, ordealSize}}
	oneFile(o.hub, "org/m", o.want)
	oneFile(o.hub, "org/other", pattern{22, 4 << 20})
	o.hub.SetConnRate(2<<20, hubtest.AtCDN) // long enough for whatever happens in the middle
	o.d = startOn(t, tempDir(t, "mnt"), cache, append(hubFlags(o.hub), flags...)...)
	o.path = o.d.path("org/m/m.gguf")
	return o
}

// fault hits answers of the CDN about the file.
func (o *ordeal) fault(w hubtest.When, effects ...hubtest.Effect) {
	o.faultAt(hubtest.AtCDN, w, effects...)
}

func (o *ordeal) faultAt(host hubtest.HostKind, w hubtest.When, effects ...hubtest.Effect) {
	o.faults = append(o.faults, o.hub.Fault(hubtest.Filter{Host: host, Path: "org/m/*"}, w, effects...))
}

// sent waits until the origin has sent so much of the file.
func (o *ordeal) sent(n int64) {
	o.Helper()
	eventually(o, fmt.Sprintf("%d bytes are sent", n), patient, func() bool { return o.hub.BytesSent("org/m/m.gguf") >= n })
}

// readers starts one reader of each way.
func (o *ordeal) readers() map[string]*background {
	started := make(map[string]*background)
	for _, way := range faultWays {
		started[way] = inBackground(o, reader(o.path, o.want, way))
	}
	return started
}

// end waits for the readers, each of which must have read the right bytes, or
// met the errno: a SIGBUS where it is a page fault.
func (o *ordeal) end(readers map[string]*background, errno syscall.Errno) {
	o.Helper()
	for way, b := range readers {
		err := b.ends(o, "the "+way+" reader", patient)
		said := b.out.String()
		switch {
		case strings.Contains(said, "wrong bytes") || strings.Contains(said, "ended well"):
			o.Errorf("the %s reader: %s", way, said)
		case errno == 0 && err != nil:
			o.Errorf("the %s reader: %v: %s", way, err, said)
		case errno == 0:
		case err == nil:
			o.Errorf("the %s reader read all of it, want %v", way, errno)
		case strings.HasPrefix(way, "mmap") && strings.Contains(said, "fault: "):
		case !strings.Contains(strings.ToLower(said), strings.ToLower(errno.Error())):
			o.Errorf("the %s reader: want %v: %s", way, errno, said)
		}
	}
}

// clean checks that the file can be read to its end, once nothing is wrong any
// more, and that nothing is left of what was.
func (o *ordeal) clean() {
	o.Helper()
	for _, f := range o.faults {
		if f.Hits() == 0 {
			o.Error("the fault hit nothing: this test sees nothing")
		}
	}
	o.hub.ClearFaults()
	o.hub.SetConnRate(0)
	eventually(o, "the file can be read again", 30*time.Second, func() bool {
		out, err := reader(o.path, o.want, "read").CombinedOutput()
		if err != nil && strings.Contains(string(out), "wrong bytes") {
			o.Errorf("%s", out)
		}
		return err == nil
	})
	checkReads(o, o.d.completes("org/m", "m.gguf"), o.want, "read")
	eventually(o, "nothing is left", 30*time.Second, func() bool { return len(o.left()) == 0 })
}

// left is what a download leaves while it is under way, and must not after it.
func (o *ordeal) left() []string {
	o.Helper()
	var list []string
	for _, f := range files(o, o.d.cache) {
		if strings.HasPrefix(f, "fills/") || strings.Contains(f, ".tmp-") {
			list = append(list, f)
		}
	}
	if n := o.d.number("fetch", "waiting_reads"); n > 0 {
		list = append(list, fmt.Sprintf("%d reads that wait", n))
	}
	if n := o.d.number("mount", "handles"); n > 1 { // 1: of the status
		list = append(list, fmt.Sprintf("%d handles", n))
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", o.d.number("pid")))
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		if strings.HasPrefix(to, o.d.cache+"/fills/") || strings.HasPrefix(to, o.d.cache+"/blobs/") {
			list = append(list, "a descriptor of "+to)
		}
	}
	return list
}

// Each fault of the origin ends in right bytes or a clear error, for every
// kind of reader, and once it is over the file is whole and nothing is left.
func TestFaultsOfTheOrigin(t *testing.T) {
	t.Parallel()
	short := []string{"--read-timeout", "3s"}
	always, first := hubtest.Always(), hubtest.First(3)
	for name, c := range map[string]struct {
		errno syscall.Errno // 0: right bytes
		flags []string
		fault func(o *ordeal)
	}{
		"cut in the middle, every answer": {0, nil, func(o *ordeal) { o.fault(always, hubtest.CutAt(400_000, hubtest.Reset)) }},
		"cut in the middle, some answers": {0, nil, func(o *ordeal) { o.fault(first, hubtest.CutAt(200_000, hubtest.Reset)) }},
		"ends early and cleanly":          {0, nil, func(o *ordeal) { o.fault(always, hubtest.CutAt(400_000, hubtest.CleanClose)) }},
		"short body":                      {0, nil, func(o *ordeal) { o.fault(first, hubtest.ShortBody(100_000)) }},
		"stall":                           {0, nil, func(o *ordeal) { o.fault(first, hubtest.StallAt(100_000)) }},
		"stall, always":                   {syscall.ETIMEDOUT, short, func(o *ordeal) { o.fault(always, hubtest.StallAt(0)) }},
		"slow drip of one connection":     {0, nil, func(o *ordeal) { o.fault(hubtest.Nth(2), hubtest.DripRate(20_000)) }},
		"slow drip of all":                {0, nil, func(o *ordeal) { o.fault(always, hubtest.DripRate(500_000)) }},
		"200 for a range":                 {0, nil, func(o *ordeal) { o.fault(always, hubtest.IgnoreRange()) }},
		"wrong Content-Range":             {0, nil, func(o *ordeal) { o.fault(first, hubtest.WrongContentRange("bytes 0-99/12345678")) }},
		"wrong Content-Range, always":     {syscall.ETIMEDOUT, short, func(o *ordeal) { o.fault(always, hubtest.WrongContentRange("bytes 7-99/100")) }},
		"expired URL":                     {0, nil, func(o *ordeal) { o.fault(hubtest.Nth(3), hubtest.Do(o.hub.ExpireURLs)) }},
		"expired URL, always":             {syscall.EACCES, nil, func(o *ordeal) { o.fault(always, hubtest.Do(o.hub.ExpireURLs)) }},
		"403 from a fresh URL":            {syscall.EACCES, nil, func(o *ordeal) { o.fault(always, hubtest.Status(403, nil, "no")) }},
		"the CDN changes the validator":   {0, nil, func(o *ordeal) { o.fault(hubtest.After(2), hubtest.FlipETag()) }},
		"the origin changes the file": {syscall.EIO, nil, func(o *ordeal) {
			o.fault(hubtest.After(2), hubtest.Status(403, nil, "expired"))
			o.faultAt(hubtest.AtHub, hubtest.After(1), hubtest.FlipETag())
		}},
		"gone and back": {0, nil, func(o *ordeal) {
			o.sent(o.want.size / 3)
			o.hub.Refuse()
			eventually(o, "readers wait", patient, func() bool { return o.d.number("fetch", "waiting_reads") > 0 })
			if err := o.hub.Accept(); err != nil {
				o.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrdeal(t, c.flags...)
			if name == "gone and back" { // the only one that begins in the middle
				readers := o.readers()
				c.fault(o)
				o.end(readers, c.errno)
			} else {
				c.fault(o)
				o.end(o.readers(), c.errno)
			}
			o.clean()
		})
	}
}

// Bytes that contradict their hash are found out when all of them are here:
// every descriptor of that download fails for good, and the file is fetched
// once more. Twice wrong is EIO at open, and explain says why.
func TestCorruptBytes(t *testing.T) {
	t.Parallel()
	o := newOrdeal(t)
	bad := o.hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: "org/m/*"}, hubtest.Always(), hubtest.CorruptByte(5<<20))
	aligned := alignedMiB()[:4096]
	for attempt := range 2 {
		held, err := os.OpenFile(o.path, os.O_RDONLY|syscall.O_DIRECT, 0) // past the pages that the kernel has
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range o.readers() { // they meet the wrong byte, or the end of the download
			_ = b.ends(t, "a reader of corrupt bytes", patient)
		}
		eventually(t, "the descriptor fails", patient, func() bool {
			_, err := held.ReadAt(aligned, 9<<20)
			return errors.Is(err, syscall.EIO)
		})
		held.Close()
		if attempt == 1 {
			eventually(t, "nothing is left of two corrupt downloads", patient, func() bool { return len(stored(t, o.d.cache)) == 0 })
		}
	}
	_, err := os.Open(o.path)
	wantErrno(t, "opening what was corrupt twice", err, syscall.EIO)
	text := jsonText(o.d.control("explain/org/m.json"))
	wantIn(t, "explain", text, "its sha256 is", "stated was")
	sent := o.hub.BytesSent("org/m/m.gguf")
	if _, err = os.Open(o.path); err == nil || o.hub.BytesSent("org/m/m.gguf") != sent {
		t.Errorf("it is downloaded a third time: %v", err)
	}
	bad.Remove()
	eventually(t, "nothing is left", 30*time.Second, func() bool { return len(o.left()) == 0 })
}

// An origin that goes for good in the middle: what is here is read, the rest is
// ETIMEDOUT once no byte has come for the read timeout.
func TestTheOriginGoesInTheMiddle(t *testing.T) {
	t.Parallel()
	o := newOrdeal(t, "--read-timeout", "3s")
	half := pattern{o.want.seed, o.want.size / 2 &^ (1<<20 - 1)}
	o.fault(hubtest.Always(), hubtest.StallFrom(half.size)) // or all of it is here before anybody sees that half is
	b := inBackground(t, readerFor(job{Path: o.path, Seed: half.seed, Size: half.size, Ways: []string{"head"}}))
	if err := b.ends(t, "reading the first half", patient); err != nil {
		t.Errorf("%v: %s", err, b.out)
	}
	o.hub.Refuse()
	o.end(o.readers(), syscall.ETIMEDOUT)
	b = inBackground(t, readerFor(job{Path: o.path, Seed: half.seed, Size: half.size, Ways: []string{"head-direct"}}))
	if err := b.ends(t, "reading the first half with the origin gone", patient); err != nil {
		t.Errorf("%v: %s", err, b.out)
	}
	if err := o.hub.Accept(); err != nil {
		t.Fatal(err)
	}
	o.clean()
}
