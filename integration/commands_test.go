package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// quantsRepo has two quantisations and a file beside them.
func quantsRepo(hub *hubtest.Hub, id string, q4, q8 pattern) {
	hub.AddRepo(hubtest.Repo{ID: id, Files: []hubtest.File{
		{Path: "README.md", Content: hubtest.Text("about it\n")},
		{Path: "m-Q4_K_M.gguf", Content: q4.content(), LFS: true},
		{Path: "m-Q8_0.gguf", Content: q8.content(), LFS: true},
	}})
}

// An operator is a command line with the flags of one backing dir and Hub.
type operator struct {
	t     testing.TB
	flags []string
}

func operatorOf(t testing.TB, cache string, hub *hubtest.Hub) operator {
	return operator{t, append(hubFlags(hub), "--cache", cache, "--no-discover")}
}

// does runs a command that must exit with code, and returns what it said.
func (o operator) does(code int, command string, args ...string) (stdout, stderr string) {
	o.t.Helper()
	out, errs, got := modelfs(o.t, append(append([]string{command}, o.flags...), args...)...)
	if got != code {
		o.t.Errorf("%s %v exited with %d, want %d\n%s%s", command, args, got, code, out, errs)
	}
	return out, errs
}

// models is what ls --json says, by name.
func (o operator) models() map[string]map[string]any {
	o.t.Helper()
	out, _ := o.does(0, "ls", "--json", "-a")
	var list []map[string]any
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		o.t.Fatalf("ls --json: %v\n%s", err, out)
	}
	found := make(map[string]map[string]any)
	for _, m := range list {
		found[m["name"].(string)] = m
	}
	return found
}

func wantIn(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s: there is no %q in:\n%s", what, p, text)
		}
	}
}

// With a daemon or without, pull fetches what the name stands for, once, and
// what it fetched is read without the Hub.
func TestPullFetchesWhatTheNameStandsFor(t *testing.T) {
	for _, through := range []string{"a daemon", "nobody"} {
		t.Run(through, func(t *testing.T) {
			hub := hubtest.New(t)
			q4, q8 := pattern{1, 3<<20 + 7}, pattern{2, 5<<20 + 1}
			quantsRepo(hub, "org/m", q4, q8)
			cache := tempDir(t, "cache")
			o := operatorOf(t, cache, hub)
			mnt := tempDir(t, "mnt")
			var d *daemon
			if through == "a daemon" {
				d = startOn(t, mnt, cache, hubFlags(hub)...)
			}
			out, errs := o.does(0, "pull", "org/m:Q4_K_M")
			wantIn(t, "pull", out, "org/m:Q4_K_M: 2 files", "all here", "hub:")
			wantIn(t, "pull's progress", errs, "m-Q4_K_M.gguf: 100 %")
			if n := hub.BytesSent("org/m/m-Q8_0.gguf"); n != 0 {
				t.Errorf("%d bytes of another quantisation were fetched", n)
			}
			if m := o.models()["org/m"]; m == nil || m["here"].(float64) < float64(q4.size) || m["in_place"] != false {
				t.Errorf("ls shows %v", m)
			}
			o.does(0, "pull", "org/m")
			o.does(0, "pull", "org/m")
			sentOnce(t, hub, "org/m/m-Q4_K_M.gguf", q4.size)
			sentOnce(t, hub, "org/m/m-Q8_0.gguf", q8.size)
			hub.Refuse()
			if d == nil {
				d = startOn(t, mnt, cache, hubFlags(hub)...)
			}
			checkReads(t, d.path("org/m/m-Q8_0.gguf"), q8)
			checkReads(t, d.path("org/m/model.gguf"), q4)
		})
	}
}

func TestPullsAndReadersShareOneDownload(t *testing.T) {
	hub := hubtest.New(t)
	want := pattern{3, 64 << 20}
	oneFile(hub, "org/m", want)
	hub.SetConnRate(20<<20, hubtest.AtCDN)
	d := start(t, hubFlags(hub)...)
	o := operatorOf(t, d.cache, hub)
	var pulls []*background
	for range 3 {
		cmd := command(binary, append(append([]string{"pull"}, o.flags...), "org/m")...)
		cmd.Env = cleanEnv(t)
		pulls = append(pulls, inBackground(t, cmd))
	}
	checkReads(t, d.path("org/m/model.gguf"), want)
	for _, p := range pulls {
		if err := p.ends(t, "a pull", time.Minute); err != nil {
			t.Errorf("%v: %s", err, p.out)
		}
	}
	sentOnce(t, hub, "org/m/m.gguf", want.size)
}

