package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// mostMemory is what the server may have resident at any time.
const mostMemory = 128 << 20

// bench is one run of the benchmark.
type bench struct {
	o        options
	dir      string // everything that it makes on the disk
	hub      *hub
	peak     int64 // the server's highest resident memory, in bytes
	casePeak int64 // the same of the case that is being measured
	turn     int   // the number of the run
}

func newBench(ctx context.Context, o options) (*bench, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("root is needed, to mount and to drop caches")
	}
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return nil, err
	}
	o.binary = binary
	dir, err := os.MkdirTemp(o.dir, "modelfs-bench-")
	if err != nil {
		return nil, err
	}
	h, err := startHub(ctx, hubSpec{o.large, o.small})
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return &bench{o: o, dir: dir, hub: h}, nil
}

func (b *bench) close() {
	b.hub.close()
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// A sample is one measurement of a case.
type sample struct {
	got float64 // of modelfs, in the case's unit
	ref float64 // of the reference, likewise; 0: there is none
	// fetched is the bytes that the origin sent for each byte that was asked; 0: not counted.
	fetched float64
}

// A kase is a line of the table.
type kase struct {
	name      string
	unit      string // "MiB/s", "ms", ...
	reference string // what ref measures
	promise   string
	measure   func(context.Context, *bench) (sample, error)
	kept      func(result) bool
}

// A result is the medians of a case's samples.
type result struct {
	sample
	ratio float64 // the median of got/ref
	peak  int64
	ok    bool
}

// measure takes a case's samples.
func (b *bench) measure(ctx context.Context, c kase) (result, error) {
	b.casePeak = 0
	var got, ref, ratio, fetched []float64
	for b.turn = range b.o.runs {
		s, err := c.measure(ctx, b)
		if err != nil {
			return result{}, err
		}
		got, ref, fetched = append(got, s.got), append(ref, s.ref), append(fetched, s.fetched)
		if s.ref > 0 {
			ratio = append(ratio, s.got/s.ref)
		}
	}
	r := result{sample: sample{median(got), median(ref), median(fetched)}, ratio: median(ratio), peak: b.casePeak}
	r.ok = c.kept(r)
	return r, nil
}

// inTurn does both, and another one of them first in each run: what comes
// second finds a disk that has just been written to.
func (b *bench) inTurn(one, two func() error) error {
	if b.turn%2 == 1 {
		one, two = two, one
	}
	if err := one(); err != nil {
		return err
	}
	return two()
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
