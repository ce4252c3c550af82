package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// oneFile adds a repository with one GGUF to a Hub.
func oneFile(hub *hubtest.Hub, id string, p pattern) {
	hub.AddRepo(hubtest.Repo{ID: id, Files: []hubtest.File{{Path: "m.gguf", Content: p.content(), LFS: true}}})
}

func Test64ProcessesShareOneDownload(t *testing.T) {
	hub := hubtest.New(t)
	want := pattern{5, 1 << 30}
	oneFile(hub, "org/m", want)
	d := start(t, hubFlags(hub)...)
	var readers []*background
	var gates []*os.File
	for i := range 64 {
		j := job{Path: d.path("org/m/model.gguf"), Seed: want.seed, Size: want.size, Ways: []string{"pread"}, Hold: true}
		if i == 0 {
			j.Ways = []string{"read"} // one sees every byte; all together that would be 64 GiB
		}
		cmd := readerFor(j)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = r
		readers, gates = append(readers, inBackground(t, cmd)), append(gates, w)
		r.Close()
	}
	for _, w := range gates {
		w.Close()
	}
	for _, r := range readers {
		if err := r.ends(t, "a reader", 2*time.Minute); err != nil {
			t.Errorf("%v: %s", err, r.out)
		}
	}
	sentOnce(t, hub, "org/m/m.gguf", want.size)
	// Is it a namespace, what is the model, what is in it, where is the file.
	metadata := make(map[string]int)
	for _, r := range hub.Requests(hubtest.Filter{Host: hubtest.AtHub}) {
		metadata[r.Method+" "+r.Path+"?"+strings.Join(r.Query, "&")]++
	}
	for request, n := range metadata {
		if n > 1 || len(metadata) > 4 {
			t.Errorf("%d times, and %d different ones: %s", n, len(metadata), request)
		}
	}
}

// After a full read the file is complete: verified, under its name, and read
// by the kernel itself, with the Hub or without.
func TestCompletion(t *testing.T) {
	hub := hubtest.New(t)
	want := pattern{6, 40<<20 + 77}
	oneFile(hub, "org/m", want)
	d := start(t, hubFlags(hub)...)
	path := d.path("org/m/model.gguf")
	checkReads(t, path, want, "read")
	checkReads(t, d.completes("org/m", "m.gguf"), want)
	d.readNatively(path, want)
	sentOnce(t, hub, "org/m/m.gguf", want.size)
	for _, f := range stored(t, d.cache) {
		if strings.HasPrefix(f, "fills/") {
			t.Errorf("a complete download leaves %s", f)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	d.stop()
	hub.Refuse()

	d = startOn(t, d.mount, d.cache, hubFlags(hub)...)
	within(t, "the first look without the Hub", onTime, func() {
		again, err := os.Stat(path)
		if err != nil || again.Size() != info.Size() || !again.ModTime().Equal(info.ModTime()) {
			t.Errorf("without the Hub: %v, %v; before: %v", again, err, info)
		}
	})
	d.readNatively(path, want)
}

// readNatively checks a file in every way, and that no read of it reaches the
// daemon.
func (d *daemon) readNatively(path string, want pattern) {
	d.t.Helper()
	before := d.number("mount", "reads")
	checkReads(d.t, path, want)
	// Asking for the status is a read, and is counted once it has been made.
	if got := d.number("mount", "reads") - before - 1; got > 0 {
		d.t.Errorf("the daemon received %d reads of %s", got, path)
	}
}

// A kill in the middle of a download costs at most 8 MiB of it.
func TestKillInTheMiddleOfADownload(t *testing.T) {
	hub := hubtest.New(t)
	want := pattern{8, 256 << 20}
	oneFile(hub, "org/m", want)
	hub.SetConnRate(16<<20, hubtest.AtCDN)
	d := start(t, hubFlags(hub)...)
	reading := inBackground(t, reader(d.path("org/m/model.gguf"), want, "read"))
	present := int64(0)
	eventually(t, "half of the file is here", 30*time.Second, func() bool {
		present = d.fetched()
		return present > want.size/2
	})
	d.kill()
	if err := reading.ends(t, "the reader of a killed daemon", 5*time.Second); err == nil {
		t.Errorf("the reader saw a whole file")
	}
	hub.SetConnRate(0, hubtest.AtCDN)

	d = startOn(t, d.mount, d.cache, hubFlags(hub)...)
	checkReads(t, d.path("org/m/model.gguf"), want, "read")
	again := d.number("fetch", "bytes") - (want.size - present)
	t.Logf("%d MiB were here before the kill, %d MiB were fetched after it", present>>20, d.number("fetch", "bytes")>>20)
	if again > 8<<20 {
		t.Errorf("%d bytes were fetched again", again)
	}
	checkReads(t, d.completes("org/m", "m.gguf"), want, "read")
}

// fetched is what is here of the only download.
func (d *daemon) fetched() int64 {
	fills, _ := d.control("status.json")["fills"].([]any)
	if len(fills) != 1 {
		return 0
	}
	n, _ := field(fills[0], "present").(float64)
	return int64(n)
}

// stuck makes 200 reads wait for bytes of org/stuck, which never come.
func stuck(t *testing.T, hub *hubtest.Hub, d *daemon) {
	t.Helper()
	want := pattern{9, 220 << 20}
	oneFile(hub, "org/stuck", want)
	hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: "org/stuck/*"}, hubtest.Always(), hubtest.StallAt(0))
	inBackground(t, reader(d.path("org/stuck/model.gguf"), want, "scattered"))
	eventually(t, "200 reads wait", 20*time.Second, func() bool { return d.number("fetch", "waiting_reads") >= 200 })
}