// Ctrl-C ends the command at once, through a daemon or not, and what was
// received is not fetched again.
func TestAnInterruptedPullIsResumed(t *testing.T) {
	t.Parallel()
	for _, through := range []string{"a daemon", "nobody"} {
		t.Run(through, func(t *testing.T) {
			hub := hubtest.New(t)
			want := pattern{4, 96 << 20}
			oneFile(hub, "org/m", want)
			hub.SetConnRate(4<<20, hubtest.AtCDN)
			cache := tempDir(t, "cache")
			if through == "a daemon" {
				startOn(t, tempDir(t, "mnt"), cache, append(hubFlags(hub), "--fill", "touched")...)
			}
			o := operatorOf(t, cache, hub)
			cmd := command(binary, append(append([]string{"pull"}, o.flags...), "org/m")...)
			cmd.Env = cleanEnv(t)
			p := inBackground(t, cmd)
			eventually(t, "a tenth is shown", 30*time.Second, func() bool { return strings.Contains(p.out.String(), " %") })
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			_ = p.ends(t, "the pull", 10*time.Second)
			if code := cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("the interrupted pull exited with %d", code)
			}
			wantIn(t, "the interrupted pull", p.out.String(), "what was received is kept", "goes on from there")
			if strings.Contains(p.out.String(), "context canceled") {
				t.Errorf("the interrupted pull tells people of contexts: %s", p.out.String())
			}
			hub.SetConnRate(0, hubtest.AtCDN)
			o.does(0, "pull", "org/m")
			if sent := hub.BytesSent("org/m/m.gguf"); sent > want.size+32<<20 {
				t.Errorf("the origin sent %d of %d bytes", sent, want.size)
			}
		})
	}
}

// On a terminal there is a bar, with speed and time left, and a line at the end.
func TestATerminalShowsBars(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	oneFile(hub, "org/m", pattern{11, 80 << 20})
	hub.SetConnRate(8<<20, hubtest.AtCDN)
	o := operatorOf(t, tempDir(t, "cache"), hub)
	words := append(append([]string{binary, "pull"}, o.flags...), "org/m")
	cmd := command("script", "-qec", "stty cols 120 rows 40; '"+strings.Join(words, "' '")+"'", "/dev/null")
	cmd.Env = append(cleanEnv(t), "TERM=xterm")
	p := inBackground(t, cmd)
	if err := p.ends(t, "the pull", time.Minute); err != nil {
		t.Errorf("%v: %s", err, p.out)
	}
	wantIn(t, "the terminal", p.out.String(), "m.gguf", "=>", " % ", " of 80 MiB", "MiB/s", " left", "80 MiB, all here")
}

func TestPullSaysWhyItFailed(t *testing.T) {
	hub := hubtest.New(t)
	oneFile(hub, "org/good", pattern{1, 100_000})
	hub.AddRepo(hubtest.Repo{ID: "org/bad", Files: []hubtest.File{{Path: "m.gguf", Content: pattern{2, 200_000}.content(), LFS: true}}})
	hub.Fault(hubtest.Filter{Host: hubtest.AtCDN, Path: "*bad/m.gguf"}, hubtest.Always(), hubtest.CorruptByte(1000))
	hub.AddRepo(hubtest.Repo{ID: "org/secret", Gated: "manual", Files: []hubtest.File{{Path: "m.gguf", Content: hubtest.Text("x"), LFS: true}}})
	o := operatorOf(t, tempDir(t, "cache"), hub)
	out, errs := o.does(1, "pull", "org/none", "org/bad", "org/secret", "org/good")
	wantIn(t, "stdout", out, "org/good: 1 file")
	wantIn(t, "stderr", errs, "org/none", "every source says", "org/bad", "m.gguf", "org/secret", "3 of 4 names failed")
	if strings.Contains(out, "bad") {
		t.Errorf("a pull that failed claims: %s", out)
	}
}

// A name keeps its commit until --update; who has the old file open keeps it.
func TestPullUpdateFetchesWhatChanged(t *testing.T) {
	hub := hubtest.New(t)
	before, after, same := pattern{5, 2 << 20}, pattern{6, 3 << 20}, pattern{7, 4 << 20}
	files := func(p pattern) []hubtest.File {
		return []hubtest.File{{Path: "a.safetensors", Content: p.content(), LFS: true}, {Path: "b.safetensors", Content: same.content(), LFS: true}}
	}
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: files(before)})
	d := start(t, hubFlags(hub)...)
	o := operatorOf(t, d.cache, hub)
	o.does(0, "pull", "org/m")
	old := openFile(t, d.path("org/m/a.safetensors"))
	hub.Push("org/m", files(after)...)
	o.does(0, "pull", "org/m")
	checkReads(t, d.path("org/m/a.safetensors"), before)
	o.does(0, "pull", "--update", "org/m")
	eventually(t, "the new file is shown", 10*time.Second, func() bool {
		st, err := os.Stat(d.path("org/m/a.safetensors"))
		return err == nil && st.Size() == after.size
	})
	checkReads(t, d.path("org/m/a.safetensors"), after)
	if err := checkSequential(old, before.content()); err != nil {
		t.Errorf("the old descriptor: %v", err)
	}
	sentOnce(t, hub, "org/m/b.safetensors", same.size)
}

