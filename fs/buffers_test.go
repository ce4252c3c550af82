package fs

import (
	"os"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Buffers that requests are read into are there before they are used, which
// big ones that Go makes are not.
func TestRequestsAreReadIntoPagesThatAreThere(t *testing.T) {
	_, server := mountTest(t, &fakeNames{}, &fakeContent{})
	pool, err := readPool(server.server)
	if err != nil {
		t.Fatal(err)
	}
	debug.FreeOSMemory() // what other tests have touched
	const many = 64
	absent := func(fresh func() any) (n int) {
		var kept [many][]byte
		for i := range kept {
			kept[i] = fresh().([]byte)
		}
		for _, buf := range kept {
			if !present(t, buf[:requestSize]) {
				n++
			}
		}
		return n
	}
	if absent(func() any { return make([]byte, maxRead) }) == 0 {
		t.Fatal("all of what Go makes is there, so this shows nothing")
	}
	if n := absent(pool.New); n > 0 {
		t.Errorf("%d of %d buffers are not there", n, many)
	}
}

// present reports whether all of buf has pages (mincore(2)).
func present(t *testing.T, buf []byte) bool {
	t.Helper()
	page := uintptr(os.Getpagesize())
	from := uintptr(unsafe.Pointer(&buf[0])) &^ (page - 1)
	to := uintptr(unsafe.Pointer(&buf[len(buf)-1]))&^(page-1) + page
	pages := make([]byte, (to-from)/page)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, from, to-from, uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, p := range pages {
		if p&1 == 0 {
			return false
		}
	}
	return true
}
