package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a tmpfs of so many bytes.
func smallDisk(t testing.TB, size int64) string {
	t.Helper()
	dir := tempDir(t, "disk")
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	unmountAtEnd(t, dir)
	return dir
}

func unmountAtEnd(t testing.TB, dir string) {
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err) // somebody has it open still
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
}

// brittleDisk mounts an ext4 that becomes read-only at its first error, and
// returns what makes one.
func brittleDisk(t testing.TB, size int64) (dir string, fail func()) {
	t.Helper()
	dir = tempDir(t, "disk")
	image := filepath.Join(tempDir(t, "image"), "ext4")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop,errors=remount-ro", image, dir}} {
		if out, err := command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	unmountAtEnd(t, dir)
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		t.Fatal(err)
	}
	return dir, func() {
		t.Helper()
		if err := os.WriteFile("/sys/fs/ext4/"+filepath.Base(device)+"/trigger_fs_error", []byte("a test"), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that is full in the middle of a download evicts what nobody uses, and
// goes on; with nothing to evict the bytes only pass through.
func TestTheDiskIsFull(t *testing.T) {
	t.Parallel()
	for name, pinned := range map[string]bool{"with something to evict": false, "with nothing to evict": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t, ordealSize+3<<20) // not enough for both, and others use it too
			o := ordealOn(t, filepath.Join(disk, "cache"), "--cache-size", strconv.Itoa(1<<30))
			checkReads(t, o.d.path("org/other/m.gguf"), pattern{22, 4 << 20}, "read")
			o.d.completes("org/other", "m.gguf")
			cli := operatorOf(t, o.d.cache, o.hub)
			if pinned {
				cli.does(0, "pin", "org/other")
			}
			o.end(o.readers(), 0)
			stored := strings.Join(stored(t, o.d.cache), "\n")
			if strings.Contains(stored, "org/other") != pinned {
				t.Errorf("of the other model, pinned: %v, there is %s", pinned, stored)
			}
			if pinned {
				cli.does(0, "unpin", "org/other")
			}
			o.storedAgain()
			o.clean()
		})
	}
}

// A backing directory that takes no new files costs speed, not a read; what is
// complete there is read on, and once it takes them again they are stored.
func TestTheBackingDirBecomesReadOnly(t *testing.T) {
	t.Parallel()
	o := newOrdeal(t)
	other := pattern{22, 4 << 20}
	checkReads(t, o.d.path("org/other/m.gguf"), other, "read")
	o.d.completes("org/other", "m.gguf")
	fills := filepath.Join(o.d.cache, "fills")
	eventually(t, "nothing of it is left to remove", 10*time.Second, func() bool { return len(files(t, fills)) == 0 })
	// The daemon's lock is open for writing, so that nothing less than a broken
	// disk makes the whole filesystem read-only.
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY} {
		if err := unix.Mount(fills, fills, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	writable := sync.OnceFunc(func() {
		if err := unix.Unmount(fills, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(writable)
	o.end(o.readers(), 0)
	checkReads(t, o.d.path("org/other/m.gguf"), other)
	if left := files(t, fills); len(left) > 0 {
		t.Errorf("it was not read-only: %v", left)
	}
	writable()
	o.storedAgain()
	o.clean()
}

// storedAgain reads until what is read is kept.
func (o *ordeal) storedAgain() {
	o.Helper()
	eventually(o, "what is read is stored again", 40*time.Second, func() bool {
		checkReads(o, o.path, o.want, "direct") // past the pages that the kernel has
		return strings.Contains(strings.Join(files(o, filepath.Join(o.d.cache, "models")), "\n"), "org/m/")
	})
}

// A filesystem that finds itself damaged becomes read-only under files that
// are open for writing.
func TestTheDiskFailsInTheMiddle(t *testing.T) {
	t.Parallel()
	disk, fail := brittleDisk(t, 96<<20)
	o := ordealOn(t, filepath.Join(disk, "cache"))
	other := pattern{22, 4 << 20}
	checkReads(t, o.d.path("org/other/m.gguf"), other, "read")
	o.d.completes("org/other", "m.gguf")
	readers := o.readers()
	o.sent(o.want.size / 3)
	fail()
	o.end(readers, 0)
	o.hub.SetConnRate(0)
	checkReads(t, o.path, o.want, faultWays...)
	checkReads(t, o.d.path("org/other/m.gguf"), other)
	eventually(t, "no read waits", 30*time.Second, func() bool { return o.d.number("fetch", "waiting_reads") == 0 })
	if n := strings.Count(o.d.stderr.String(), "level=ERROR"); n > 20 {
		t.Errorf("the daemon logged %d errors", n)
	}
}
