package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// mostMemory is the promise for a server's resident memory, whatever the number
// of readers and files.
const mostMemory = 128 << 20

// peakMemory is the most that a process had resident.
func peakMemory(t testing.TB, pid int64) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	t.Fatalf("no VmHWM in %s", text)
	return 0
}

// Thousands of reads of tens of cold files, first with an origin that sends
// nothing and then with one that sends all of it, fit into the bound.
func TestMemoryIsBoundedWhoeverReads(t *testing.T) {
	const files = 24
	hub := hubtest.New(t)
	var list []hubtest.File
	want := func(i int) pattern { return pattern{uint64(i) + 1, 201 << 20} }
	for i := range files {
		list = append(list, hubtest.File{Path: fmt.Sprintf("%d.gguf", i), Content: want(i).content(), LFS: true})
	}
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: list})
	stall := hub.Fault(hubtest.Filter{Host: hubtest.AtCDN}, hubtest.Always(), hubtest.StallAt(100_000))
	d, err := launchBinary(t, plain, tempDir(t, "mnt"), tempDir(t, "cache"), append(hubFlags(hub), "--fill", "touched", "--log-level", "info")...)
	if err != nil {
		t.Fatal(err)
	}
	var readers []*background
	for i := range files {
		readers = append(readers, inBackground(t, reader(d.path("org/m", fmt.Sprintf("%d.gguf", i)), want(i), "scattered")))
	}
	eventually(t, "two thousand reads wait", patient, func() bool { return d.number("fetch", "waiting_reads") >= 2000 })
	stalled := peakMemory(t, d.number("pid"))
	stall.Remove()
	for _, r := range readers {
		if err := r.ends(t, "a reader", patient); err != nil {
			t.Errorf("%v: %s", err, r.out)
		}
	}
	flowing := peakMemory(t, d.number("pid"))
	t.Logf("at most %d MiB while nothing came, %d MiB in all", stalled>>20, flowing>>20)
	if flowing > mostMemory {
		t.Errorf("the server had %d MiB, promised are %d", flowing>>20, mostMemory>>20)
	}
	eventually(t, "no read waits", 30*time.Second, func() bool { return d.number("fetch", "waiting_reads") == 0 })
}
