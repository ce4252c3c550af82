package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

const (
	demoRepo  = "demo/tiny-GGUF"
	demoFile  = "tiny-F32.gguf"
	demoLocal = "hello"
	demoRows  = 16 << 10 // of 4 KiB: a file of 64 MiB
	demoRate  = 24 << 20 // bytes a second and connection, so that there is something to watch
	demoLimit = 25 * time.Second

	// demoPatience is for the check of 64 MiB against their hash.
	demoPatience = 5 * time.Second
)

func demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show everything on this machine, without a network",
		Long: `Show everything on this machine, without a network: starts a Hub of its own on
the loopback interface with a generated model, mounts it in a temporary
directory, lists it, reads it while it is being downloaded and again when it is
here, asks for a name that nobody has, unmounts and removes all of it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signal.Ignore(unix.SIGPIPE) // whoever reads may go away; the mount has to
			ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, demoLimit)
			defer cancel()
			return runDemo(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// demo is one run: a Hub, a directory with a local tree, a backing dir and a
// mount point, and the modelfs that serves it.
type demo struct {
	out    io.Writer
	dir    string
	hub    *hubtest.Hub
	gguf   []byte // the Hub's model
	served *child
}

func runDemo(ctx context.Context, out, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "modelfs-demo.")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{out: out, dir: dir, gguf: demoGGUF(demoRows)}
	if err := d.prepare(); err != nil {
		return fmt.Errorf("preparing the demo: %w", err)
	}
	defer d.hub.Close()
	d.served, err = startChild(ctx, stderr, d.mountArgs(), d.path("models"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.served.stop()) }()
	d.say("mount", "modelfs mount %s (a temporary directory)", d.path("models"))
	for _, step := range []func(context.Context) error{d.list, d.readCold, d.readWarm, d.readLocal, d.missing, d.unmount} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("the demo was stopped: %w", err)
			}
			return err
		}
	}
	return nil
}

// prepare makes the directories, a local model of 1 MiB, and the Hub.
func (d *demo) prepare() error {
	for _, dir := range []string{"models", "local/" + demoLocal, "cache"} {
		if err := os.MkdirAll(d.path(dir), 0o755); err != nil { //nolint:gosec // a mount point for everyone
			return err
		}
	}
	if err := os.WriteFile(d.path("local", demoLocal, "model.gguf"), demoGGUF(256), 0o600); err != nil {
		return err
	}
	hub, err := hubtest.Start()
	if err != nil {
		return err
	}
	d.hub = hub
	hub.AddRepo(hubtest.Repo{ID: demoRepo, Files: []hubtest.File{
		{Path: "README.md", Content: hubtest.Text("A model of random numbers.\n")},
		{Path: demoFile, Content: hubtest.Bytes(d.gguf), LFS: true},
	}})
	hub.SetConnRate(demoRate, hubtest.AtCDN)
	d.say("origin", "a Hub of the demo's own at %s, its CDN at %s; nothing leaves this machine", hub.URL(), hub.CDN())
	return nil
}

func (d *demo) mountArgs() []string {
	return []string{"mount", "--local", d.path("local"), "--cache", d.path("cache"), "--hf-endpoint", d.hub.URL(), "--no-discover",
		"--allow", d.hub.CDN() + "/*", "--log-level", "warn", "--log-format", "text", d.path("models")}
}

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.dir}, parts...)...)
}

func (d *demo) say(step, format string, args ...any) {
	fmt.Fprintf(d.out, "%-10s %s\n", step, fmt.Sprintf(format, args...))
}

// list shows the Hub's model before any byte of it is here.
func (d *demo) list(context.Context) error {
	began := time.Now()
	entries, err := os.ReadDir(d.path("models", demoRepo))
	if err != nil {
		return err
	}
	d.say("ls -l", "%s: %d entries after %v, no byte of them downloaded", demoRepo, len(entries), since(began))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		what := humanize.IBytes(uint64(info.Size())) //nolint:gosec // not negative
		if info.Mode()&os.ModeSymlink != 0 {
			target, err := os.Readlink(d.path("models", demoRepo, e.Name()))
			if err != nil {
				return err
			}
			what = "-> " + target
		}
		d.say("", "  %-16s %s", e.Name(), what)
	}
	if n := d.hub.BytesSent(demoRepo + "/" + demoFile); n != 0 {
		return fmt.Errorf("listing downloaded %d bytes of %s", n, demoFile)
	}
	return nil
}

// readCold reads the model through the name that every engine can use.
func (d *demo) readCold(context.Context) error {
	began := time.Now()
	bar := progress{out: d.out, label: "cold read", total: int64(len(d.gguf)), began: began, live: isTerminal(d.out)}
	if err := d.read(d.path("models", demoRepo, "model.gguf"), d.gguf, bar.at); err != nil {
		return err
	}
	took := time.Since(began)
	times := float64(d.hub.BytesSent(demoRepo+"/"+demoFile)) / float64(len(d.gguf))
	status, err := readStatus(d.path("models"))
	if err != nil {
		return err
	}
	why := ""
	if status.Fetch.Again > 0 && times >= 1.005 {
		why = " (the rest was late and asked for twice)"
	}
	d.say("", "%s, identical to the original; first byte after %v; the origin sent %.2f bytes for each byte of the file%s",
		speed(len(d.gguf), took), bar.first.Round(time.Millisecond), times, why)
	return nil
}

// readWarm waits until the download has been verified, and then reads natively.
func (d *demo) readWarm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for {
		done, err := d.readNatively("warm read", d.path("models", demoRepo, "model.gguf"), d.gguf)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			d.say("warm read", "through modelfs: the kernel does not read files itself here (that needs Linux 6.9 and CAP_SYS_ADMIN)")
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *demo) readLocal(context.Context) error {
	path := d.path("models", demoLocal, "model.gguf")
	done, err := d.readNatively("local", path, demoGGUF(256))
	if err == nil && !done {
		d.say("local", "%s was read in place, through modelfs", path)
	}
	return err
}

// readNatively reads a file and says whether it did so without modelfs.
func (d *demo) readNatively(label, path string, want []byte) (bool, error) {
	before, err := readStatus(d.path("models"))
	if err != nil {
		return false, err
	}
	began := time.Now()
	if err := d.read(path, want, func(int64) {}); err != nil {
		return false, err
	}
	took := time.Since(began)
	after, err := readStatus(d.path("models"))
	if err != nil || after.Mount.Reads != before.Mount.Reads+1 { // the one that asked for the status
		return false, err
	}
	d.say(label, "%s; read requests that reached modelfs: 0 (the kernel reads the file itself)", speed(len(want), took))
	return true, nil
}

// read reads a whole file, reports how far it is, and compares it.
func (d *demo) read(path string, want []byte, report func(int64)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for n := 0; ; {
		got, err := f.Read(buf)
		if !bytes.Equal(buf[:got], want[n:min(n+got, len(want))]) {
			return fmt.Errorf("%s: the %d bytes from byte %d differ from the original's", path, got, n)
		}
		n += got
		report(int64(n))
		switch {
		case errors.Is(err, io.EOF) && n == len(want):
			return nil
		case err != nil:
			return fmt.Errorf("%s: after %d of %d bytes: %w", path, n, len(want), err)
		}
	}
}

func (d *demo) missing(ctx context.Context) error {
	const name = "demo/no-such-model"
	began := time.Now()
	_, err := os.Stat(d.path("models", name))
	took := since(began)
	if !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: %w, where ENOENT was due", name, err)
	}
	d.say("missing", "%s: %v after %v; modelfs explain says why:", name, unix.ENOENT, took)
	text, err := explainMounted(ctx, d.path("models"), name)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(bytes.TrimSpace(text)) {
		d.say("", "  %s", bytes.TrimRight(line, "\n"))
	}
	return nil
}

func (d *demo) unmount(context.Context) error {
	began := time.Now()
	if err := d.served.stop(); err != nil {
		return err
	}
	d.say("unmount", "took %v; %s is removed", since(began), d.dir)
	return nil
}

// progress shows how far a read is: in place on a terminal, else a line every
// 10 %.
type progress struct {
	out   io.Writer
	label string
	total int64
	began time.Time
	live  bool
	first time.Duration // until the first byte
	shown int64         // percent
}

func (p *progress) at(n int64) {
	if p.first == 0 {
		p.first = time.Since(p.began)
	}
	percent := n * 100 / p.total
	if percent == p.shown || !p.live && percent/10 == p.shown/10 {
		return
	}
	p.shown = percent
	line := fmt.Sprintf("%-10s %3d %%  %s", p.label, percent, speed(int(n), time.Since(p.began)))
	switch {
	case !p.live:
		fmt.Fprintln(p.out, line)
	case n == p.total:
		fmt.Fprintf(p.out, "\r\x1b[K%s\n", line)
	default:
		fmt.Fprintf(p.out, "\r\x1b[K%s", line)
	}
}

func speed(n int, took time.Duration) string {
	rate := uint64(float64(n) / max(took.Seconds(), 1e-6))
	return fmt.Sprintf("%s in %v, %s/s", humanize.IBytes(uint64(n)), took.Round(time.Millisecond), humanize.IBytes(rate)) //nolint:gosec // not negative
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Microsecond) }
