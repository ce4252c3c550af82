package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A mount is a running "modelfs mount" with a backing dir.
type mount struct {
	b     *bench
	cmd   *exec.Cmd
	point string
	cache string
	log   bytes.Buffer
	ended bool
}

// fresh mounts on an empty backing dir, with dropped caches.
func (b *bench) fresh(ctx context.Context, flags ...string) (*mount, error) {
	cache, err := os.MkdirTemp(b.dir, "cache-")
	if err != nil {
		return nil, err
	}
	if err := settle(b.dir); err != nil {
		return nil, err
	}
	if _, err := b.hub.ask(order{Do: "reset"}); err != nil {
		return nil, err
	}
	return b.mountOn(ctx, cache, flags...)
}

// mountOn mounts on a backing dir and waits until the model is known.
func (b *bench) mountOn(ctx context.Context, cache string, flags ...string) (*mount, error) {
	point, err := os.MkdirTemp(b.dir, "mnt-")
	if err != nil {
		return nil, err
	}
	args := []string{"mount", "--cache", cache, "--hf-endpoint", b.hub.url, "--allow", b.hub.url + "/*", "--allow", b.hub.cdn + "/*",
		"--log-level", "info", "--log-format", "text"}
	m := &mount{b: b, point: point, cache: cache}
	m.cmd = exec.CommandContext(ctx, b.o.binary, append(append(args, flags...), point)...)
	m.cmd.Cancel = func() error { return m.cmd.Process.Signal(unix.SIGTERM) }
	m.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "MODELFS_CONFIG=/dev/null"}
	m.cmd.Stderr = &m.log
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "mounted ") {
		return nil, errors.Join(fmt.Errorf("modelfs said %q: %s", line, m.log.Bytes()), m.close())
	}
	if _, err := os.Stat(m.path("large.gguf")); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func (m *mount) path(file string) string { return filepath.Join(m.point, repo, file) }

// server is the process that serves: the supervisor has other children, too.
func (m *mount) server() (int, error) {
	supervisor := m.cmd.Process.Pid
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", supervisor))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		children, _ := os.ReadFile(list) //nolint:gosec // of /proc; a thread may have ended
		for _, pid := range strings.Fields(string(children)) {
			args, _ := os.ReadFile("/proc/" + pid + "/cmdline") //nolint:gosec // likewise
			if bytes.HasPrefix(args, []byte("modelfs\x00serve\x00")) {
				return strconv.Atoi(pid)
			}
		}
	}
	return 0, fmt.Errorf("process %d serves nothing", supervisor)
}

// noteMemory takes the server's peak resident memory into the benchmark's.
func (m *mount) noteMemory() error {
	pid, err := m.server()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib, err := strconv.ParseInt(strings.TrimSpace(strings.SplitN(rest, " kB", 2)[0]), 10, 64)
	m.b.peak = max(m.b.peak, kib<<10)
	m.b.casePeak = max(m.b.casePeak, kib<<10)
	return err
}

// close unmounts. The backing dir stays.
func (m *mount) close() error {
	if m.ended {
		return nil
	}
	m.ended = true
	err := m.noteMemory()
	err = errors.Join(err, m.cmd.Process.Signal(unix.SIGTERM), m.cmd.Wait())
	if err != nil {
		err = fmt.Errorf("ending modelfs: %w: %s", err, m.log.Bytes())
	}
	return err
}

// remove unmounts and removes the backing dir.
func (m *mount) remove() error {
	return errors.Join(m.close(), os.RemoveAll(m.cache), os.Remove(m.point))
}

// crash kills the supervisor and its server, and takes the dead mount away.
func (m *mount) crash() error {
	pid, err := m.server()
	if err != nil {
		return err
	}
	m.ended = true
	_ = m.noteMemory()
	err = errors.Join(m.cmd.Process.Kill(), unix.Kill(pid, unix.SIGKILL))
	_ = m.cmd.Wait()
	return errors.Join(err, unix.Unmount(m.point, unix.MNT_FORCE|unix.MNT_DETACH), os.Remove(m.point))
}

// completed waits until so many files are complete, and says when that was seen.
func (m *mount) completed(ctx context.Context, n int) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		names, err := os.ReadDir(filepath.Join(m.cache, "blobs"))
		if err == nil && len(names) >= n {
			return time.Now(), nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("the download was not completed: %s", m.log.Bytes())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// settle makes measurements begin alike: what is dirty is written out, all
// pages are forgotten, and the memory that they will need is the machine's. A
// virtual machine's host takes free memory back and gives it again at a tenth
// of memory's speed, which would be charged to whoever uses more of it, or
// first.
func settle(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		return err
	}
	return claimMemory()
}

// mostClaimed is the page cache of the largest case: the file as the backing
// dir has it, as the mount's readers have it, and a rest.
const mostClaimed = 10 << 30

// claimMemory touches as much memory as a measurement may need, and frees it.
func claimMemory() error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	size := min(mostClaimed, int(info.Freeram)*int(info.Unit)/4*3)
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("claiming memory: %w", err)
	}
	_ = unix.Madvise(m, unix.MADV_HUGEPAGE) // only faster
	return errors.Join(unix.Madvise(m, unix.MADV_POPULATE_WRITE), unix.Munmap(m))
}
