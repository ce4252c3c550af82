package integration

import (
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

// The image is one static binary and certificates: the Dockerfile's last
// stage starts from nothing and copies two files.
func TestTheImageHoldsNothingElse(t *testing.T) {
	stages := strings.Split(readFile(t, "../Dockerfile"), "\nFROM ")
	last := stages[len(stages)-1]
	if !strings.HasPrefix(last, "scratch\n") {
		t.Errorf("the last stage is not made from scratch: %s", last)
	}
	var copied []string
	for line := range strings.Lines(last) {
		switch f := strings.Fields(line); {
		case len(f) > 0 && f[0] == "COPY":
			copied = append(copied, f[len(f)-1])
		case len(f) > 0 && (f[0] == "ADD" || f[0] == "RUN"):
			t.Errorf("the last stage does %q", line)
		}
	}
	if strings.Join(copied, " ") != "/etc/ssl/certs/ca-certificates.crt /modelfs" {
		t.Errorf("the image holds %q", copied)
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// buildForImage runs the Dockerfile's own build command.
func buildForImage(t testing.TB, out string) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^RUN (.*go build.*) -o /modelfs (.*)$`).FindStringSubmatch(readFile(t, "../Dockerfile"))
	if m == nil {
		t.Fatal("the Dockerfile has no line that builds /modelfs")
	}
	cmd := command("sh", "-c", m[1]+` -o "$0" `+m[2], out)
	cmd.Dir = ".."
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", m[0], err, text)
	}
}

func wantStatic(t testing.TB, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("the image's binary is not static: it has %v", p.Type)
		}
	}
}

// containerScript runs modelfs as its container would, and then an engine in
// another: two mount namespaces, joined by a bind of the mount's parent that
// is shared on one side and a slave on the other. $1 is the image's root, $2
// the host's directory, $3 the command of the engine, the rest flags.
const containerScript = `set -e
root=$1 host=$2 engine=$3; shift 3
mount -t tmpfs host "$host"; mount --make-shared "$host"; mkdir "$host/models"
mkfifo "$root.ready"
unshare -m --propagation unchanged sh -ec '
	root=$1 host=$2; shift 2
	mount --bind "$host" "$root/run/modelfs"
	mount --bind /dev/fuse "$root/dev/fuse"
	mount -t proc proc "$root/proc"
	exec chroot "$root" /modelfs mount "$@" /run/modelfs/models
' - "$root" "$host" "$@" >"$root.ready" & daemon=$!
read -r line <"$root.ready"
echo "daemon: $line"
code=0
unshare -m --propagation slave sh -ec '
	mkdir -p "$3/run/modelfs"
	mount --rbind "$1" "$3/run/modelfs"
	mount --make-rslave "$3/run/modelfs"
	exec setpriv --reuid 65534 --regid 65534 --clear-groups "$2"
' - "$host" "$engine" "$root.engine" || code=$?
kill -TERM $daemon
wait $daemon || { echo "the daemon ended with $?"; exit 1; }
! grep " $host/models " /proc/self/mountinfo
exit $code
`

func TestInAContainer(t *testing.T) {
	dir := tempDir(t, "box")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	for _, d := range []string{"dev", "proc", "run/modelfs", "var/lib/modelfs", "etc/ssl/certs"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(root, "dev/fuse"), nil)
	writeFile(t, filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"), []byte(readFile(t, "/etc/ssl/certs/ca-certificates.crt")))
	writeFile(t, filepath.Join(root, "srv/models/here/model.gguf"), pattern{1, 1 << 20}.bytes())
	buildForImage(t, filepath.Join(root, "modelfs"))
	wantStatic(t, filepath.Join(root, "modelfs"))

	hub := hubtest.New(t)
	cold := pattern{13, 8<<20 + 1}
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: []hubtest.File{{Path: "m-Q4_K_M.gguf", Content: cold.content(), LFS: true}}})
	host := filepath.Join(dir, "host")
	if err := os.Mkdir(host, 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{"-m", "--propagation", "private", "sh", "-c", containerScript, "-", root, host, engineScript(t, dir, root+".engine/run/modelfs/models", cold)}
	cmd := command("unshare", append(append(args, "--local", "/srv/models", "--log-format", "text"), hubFlags(hub)...)...)
	cmd.Env = cleanEnv(t)
	b := inBackground(t, cmd)
	if err := b.ends(t, "the container", 30*time.Second); err != nil {
		t.Errorf("%v\n%s", err, b.out)
	}
	if !strings.Contains(b.out.String(), "daemon: mounted /run/modelfs/models\n") || !strings.Contains(b.out.String(), "engine: uid 65534, all right\n") {
		t.Errorf("%s", b.out)
	}
	sentOnce(t, hub, "org/m/m-Q4_K_M.gguf", cold.size)
}

// engineScript writes the engine's script: readers of two models, one after
// the other, with a copy of the helper that anybody may run.
func engineScript(t testing.TB, dir, mount string, cold pattern) string {
	t.Helper()
	self := filepath.Join(dir, "reader")
	copyExecutable(t, self, helper)
	text := "#!/bin/sh\nset -e\n"
	for path, want := range map[string]pattern{
		mount + "/here/model.gguf":         {1, 1 << 20},
		mount + "/org/m:Q4_K_M/model.gguf": cold,
	} {
		env := reader(path, want).Env
		text += fmt.Sprintf("env '%s' %s\n", env[len(env)-1], self)
	}
	text += "echo \"engine: uid $(id -u), all right\"\n"
	script := filepath.Join(dir, "engine.sh")
	writeExecutable(t, script, []byte(text))
	return script
}
