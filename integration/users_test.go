package integration

import (
	"fmt"
	iofs "io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// nobody is a user who has no rights anywhere.
const nobody = 65534

// asNobody makes a command that runs as a user without rights.
func asNobody(name string, args ...string) *exec.Cmd {
	cmd := command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// mountOptionsOf are the options of a mount, as the kernel lists them.
func mountOptionsOf(t testing.TB, dir string) string {
	t.Helper()
	for line := range strings.Lines(readFile(t, "/proc/self/mountinfo")) {
		if strings.Contains(line, " "+dir+" ") {
			return line
		}
	}
	t.Fatalf("%s is not mounted", dir)
	return ""
}

// Everything that can be seen is read-only and can't be executed, whoever
// owns it, and the kernel checks that.
func TestWhoMayUseTheMount(t *testing.T) {
	for _, c := range []struct {
		name     string
		flags    []string
		strange  bool // a user without rights may use it
		uid, gid uint32
	}{
		{"as root mounts", nil, true, 0, 0},
		{"root only", []string{"--allow-other=false"}, false, 0, 0},
		{"owned by somebody", []string{"--uid", "1234", "--gid", "4321"}, true, 1234, 4321},
	} {
		t.Run(c.name, func(t *testing.T) {
			hub := hubtest.New(t)
			hub.AddRepo(hubRepo("org/m", pattern{1, 70_000}))
			tree := writeTree(t, map[string][]byte{"on-disk/model.safetensors": []byte("weights")})
			writeFile(t, filepath.Join(tree, "on-disk/run.sh"), []byte("#!/bin/sh\n"))
			if err := os.Chmod(filepath.Join(tree, "on-disk/run.sh"), 0o6777); err != nil {
				t.Fatal(err)
			}
			d := start(t, append(append(hubFlags(hub), "--local", tree), c.flags...)...)
			options := mountOptionsOf(t, d.mount)
			if !containsAll(options, []string{" ro,", "nosuid", "nodev", "default_permissions"}) || strings.Contains(options, "allow_other") != c.strange {
				t.Errorf("mounted with %s", options)
			}
			for path, want := range map[string]iofs.FileMode{
				"": iofs.ModeDir | 0o555, "org": iofs.ModeDir | 0o555, "org/m": iofs.ModeDir | 0o555, "org/m/m-Q4_K_M.gguf": 0o444, "org/m/config.json": 0o444,
				"on-disk": iofs.ModeDir | 0o555, "on-disk/model.safetensors": 0o444, "on-disk/run.sh": 0o444, "CACHEDIR.TAG": 0o444,
				".modelfs": iofs.ModeDir | 0o555, ".modelfs/status.json": 0o444, "org/m/.modelfs/explain.json": 0o444,
			} {
				info, err := os.Lstat(d.path(path))
				if err != nil {
					t.Fatal(err)
				}
				if st := info.Sys().(*syscall.Stat_t); info.Mode() != want || st.Uid != c.uid || st.Gid != c.gid {
					t.Errorf("%q is %v of %d:%d, want %v of %d:%d", path, info.Mode(), st.Uid, st.Gid, want, c.uid, c.gid)
				}
			}
			if err := exec.Command(d.path("on-disk/run.sh")).Run(); !os.IsPermission(err) {
				t.Errorf("running a file of the mount: %v", err)
			}
			if err := os.Chmod(d.cache, 0o755); err != nil { // as an operator may have made it
				t.Fatal(err)
			}
			checkReads(t, d.path("org/m/model.gguf"), pattern{1, 70_000}, "read")
			blob := d.completes("org/m", "m-Q4_K_M.gguf")
			for _, file := range []string{d.path("org/m/config.json"), d.path("on-disk/model.safetensors"), blob} {
				if out, err := asNobody("head", "-c4", file).CombinedOutput(); (err == nil) != c.strange || err != nil && !strings.Contains(string(out), "Permission denied") {
					t.Errorf("%s as another user: %v, %s", file, err, out)
				}
			}
		})
	}
}

// The backing dir lets nobody in: not to the socket, and not to what is
// downloaded with the owner's token.
func TestTheBackingDirLetsNobodyIn(t *testing.T) {
	hub := hubtest.New(t)
	hub.AddRepo(hubRepo("org/m", pattern{1, 70_000}))
	d := start(t, hubFlags(hub)...)
	checkReads(t, d.path("org/m/model.gguf"), pattern{1, 70_000}, "read")
	blob := d.completes("org/m", "m-Q4_K_M.gguf")
	if err := os.Chmod(d.cache, 0o755); err != nil { // as an operator may have made it
		t.Fatal(err)
	}
	for _, args := range [][]string{{"sh", "-c", "echo x >>" + blob}, {"touch", d.cache + "/x"}, {"touch", d.cache + "/meta/x"},
		{binary, "pin", "--cache", d.cache, "--hf-endpoint", "", "--no-discover", "org/m"}} {
		name := args[0]
		if name == binary {
			name = filepath.Join(tempDir(t, "bin"), "modelfs")
			copyExecutable(t, name, binary)
			if err := os.Chmod(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := asNobody(name, args[1:]...).CombinedOutput(); err == nil || !strings.Contains(strings.ToLower(string(out)), "permission denied") {
			t.Errorf("%q as another user: %v, %s", args, err, out)
		}
	}
}

// Numbers and the status page are this machine's own unless another address is
// named; then the log warns.
func TestWhoMayReadTheNumbers(t *testing.T) {
	for listen, warned := range map[string]bool{":0": false, "localhost:0": false, "0.0.0.0:0": true} {
		d := start(t, "--hf-endpoint", "", "--listen", listen)
		d.logged("serving metrics", "address=")
		if got := strings.Contains(d.stderr.String(), "level=WARN msg=\"metrics and the status page"); got != warned {
			t.Errorf("--listen %s: warned: %v", listen, got)
		}
		open := false
		for _, addr := range listening(t, descendants(d.cmd.Process.Pid)) {
			open = open || !addr.IsLoopback()
		}
		if open != warned {
			t.Errorf("--listen %s listens to everybody: %v", listen, open)
		}
		d.stop()
	}
}

// listening are the addresses at which some processes take TCP connections.
func listening(t testing.TB, pids []int) []net.IP {
	t.Helper()
	inodes := map[string]bool{}
	for _, pid := range pids {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			to, _ := os.Readlink(fd)
			inodes[to] = true
		}
	}
	var found []net.IP
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for line := range strings.Lines(readFile(t, table)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == "0A" && inodes["socket:["+f[9]+"]"] {
				found = append(found, procIP(t, f[1]))
			}
		}
	}
	if len(found) == 0 {
		t.Error("nothing listens")
	}
	return found
}

// procIP parses an address of /proc/net/tcp: 32-bit words in the machine's
// (little) endianness.
func procIP(t testing.TB, text string) net.IP {
	t.Helper()
	hex, _, _ := strings.Cut(text, ":")
	var raw []byte
	if _, err := fmt.Sscanf(hex, "%x", &raw); err != nil || len(raw)%4 != 0 {
		t.Fatalf("%q: %v", text, err)
	}
	ip := make(net.IP, len(raw))
	for i := range raw {
		ip[i] = raw[i/4*4+3-i%4]
	}
	return ip
}

// nobodyScript runs modelfs as a user without rights, with a /dev/fuse and a
// fuse.conf of its own, in a mount namespace of its own. $1 is a directory of that
// user's with "modelfs", a "tree" and the mount point "mnt"; $2 the
// command of the engine; $3 the line of fuse.conf; the rest are flags.
const nobodyScript = `set -e
dir=$1 engine=$2 line=$3; shift 3
mknod "$dir/fuse" c 10 229; chmod 666 "$dir/fuse"; mount --bind "$dir/fuse" /dev/fuse
echo "$line" >"$dir/fuse.conf"; [ -e /etc/fuse.conf ] || : >/etc/fuse.conf; mount --bind "$dir/fuse.conf" /etc/fuse.conf
nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"
$nobody "$dir/modelfs" doctor "$@" "$dir/mnt" >"$dir/doctor" && echo "doctor: ready" || { echo "doctor: not ready"; cat "$dir/doctor"; }
grep -A1 -e '^warning *rights' -e '^warning *passthrough' -e '^ok *mounting' "$dir/doctor"
mkfifo "$dir/ready"
$nobody "$dir/modelfs" mount "$@" "$dir/mnt" >"$dir/ready" & daemon=$!
read -r line <"$dir/ready" || { wait $daemon || echo "ended with $?"; exit 0; }
echo "daemon: $line"
grep " $dir/mnt " /proc/self/mountinfo
cat "$dir/mnt/here/model.gguf" >/dev/null && echo "root: may read" || echo "root: may not read"
code=0; $nobody "$engine" || code=$?
kill -TERM $daemon
wait $daemon || { echo "the daemon ended with $?"; exit 1; }
! grep " $dir/mnt " /proc/self/mountinfo
exit $code
`

// Without root everything works through fusermount3, and doctor says what is
// lost.
func TestNotRoot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, conf, flag string
		says             []string
	}{
		{"alone", "", "--allow-other=false", []string{"daemon: mounted ", "root: may not read", "engine: uid 65534, all right", "doctor: ready",
			"warning  rights", "not root: fusermount3 mounts", "warning  passthrough", "ok       mounting", "nosuid,nodev"}},
		{"with others", "user_allow_other", "--allow-other", []string{"daemon: mounted ", "root: may read", "engine: uid 65534, all right", "allow_other"}},
		{"with others, refused", "", "--allow-other", []string{"user_allow_other in /etc/fuse.conf", "ended with 3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tempDir(t, "nobody")
			copyExecutable(t, filepath.Join(dir, "modelfs"), binary)
			writeFile(t, filepath.Join(dir, "tree/here/model.gguf"), pattern{1, 1 << 20}.bytes())
			for _, d := range []string{"mnt", "cache"} {
				if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			for _, d := range []string{"", "mnt", "cache"} {
				if err := os.Chown(filepath.Join(dir, d), nobody, nobody); err != nil {
					t.Fatal(err)
				}
			}
			hub := hubtest.New(t)
			cold := pattern{13, 8<<20 + 1}
			hub.AddRepo(hubtest.Repo{ID: "org/m", Files: []hubtest.File{{Path: "m-Q4_K_M.gguf", Content: cold.content(), LFS: true}}})
			engine := engineScript(t, dir, filepath.Join(dir, "mnt"), cold)
			args := append([]string{"-m", "--propagation", "private", "sh", "-c", nobodyScript, "-", dir, engine, c.conf, c.flag,
				"--local", filepath.Join(dir, "tree"), "--cache", filepath.Join(dir, "cache"), "--log-format", "text"}, hubFlags(hub)...)
			cmd := command("unshare", args...)
			cmd.Env = append(cleanEnv(t), "HF_TOKEN_PATH="+filepath.Join(dir, "no-token"), "HOME="+dir)
			b := inBackground(t, cmd)
			if err := b.ends(t, "the script", time.Minute); err != nil {
				t.Error(err)
			}
			if !containsAll(b.out.String(), c.says) {
				t.Errorf("not all of %q in\n%s", c.says, b.out)
			}
		})
	}
}

// Root of a container that is not root of the machine reads what the mount
// shows and changes nothing: not a file, not the mount, and what it sees of
// one model's directory shows nothing beside it.
func TestAContainersRoot(t *testing.T) {
	tree := writeTree(t, map[string][]byte{"org/m/config.json": []byte("{}"), "org/m/model.safetensors": []byte("weights"), "org/other/config.json": []byte("{}")})
	d := start(t, "--hf-endpoint", "", "--local", tree)
	const script = `id -u
mount -t tmpfs box /mnt; mkdir /mnt/model; mount --rbind "$1/org/m" /mnt/model
cat /mnt/model/model.safetensors; echo
mount -o remount,bind,rw /mnt/model 2>/dev/null && echo "remounted"
mount -o remount,bind,suid,dev /mnt/model 2>/dev/null && echo "remounted with rights"
touch /mnt/model/new 2>/dev/null && echo "written"
rm -f /mnt/model/config.json 2>/dev/null && echo "removed"
ls -A /mnt/model/.. /mnt/model
head -c 20 /mnt/model/.modelfs/status.json >/dev/null && echo "status"
head -c 20 /mnt/model/.modelfs/explain.json >/dev/null && echo "explained"
ls /mnt/model/.modelfs/explain /mnt/model/.modelfs/all 2>/dev/null && echo "all models"
echo end`
	out, err := asNobody("unshare", "-Urm", "sh", "-c", script, "-", d.mount).CombinedOutput()
	if want := "0\nweights\n/mnt/model:\nconfig.json\nmodel.safetensors\n\n/mnt/model/..:\nmodel\nstatus\nexplained\nend\n"; err != nil || string(out) != want {
		t.Errorf("%v, %q, want %q", err, out, want)
	}
}
