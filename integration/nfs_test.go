//go:build vm

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Shares as modelfs is made for: the kernel's own NFS client, in front of the
// kernel's own server, in another network namespace and at the other end of a
// cable that can be pulled. These tests change the machine's network and
// kernel; scripts/vm.sh boots one for them (make test-vm).

const (
	nfsServer = "10.77.0.2"
	nfsClient = "10.77.0.1"
	// nfsHard are the options of a mount that waits for its server for ever; the
	// second retransmission is due after a minute, as by default.
	nfsHard = "vers=4.2,hard,timeo=600,retrans=2"
	// nfsSoft gives up, some 15 s after the server went.
	nfsSoft = "vers=4.2,soft,timeo=10,retrans=1"
)

// exported is what the server exports; each test has a directory in it.
const exported = "/run/export"

// serverUp makes the server's host: a network namespace with one end of a
// cable, and a kernel NFS server. The kernel asks a user process who may have
// what, by files below /proc/net/rpc; here the answers are given before it asks.
// (9219: read-only, from any port, without checking for subtrees, and with the
// number 0 that makes it the root of what NFSv4 shows.)
const serverUp = `
mkdir -p ` + exported + `
ip netns add server
ip link add nfs0 type veth peer name nfs1 netns server
ip address add ` + nfsClient + `/24 dev nfs0
ip link set nfs0 up
ip -n server address add ` + nfsServer + `/24 dev nfs1
ip -n server link set nfs1 up
ip -n server link set lo up
nsenter --net=/run/netns/server sh -ex -c '
	mount -t nfsd nfsd /proc/fs/nfsd
	echo 10 >/proc/fs/nfsd/nfsv4gracetime
	echo 10 >/proc/fs/nfsd/nfsv4leasetime
	echo "-2 -3 +4 +4.1 +4.2" >/proc/fs/nfsd/versions
	echo "nfsd ` + nfsClient + ` 2147483647 lan" >/proc/net/rpc/auth.unix.ip/channel
	echo "lan ` + exported + ` 2147483647 9219 65534 65534 0" >/proc/net/rpc/nfsd.export/channel
	echo "lan 1 \\x00000000 2147483647 ` + exported + `" >/proc/net/rpc/nfsd.fh/channel
	echo 8 >/proc/fs/nfsd/threads
'
`

// startServer starts the one server of the machine. It ends with the machine.
var startServer = sync.OnceValue(func() error { return script(serverUp) })

// An nfsShare is a mount of a directory of the server's.
type nfsShare struct {
	t    testing.TB
	dir  string // where it is mounted
	tree string // the same directory, as the server sees it
	cut  bool
}

// newNFS mounts a directory with the given files. As with newShare, a daemon
// that uses it must be started later.
func newNFS(t testing.TB, files map[string][]byte, options string) *nfsShare {
	t.Helper()
	if err := startServer(); err != nil {
		t.Fatal(err)
	}
	tree, err := os.MkdirTemp(exported, "tree")
	if err == nil {
		err = os.Chmod(tree, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &nfsShare{t: t, dir: tempDir(t, "nfs"), tree: tree}
	for name, data := range files {
		s.write(name, data)
	}
	options += ",addr=" + nfsServer + ",clientaddr=" + nfsClient
	if err := unix.Mount(nfsServer+":/"+filepath.Base(tree), s.dir, "nfs", unix.MS_RDONLY, options); err != nil {
		t.Fatalf("mounting NFS: %v\n%s", err, kernelLog())
	}
	t.Cleanup(func() {
		s.heal()
		if err := unix.Unmount(s.dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting NFS: %v", err)
		}
	})
	// A server that has just started lets nobody open a file for its period of grace.
	s.write("ready", nil)
	if _, err := os.ReadFile(filepath.Join(s.dir, "ready")); err != nil {
		t.Fatal(err)
	}
	return s
}

// script runs a shell script. Busybox has an ip of its own, which knows no
// namespaces and comes first.
func script(text string) error {
	if out, err := command("sh", "-exc", `ip() { /usr/sbin/ip "$@"; }; `+text).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s\n%s", err, out, kernelLog())
	}
	return nil
}

func kernelLog() []byte {
	out, _ := command("sh", "-c", "dmesg | tail -4").CombinedOutput()
	return out
}

// pull pulls the cable out: packets are lost, and nobody says so.
func (s *nfsShare) pull() {
	s.t.Helper()
	s.cut = true
	if err := script("ip -n server link set nfs1 down"); err != nil {
		s.t.Fatal(err)
	}
}

// heal plugs it in again.
func (s *nfsShare) heal() {
	s.t.Helper()
	if s.cut {
		s.cut = false
		if err := script("ip -n server link set nfs1 up"); err != nil {
			s.t.Error(err)
		}
	}
}

// write writes a file on the server.
func (s *nfsShare) write(rel string, data []byte) {
	s.t.Helper()
	writeFile(s.t, filepath.Join(s.tree, rel), data)
}

// replace puts another file in the place of one, on the server.
func (s *nfsShare) replace(rel string, data []byte) {
	s.t.Helper()
	s.write(rel+".new", data)
	if err := os.Rename(filepath.Join(s.tree, rel+".new"), filepath.Join(s.tree, rel)); err != nil {
		s.t.Fatal(err)
	}
}

// look makes this machine's NFS client look at a file, and remember what it saw.
func (s *nfsShare) look(rel string) {
	s.t.Helper()
	if _, err := os.Stat(filepath.Join(s.dir, rel)); err != nil {
		s.t.Fatal(err)
	}
}

// hasPassthrough reports whether this kernel reads files below a FUSE mount by
// itself, by its version.
func hasPassthrough(t testing.TB) bool {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 9
}

// dropCaches makes the kernel forget the pages of all files.
func dropCaches(t testing.TB) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
		t.Fatal(err)
	}
}
