package fs

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// A server ends soon after its mount was taken away, also when those whose
// reads were waiting live on.
func TestTheServerEndsWithItsMount(t *testing.T) {
	names, content := coldModel(pattern(1<<20, 1))
	content.gate = make(chan struct{})
	dir, s := mountTest(t, names, content)
	f, err := os.OpenFile(filepath.Join(dir, "org/cold/sub/w.bin"), os.O_RDONLY|unix.O_DIRECT, 0)
	must(t, err)
	defer f.Close()
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			if n, err := f.ReadAt(make([]byte, 4096), 0); err == nil {
				t.Errorf("a read of %d bytes that nobody had", n)
			}
		})
	}
	for s.Stats().Reads < 4 {
		if _, err := os.Stat(filepath.Join(dir, "org/cold/sub")); err != nil {
			t.Fatal(err)
		}
	}
	if s.raw.conn.ended() {
		t.Error("it is gone before it is unmounted")
	}
	must(t, unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH))
	readers.Wait()
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Error("the server is still there")
		close(content.gate)
		<-s.Done()
	}
	if !s.raw.conn.ended() {
		t.Error("the connection has not ended")
	}
}

// What was read from the kernel before the mount went, and begins after that,
// waits for nothing: go-fuse has cancelled what it knew of.
func TestRequestsAfterTheEnd(t *testing.T) {
	names, content := coldModel(pattern(1<<20, 1))
	dir, s := mountTest(t, names, content)
	must(t, unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH))
	<-s.Done()
	late, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	header := &fuse.InHeader{Caller: fuse.Caller{Pid: uint32(unix.Gettid())}}
	ctx, end := s.raw.requestContext(late.Done(), header, leaving)
	defer end()
	if ctx.Err() == nil {
		t.Error("a request that came too late may wait")
	}
	r := &fakeReader{gate: make(chan struct{})}
	if _, err := s.raw.readFrom(late.Done(), header, r, make([]byte, 4096), 0); !model.IsKind(err, model.Interrupted) || late.Err() != nil {
		t.Errorf("a read that came too late: %v", err)
	}
}
