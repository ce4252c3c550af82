//go:build soak

package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// A soak is some hours of a node's life in some minutes: readers of every
// kind, readers that are killed, names that nobody has, listings, eviction,
// faults of the origin, and a server that dies again and again. Nothing on a
// healthy path may fail, be late, or grow.

const (
	soakFiles = 12
	soakSize  = 24 << 20
	// soakCache holds half of the files, so that the other half is evicted.
	soakCache = soakFiles / 2 * soakSize
	// soakMemory bounds the server's resident memory, whatever it did.
	soakMemory = 200 << 20
)

// soak is what the workers share.
type soak struct {
	t    *testing.T
	d    *daemon
	hub  *hubtest.Hub
	stop chan struct{}
	wg   sync.WaitGroup
}

func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil {
		t.Fatalf("SOAK says how long: %v", err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	hub := hubtest.New(t)
	hub.SetQuota("api", 1<<30, time.Hour)
	hub.SetQuota("resolvers", 1<<30, time.Hour)
	hub.SetConnRate(60 << 20)
	var files []hubtest.File
	for i := range soakFiles {
		files = append(files, hubtest.File{Path: fmt.Sprintf("%d.bin", i), Content: pattern{uint64(i) + 1, soakSize}.content(), LFS: true})
	}
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: files})
	local := writeTree(t, map[string][]byte{"l/model.gguf": pattern{99, 4 << 20}.bytes()})
	d := start(t, append(hubFlags(hub), "--log-level", "info", "--cache-size", strconv.Itoa(soakCache), "--local", local)...)
	s := &soak{t: t, d: d, hub: hub, stop: make(chan struct{})}
	for i, how := range []string{"read", "pread", "direct", "mmap-shared", "mmap-private", "read"} {
		s.every("reader "+how, seed+uint64(i), 0, func(rnd *rand.Rand) { s.read(rnd, how) })
	}
	s.every("local reader", seed+10, 0, func(*rand.Rand) { checkReads(t, d.path("l/model.gguf"), pattern{99, 4 << 20}) })
	s.every("killed reader", seed+11, time.Second, s.killReader)
	s.every("missing names", seed+12, 50*time.Millisecond, s.missing)
	s.every("listing", seed+13, 200*time.Millisecond, s.list)
	s.every("faults", seed+14, time.Second, s.fault)
	s.every("killer", seed+15, 4*time.Second, func(*rand.Rand) { s.killServer() })
	s.watch(length)
	close(s.stop)
	s.wg.Wait()
	s.settle()
}

// every runs a worker until the end, with a pause between its turns. A worker
// that never got a turn is an error.
func (s *soak) every(name string, seed uint64, pause time.Duration, turn func(*rand.Rand)) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	s.wg.Go(func() {
		turns := 0
		for {
			select {
			case <-s.stop:
				if turns == 0 {
					s.t.Errorf("%s never got a turn", name)
				}
				s.t.Logf("%s: %d turns", name, turns)
				return
			case <-time.After(pause):
				turn(rnd)
				turns++
			}
		}
	})
}

func (s *soak) read(rnd *rand.Rand, how string) {
	i := rnd.IntN(soakFiles)
	checkReads(s.t, s.d.path("org/m", fmt.Sprintf("%d.bin", i)), pattern{uint64(i) + 1, soakSize}, how)
}

func (s *soak) killReader(rnd *rand.Rand) {
	i := rnd.IntN(soakFiles)
	cmd := reader(s.d.path("org/m", fmt.Sprintf("%d.bin", i)), pattern{uint64(i) + 1, soakSize}, "read")
	if err := cmd.Start(); err != nil {
		s.t.Error(err)
		return
	}
	<-time.After(time.Duration(rnd.IntN(50)) * time.Millisecond)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func (s *soak) missing(rnd *rand.Rand) {
	name := fmt.Sprintf("org/none-%d", rnd.IntN(1000))
	_, err := os.Stat(s.d.path(name))
	if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EHOSTUNREACH) { // a fault may be on
		s.t.Errorf("%s: %v", name, err)
	}
}

func (s *soak) list(*rand.Rand) {
	err := filepath.WalkDir(s.d.path("l"), func(_ string, e os.DirEntry, err error) error {
		if err == nil {
			_, err = e.Info()
		}
		return err
	})
	if err != nil {
		s.t.Errorf("listing: %v", err)
	}
	if _, err := os.ReadDir(s.d.mount); err != nil {
		s.t.Errorf("listing the root: %v", err)
	}
}

// fault lets the CDN misbehave for a while, in ways that a fill gets over.
func (s *soak) fault(rnd *rand.Rand) {
	effects := []hubtest.Effect{
		hubtest.CutAt(rnd.Int64N(1<<20), hubtest.Reset), hubtest.Status(503, nil, "busy"), hubtest.WrongContentRange("bytes 0-0/1"),
		hubtest.Delay(300 * time.Millisecond), hubtest.ShortBody(1000),
	}
	f := s.hub.Fault(hubtest.Filter{Host: hubtest.AtCDN}, hubtest.First(3), effects[rnd.IntN(len(effects))])
	<-time.After(500 * time.Millisecond)
	f.Remove()
	if rnd.IntN(10) == 0 {
		s.hub.ExpireURLs()
	}
}

func (s *soak) killServer() {
	if pid := s.server(); pid != 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// server is the child of the supervisor that serves; asking it would make the
// killer wait for what it kills.
func (s *soak) server() int {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(s.d.cmd.Process.Pid), "-f", "serve").Output()
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	return pid
}

// watch looks at the server's memory until the time is over.
func (s *soak) watch(length time.Duration) {
	end := time.After(length)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	most := 0
	for {
		select {
		case <-end:
			s.t.Logf("the server's resident memory was at most %d MiB", most>>20)
			return
		case <-s.d.exited:
			s.t.Fatalf("the daemon ended:\n%s", tail(s.d.stderr.String()))
		case <-tick.C:
			if rss := residentMemory(s.server()); rss > most {
				most = rss
				if most > soakMemory {
					s.t.Errorf("the server uses %d MiB", most>>20)
				}
			}
		}
	}
}

// settle checks that nothing is left of all that: no handle, no waiting read,
// no registration, and as many nodes as there are names.
func (s *soak) settle() {
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0); err != nil {
		s.t.Log(err)
	}
	eventually(s.t, "the gauges to be back at zero", patient, func() bool {
		st := s.d.control("status.json")
		return field(st, "mount", "handles").(float64) <= 1 && field(st, "mount", "backing_files").(float64) == 0 &&
			field(st, "fetch", "waiting_reads").(float64) == 0
	})
	if nodes := field(s.d.control("status.json"), "mount", "nodes").(float64); nodes > 3*soakFiles+200 {
		s.t.Errorf("%v nodes are left", nodes)
	}
}
