// Command bench answers: how fast is modelfs, beside what would have done the
// same work without it? It starts a scripted Hub on the loopback interface,
// mounts the real binary in a directory of its own, reads through the mount and
// prints one line a case: what modelfs did, what the reference did in the same
// run, their ratio, the bytes that the origin sent for each byte that was
// asked, and what was promised.
//
// Invariants:
//
//  1. The Hub, the mount and each reader are processes of their own: what one
//     of them costs is not hidden in another.
//  2. A case and its reference alternate within one run; a ratio is of two
//     measurements that were taken one after the other.
//  3. Every cold measurement has a new mount, a new backing dir and dropped
//     page caches. Nothing is left behind.
//  4. A number is the median of all runs, memory the highest of all.
//
// It needs root, /dev/fuse, aria2c, curl and about 14 GiB of disk. What each
// number means is in docs/performance.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"

	"golang.org/x/sys/unix"
)

// Environment variables that make this binary one of its own helpers.
const (
	hubRole    = "MODELFS_BENCH_HUB"
	readerRole = "MODELFS_BENCH_READ"
)

func main() {
	switch {
	case os.Getenv(hubRole) != "":
		os.Exit(serveHub(os.Getenv(hubRole)))
	case os.Getenv(readerRole) != "":
		os.Exit(runReader(os.Getenv(readerRole)))
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	binary string
	dir    string
	runs   int
	only   *regexp.Regexp
	large  int64 // bytes
	small  int64 // bytes
}

func parse() (options, error) {
	var o options
	only := flag.String("only", "", "run the cases whose name matches this regular expression")
	flag.StringVar(&o.binary, "modelfs", "./modelfs", "the binary to measure")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where the backing dirs are, on the disk to measure")
	flag.IntVar(&o.runs, "runs", 5, "measure each case so often")
	large := flag.Int64("large", 4096, "size of the large file, in MiB")
	small := flag.Int64("small", 1024, "size of the small file, in MiB")
	flag.Parse()
	o.large, o.small = *large<<20, *small<<20
	var err error
	o.only, err = regexp.Compile(*only)
	if err == nil && (o.runs < 1 || o.large < 64<<20 || o.small < 64<<20) {
		err = fmt.Errorf("at least one run, and files of 64 MiB")
	}
	return o, err
}

func run(ctx context.Context) (err error) {
	o, err := parse()
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	printMachine(os.Stdout, o)
	short := 0
	for _, c := range cases() {
		if !o.only.MatchString(c.name) {
			continue
		}
		r, err := b.measure(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if !r.ok {
			short++
		}
		printRow(os.Stdout, c, r)
	}
	printMemory(os.Stdout, b.peak)
	if b.peak > mostMemory {
		short++
	}
	if short > 0 {
		return fmt.Errorf("%d promises were not kept", short)
	}
	return nil
}