// Readers of one file that stall slow no other file, on the same host or on
// another, and no look at their own.
func TestStalledReadsDelayNobodyElse(t *testing.T) {
	local := writeTree(t, map[string][]byte{"here/model.gguf": pattern{1, 4 << 20}.bytes()})
	hub := hubtest.New(t)
	cold, half := pattern{10, 8 << 20}, pattern{11, 64 << 20}
	oneFile(hub, "org/cold", cold)
	oneFile(hub, "org/half", half)
	d := start(t, append(hubFlags(hub), "--local", local, "--fill", "touched")...)
	readHead(t, d.path("org/half/model.gguf"))
	hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: "org/half/*"}, hubtest.Always(), hubtest.Hang())
	stuck(t, hub, d)

	const limit = 2*time.Second + raceAllowance
	within(t, "a lookup beside a pending read", onTime, func() {
		if _, err := os.Stat(d.path("org/stuck/m.gguf")); err != nil {
			t.Error(err)
		}
		_, err := os.Stat(d.path("org/stuck/none"))
		wantErrno(t, "a missing file beside it", err, syscall.ENOENT)
	})
	within(t, "listing beside a pending read", onTime, func() {
		if list, err := os.ReadDir(d.path("org/stuck")); err != nil || len(list) == 0 {
			t.Errorf("%v, %v", list, err)
		}
	})
	within(t, "reading a local file", limit, func() { checkReads(t, d.path("here/model.gguf"), pattern{1, 4 << 20}) })
	within(t, "reading a cold file of the same host", limit, func() { checkReads(t, d.path("org/cold/model.gguf"), cold, "pread") })
	within(t, "reading what is here of a file, through the daemon", limit, func() {
		before := d.number("mount", "reads")
		readHead(t, d.path("org/half/model.gguf"))
		if got := d.number("mount", "reads") - before; got < 2 { // one is the status's
			t.Error("the daemon was not asked: this test sees nothing")
		}
	})
}

// readHead reads the first 64 KiB of a file past the kernel's cache, in a
// process of its own.
func readHead(t testing.TB, path string) {
	t.Helper()
	b := inBackground(t, command("dd", "if="+path, "of=/dev/null", "bs=64k", "count=1", "iflag=direct"))
	if err := b.ends(t, "reading the head of "+path, 10*time.Second); err != nil {
		t.Errorf("%v: %s", err, b.out)
	}
}

// A process that inherits /dev/fuse keeps a dead mount alive, with everybody
// hanging who looks at it.
func TestNobodyInheritsDevFuse(t *testing.T) {
	share := writeTree(t, map[string][]byte{"s/model.gguf": pattern{1, 1 << 20}.bytes()})
	hub := hubtest.New(t)
	d := start(t, append(hubFlags(hub), "--shared", share)...)
	stuck(t, hub, d)
	checkReads(t, d.path("s/model.gguf"), pattern{1, 1 << 20}, "read")
	serving := map[int]bool{d.cmd.Process.Pid: true, int(d.number("pid")): true}
	holders := fuseHolders(descendants(os.Getpid()))
	for pid, closed := range holders {
		cmdline, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		switch {
		case !serving[pid]:
			t.Errorf("process %d holds /dev/fuse: %q", pid, cmdline)
		case !closed:
			t.Errorf("the daemon's /dev/fuse would be inherited by its children: %q", cmdline)
		}
	}
	if len(holders) == 0 {
		t.Error("not even the daemon was seen to hold /dev/fuse: this test sees nothing")
	}
}