func TestPinnedAndOpenFilesAreNotRemoved(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	q4, q8 := pattern{8, 2 << 20}, pattern{9, 1 << 20}
	quantsRepo(hub, "org/m", q4, q8)
	d := start(t, hubFlags(hub)...)
	o := operatorOf(t, d.cache, hub)
	o.does(0, "pull", "org/m")
	if len(stored(t, d.cache)) == 0 {
		t.Fatal("the pull left nothing")
	}

	o.does(0, "pin", "org/m:Q8_0")
	_, errs := o.does(1, "rm", "org/m:Q8_0")
	wantIn(t, "rm of a pinned file", errs, "pinned: m-Q8_0.gguf", "modelfs unpin")
	if m := o.models()["org/m"]; m["pinned"] != true {
		t.Errorf("ls shows no pin: %v", m)
	}
	o.does(0, "unpin", "org/m:Q8_0")

	held := openFile(t, d.path("org/m/m-Q4_K_M.gguf"))
	out, errs := o.does(1, "rm", "org/m")
	wantIn(t, "rm of an open file", errs, "still open or being downloaded: m-Q4_K_M.gguf")
	wantIn(t, "rm beside an open file", out, "removed 2 files")
	if err := checkSequential(held, q4.content()); err != nil {
		t.Errorf("the open file: %v", err)
	}
	held.Close()
	eventually(t, "the file that was closed is removed", 10*time.Second, func() bool {
		_, _, code := modelfs(t, append(append([]string{"rm"}, o.flags...), "org/m")...)
		return code == 0
	})
	if left := stored(t, d.cache); len(left) > 0 {
		t.Errorf("after rm there is %v", left)
	}
	checkReads(t, d.path("org/m/m-Q8_0.gguf"), q8) // fetched again
}

// status shows a download while it runs, and ls how far it is.
func TestStatusAndListingWhileDownloading(t *testing.T) {
	hub := hubtest.New(t)
	want := pattern{10, 64 << 20}
	oneFile(hub, "org/m", want)
	hub.SetConnRate(2<<20, hubtest.AtCDN)
	d := start(t, hubFlags(hub)...)
	o := operatorOf(t, d.cache, hub)
	cmd := command(binary, append(append([]string{"pull"}, o.flags...), "org/m")...)
	cmd.Env = cleanEnv(t)
	p := inBackground(t, cmd)
	eventually(t, "status shows the download with its speed", 30*time.Second, func() bool {
		out, _ := o.does(0, "status")
		return strings.Contains(out, "org/m/m.gguf  filling") && strings.Contains(out, "/s ")
	})
	if m := o.models()["org/m"]; m["here"].(float64) <= 0 || m["here"].(float64) >= float64(want.size) {
		t.Errorf("ls shows %v", m)
	}
	out, _ := o.does(0, "status", "--json")
	if !json.Valid([]byte(out)) {
		t.Errorf("status --json is %q", out)
	}
	wantIn(t, "status --json", out, `"pid"`, d.mount)
	hub.SetConnRate(0, hubtest.AtCDN)
	if err := p.ends(t, "the pull", time.Minute); err != nil {
		t.Errorf("%v: %s", err, p.out)
	}
}

// The socket is its owner's alone, comes back after a crash, and goes with the
// daemon.
func TestTheControlSocketIsTheOwnersAlone(t *testing.T) {
	hub := hubtest.New(t)
	d := start(t, hubFlags(hub)...)
	socket := filepath.Join(d.cache, "control.sock")
	check := func() {
		t.Helper()
		st, err := os.Stat(socket)
		if err != nil || st.Mode().Perm() != 0o600 || st.Mode().Type() != os.ModeSocket {
			t.Errorf("%v, %v", st, err)
		}
	}
	check()
	d.kill()
	o := operatorOf(t, d.cache, hub)
	eventually(t, "the killed daemon's lock is free, and a command goes on alone", 10*time.Second, func() bool {
		_, _, code := modelfs(t, append([]string{"ls"}, o.flags...)...)
		return code == 0
	})
	_ = unix.Unmount(d.mount, unix.MNT_DETACH)
	again := startOn(t, d.mount, d.cache, hubFlags(hub)...)
	check()
	o.does(0, "ls")
	again.stop()
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}
