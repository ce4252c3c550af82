package integration

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// gateJob is the environment variable that makes the helper a share: it
// shows the directory "from" at the directory "at", both separated by a line
// break.
const gateJob = "MODELFS_IT_GATE"

// A share is a FUSE mount of another process, in the place of NFS: it can be
// told to answer nothing, or only errors.
type share struct {
	dir string // its mount point
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// newShare mounts a share of a directory. A daemon that uses it must be
// started later: cleanup ends the daemon first, whatever the share does then.
func newShare(t testing.TB, from string) *share {
	t.Helper()
	s := &share{dir: tempDir(t, "share"), t: t, cmd: exec.Command(helper)}
	s.cmd.Env = append(os.Environ(), gateJob+"="+from+"\n"+s.dir)
	s.cmd.Stderr = os.Stderr
	in, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.in, s.out = in, bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	s.heard("mounted")
	return s
}

// set makes the share "open", "hang", "freeze" (hang, and not even a kill gets
// anybody out), "fail" (EIO), or "wake" (open, some time after it is first
// used), from now on.
func (s *share) set(state string) {
	s.t.Helper()
	if _, err := io.WriteString(s.in, state+"\n"); err != nil {
		s.t.Fatal(err)
	}
	s.heard(state)
}

func (s *share) heard(word string) {
	s.t.Helper()
	if line, err := s.out.ReadString('\n'); line != word+"\n" {
		s.t.Fatalf("the share said %q: %v", line, err)
	}
}

func (s *share) end() {
	_ = s.in.Close()
	_ = s.cmd.Wait()
	_ = unix.Unmount(s.dir, unix.MNT_FORCE|unix.MNT_DETACH)
}

// runGate is the life of a share's process; it ends with its input.
func runGate(text string) int {
	from, at, _ := strings.Cut(text, "\n")
	root, err := gofs.NewLoopbackRoot(from)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	g := &gate{RawFileSystem: gofs.NewNodeFS(root, &gofs.Options{})}
	g.set("open")
	// A depth that the kernel does not know keeps it from reading the files
	// below by itself: every read comes here.
	server, err := fuse.NewServer(g, at, &fuse.MountOptions{FsName: "test", Name: "gate", AllowOther: true, DirectMountStrict: true, MaxStackDepth: 3})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go server.Serve()
	if err := server.WaitMount(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("mounted")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		g.set(lines.Text())
		fmt.Println(lines.Text())
	}
	g.set("open")
	_ = unix.Unmount(at, unix.MNT_FORCE|unix.MNT_DETACH)
	return 0
}

// gate is a filesystem whose answers can be held back. Entries are not
// cached by the kernel, so each use of a path comes here.
type gate struct {
	fuse.RawFileSystem

	mu    sync.Mutex // guards the rest
	state string
	next  chan struct{} // closed when the state changes

	waking sync.Once
}

// wakeTime is what an automounter may need for a share that nobody has used.
const wakeTime = 700 * time.Millisecond

func (g *gate) set(state string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next != nil {
		close(g.next)
	}
	g.state, g.next = state, make(chan struct{})
}

// pass waits while the gate hangs. Who is killed in the meantime leaves, as
// from NFS.
func (g *gate) pass(cancel <-chan struct{}) fuse.Status {
	for {
		g.mu.Lock()
		state, next := g.state, g.next
		g.mu.Unlock()
		switch state {
		case "open":
			return fuse.OK
		case "fail":
			return fuse.EIO
		case "freeze":
			<-next
			continue
		case "wake":
			g.waking.Do(func() { time.AfterFunc(wakeTime, func() { g.set("open") }) })
		}
		select {
		case <-next:
		case <-cancel:
			return fuse.EINTR
		}
	}
}

func (g *gate) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if s := g.pass(cancel); s != fuse.OK {
		return s
	}
	return g.RawFileSystem.Lookup(cancel, header, name, out)
}

func (g *gate) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if s := g.pass(cancel); s != fuse.OK {
		return s
	}
	return g.RawFileSystem.GetAttr(cancel, in, out)
}

func (g *gate) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if s := g.pass(cancel); s != fuse.OK {
		return s
	}
	return g.RawFileSystem.Open(cancel, in, out)
}

func (g *gate) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	if s := g.pass(cancel); s != fuse.OK {
		return nil, s
	}
	return g.RawFileSystem.Read(cancel, in, buf)
}

func (g *gate) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	if s := g.pass(cancel); s != fuse.OK {
		return s
	}
	return g.RawFileSystem.StatFs(cancel, in, out)
}

func (g *gate) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	if s := g.pass(cancel); s != fuse.OK {
		return s
	}
	return g.RawFileSystem.Flush(cancel, in)
}

func (g *gate) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if s := g.pass(cancel); s != fuse.OK {
		return s
	}
	return g.RawFileSystem.OpenDir(cancel, in, out)
}

func (g *gate) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if s := g.pass(cancel); s != fuse.OK {
		return s
	}
	return g.RawFileSystem.ReadDirPlus(cancel, in, out)
}
