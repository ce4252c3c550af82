package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A file of the Hub, its size under the options, and its content.
type file struct {
	name string
	size func(options) int64
	seed uint64
}

var (
	large = file{"large.gguf", func(o options) int64 { return o.large }, 1}
	small = file{"small.gguf", func(o options) int64 { return o.small }, 2}
	other = file{"other.gguf", func(options) int64 { return otherSize }, 3}
)

func perSecond(bytes int64, seconds float64) float64 { return float64(bytes) / mib / seconds }

// read does one job on a file of a fresh mount, and says how many bytes the
// origin sent for it until the reader ended.
func (b *bench) read(ctx context.Context, j job, flags ...string) (o outcome, sent int64, err error) {
	m, err := b.fresh(ctx, flags...)
	if err != nil {
		return o, 0, err
	}
	defer func() { err = errors.Join(err, m.remove()) }()
	j.Path = m.path(j.Path)
	if o, err = j.do(ctx); err == nil {
		sent, err = b.hub.sent()
	}
	return o, sent, err
}

func (b *bench) behave(o order) error {
	_, err := b.hub.ask(o)
	return err
}

func coldRead(network order, f file) func(context.Context, *bench) (sample, error) {
	return coldAgainst(network, f, "aria2c", "-q", "-x8", "-s8", "--file-allocation=none", "-d", ".", "-o", "download")
}

// coldAgainst compares a cold read with another program's download of the file.
func coldAgainst(network order, f file, program string, args ...string) func(context.Context, *bench) (sample, error) {
	return func(ctx context.Context, b *bench) (s sample, err error) {
		if err := b.behave(network); err != nil {
			return s, err
		}
		err = b.inTurn(func() (err error) {
			s.ref, err = b.download(ctx, f, program, args...)
			return err
		}, func() error {
			o, sent, err := b.read(ctx, job{Path: f.name, Way: "read"})
			s.got, s.fetched = perSecond(o.Bytes, o.Seconds), float64(sent)/float64(f.size(b.o))
			return err
		})
		return s, err
	}
}

// download has another program fetch a file to the same disk, in MiB a second.
func (b *bench) download(ctx context.Context, f file, program string, args ...string) (float64, error) {
	if err := settle(b.dir); err != nil {
		return 0, err
	}
	target := filepath.Join(b.dir, "download")
	defer func() { _ = os.Remove(target) }()
	cmd := exec.CommandContext(ctx, program, append(args, b.hub.address(f.name))...)
	cmd.Dir = b.dir
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", program, err, out)
	}
	info, err := os.Stat(target)
	if err == nil && info.Size() != f.size(b.o) {
		err = fmt.Errorf("%s fetched %d bytes of %s", program, info.Size(), f.name)
	}
	return perSecond(f.size(b.o), took.Seconds()), err
}

func coldMapping(ctx context.Context, b *bench) (sample, error) {
	if err := b.behave(distant); err != nil {
		return sample{}, err
	}
	var ref, o outcome
	var sent int64
	err := b.inTurn(func() (err error) {
		ref, _, err = b.read(ctx, job{Path: large.name, Way: "read"})
		return err
	}, func() (err error) {
		o, sent, err = b.read(ctx, job{Path: large.name, Way: "map"})
		return err
	})
	return sample{perSecond(o.Bytes, o.Seconds), perSecond(ref.Bytes, ref.Seconds), float64(sent) / float64(o.Bytes)}, err
}

func firstByte(ctx context.Context, b *bench) (sample, error) {
	if err := b.behave(slow); err != nil {
		return sample{}, err
	}
	o, _, err := b.read(ctx, job{Path: large.name, Way: "pread", Piece: 1})
	return sample{got: o.Seconds * 1000}, err
}

// lastMiB reads the end of a file while another reader's fill is at full speed.
func lastMiB(ctx context.Context, b *bench) (s sample, err error) {
	if err := b.behave(distant); err != nil {
		return s, err
	}
	m, err := b.fresh(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, m.remove()) }()
	r, err := job{Path: m.path(large.name), Way: "read"}.start(ctx)
	if err != nil {
		return s, err
	}
	size := large.size(b.o)
	if _, err := b.hub.ask(order{Do: "await", Bytes: size / 4}); err != nil {
		return s, err
	}
	o, err := job{Path: m.path(large.name), Way: "pread", Off: size - mib}.do(ctx)
	_, waitErr := r.wait()
	return sample{got: o.Seconds * 1000}, errors.Join(err, waitErr)
}

// scatteredReads is how many MiB of the large file are read at random places: a
// part of it so small that it measures the requests and not the background.
const scatteredReads = 128

// moreThreads compares scattered reads by so many threads with those by less.
func moreThreads(fill string, threads, less int) func(context.Context, *bench) (sample, error) {
	return func(ctx context.Context, b *bench) (sample, error) {
		j := job{Path: large.name, Way: "random", Threads: less, Reads: scatteredReads}
		ref, _, err := b.scattered(ctx, j, fill)
		if err != nil {
			return sample{}, err
		}
		j.Threads = threads
		got, fetched, err := b.scattered(ctx, j, fill)
		return sample{got, ref, fetched}, err
	}
}

// scatteredSmall reads half as many MiB of the small file as it has at random
// places, or each of them once.
func scatteredSmall(way string, threads int) func(context.Context, *bench) (sample, error) {
	return func(ctx context.Context, b *bench) (sample, error) {
		reads := small.size(b.o) / mib
		if way == "random" {
			reads /= 2
		}
		got, fetched, err := b.scattered(ctx, job{Path: small.name, Way: way, Threads: threads, Reads: int(reads)}, "auto")
		return sample{got: got, fetched: fetched}, err
	}
}

func (b *bench) scattered(ctx context.Context, j job, fill string) (speed, fetched float64, err error) {
	if err := b.behave(distant); err != nil {
		return 0, 0, err
	}
	o, sent, err := b.read(ctx, j, "--fill", fill)
	if err != nil {
		return 0, 0, err
	}
	return perSecond(o.Bytes, o.Seconds), float64(sent) / float64(o.Bytes), nil
}
