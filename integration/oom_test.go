package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"modelfs/internal/hubtest"
)

// memoryGroup makes a memory cgroup (version 1 or 2, whichever is mounted)
// with a limit in bytes, and puts processes into it.
func memoryGroup(t *testing.T, limit int, pids ...int) string {
	t.Helper()
	root, file := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat(filepath.Join(root, file)); err != nil {
		root, file = "/sys/fs/cgroup", "memory.max"
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			t.Fatalf("no memory cgroup can be made here: %v", err)
		}
	}
	group := filepath.Join(root, fmt.Sprintf("modelfs-it-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		eventually(t, "the cgroup is empty", patient, func() bool { return os.Remove(group) == nil })
	})
	if err := os.WriteFile(filepath.Join(group, file), fmt.Append(nil, limit), 0); err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Append(nil, pid), 0); err != nil {
			t.Fatal(err)
		}
	}
	return group
}

// The out-of-memory killer ends the server, not the service: readers in the
// middle of a download notice nothing.
func TestReadersSurviveTheOutOfMemoryKiller(t *testing.T) {
	want := pattern{21, 128 << 20}
	hub := hubtest.New(t)
	hub.SetConnRate(8 << 20)
	hub.AddRepo(hubtest.Repo{ID: "org/big", Files: []hubtest.File{{Path: "w.bin", Content: want.content(), LFS: true}}})
	d := start(t, hubFlags(hub)...)
	server := d.server()
	group := memoryGroup(t, 512<<20, d.cmd.Process.Pid, server)
	t.Cleanup(d.stop) // before the cgroup is removed
	// The test can't protect the supervisor on every machine, so it names the victim.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", server), []byte("1000"), 0); err != nil {
		t.Fatal(err)
	}
	wait := startSurvivor(t, d.path("org/big/w.bin"), want, "read")
	eventually(t, "the download runs", patient, func() bool { return hub.BytesSent("org/big/w.bin") > 8<<20 })
	// It takes memory until the killer has taken the server, and then itself.
	hog := exec.Command("sh", "-c", `echo $$ > "$0" && exec tail /dev/zero`, filepath.Join(group, "cgroup.procs"))
	if err := hog.Run(); err == nil {
		t.Error("memory without end")
	}
	eventually(t, "another server", patient, func() bool { return d.server() != server })
	wait()
}
