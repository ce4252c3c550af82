package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/internal/hubtest"
)

// A job is what a reader's process does.
type job struct {
	Path    string
	Way     string // "read", "verify", "pread", "random", "shuffled", "map"
	Off     int64  // of pread
	Piece   int64  // bytes of one read; 0: 1 MiB
	Threads int    // of random and shuffled
	Reads   int    // of random and shuffled, all threads together
	Seed    uint64 // of random's places, or of the content to verify
}

// An outcome is what a reader's process reports.
type outcome struct {
	Seconds float64 // from before open to the last byte
	Bytes   int64
	End     int64 // in nanoseconds of Unix time
}

// ways are what a reader can do with a file; each returns the bytes that it read.
var ways = map[string]func(*os.File, job) (int64, error){
	"read": readAll, "verify": verifyAll, "pread": readOne, "random": readRandom, "shuffled": readShuffled, "map": readMapped,
}

// runReader is the life of a reader's process.
func runReader(text string) int {
	var j job
	err := json.Unmarshal([]byte(text), &j)
	if err == nil {
		err = j.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (j job) run() error {
	began := time.Now()
	f, err := os.Open(j.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if j.Piece == 0 {
		j.Piece = 1 << 20
	}
	n, err := ways[j.Way](f, j)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", j.Way, j.Path, err)
	}
	return json.NewEncoder(os.Stdout).Encode(outcome{time.Since(began).Seconds(), n, time.Now().UnixNano()})
}

func readAll(f *os.File, j job) (int64, error) {
	buf := make([]byte, j.Piece)
	for total := int64(0); ; {
		n, err := f.Read(buf)
		total += int64(n)
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func verifyAll(f *os.File, j job) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	got, want := sha256.New(), hubtest.Pattern(j.Seed, info.Size()).SHA256()
	n, err := io.Copy(got, f)
	if sum := fmt.Sprintf("%x", got.Sum(nil)); err == nil && sum != want {
		err = fmt.Errorf("wrong bytes: sha256 %s, want %s", sum, want)
	}
	return n, err
}

func readOne(f *os.File, j job) (int64, error) {
	n, err := f.ReadAt(make([]byte, j.Piece), j.Off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return int64(n), err
}

// readRandom reads pieces at random multiples of their length.
func readRandom(f *os.File, j job) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	places := rand.New(rand.NewPCG(j.Seed, 0)) //nolint:gosec // places, not secrets
	list := make([]int64, j.Reads)
	for i := range list {
		list[i] = places.Int64N(info.Size() / j.Piece)
	}
	return readPlaces(f, j, list)
}

// readShuffled reads each piece of the file once.
func readShuffled(f *os.File, j job) (int64, error) {
	list := make([]int64, j.Reads)
	for i, n := range rand.New(rand.NewPCG(j.Seed, 0)).Perm(j.Reads) { //nolint:gosec // places, not secrets
		list[i] = int64(n)
	}
	return readPlaces(f, j, list)
}

// readPlaces has the threads read the pieces of the list, one after the other.
func readPlaces(f *os.File, j job, list []int64) (int64, error) {
	var next atomic.Int64
	errs := make([]error, j.Threads)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			buf := make([]byte, j.Piece)
			for n := next.Add(1); n <= int64(len(list)) && errs[i] == nil; n = next.Add(1) {
				_, errs[i] = f.ReadAt(buf, list[n-1]*j.Piece)
			}
		})
	}
	all.Wait()
	return int64(len(list)) * j.Piece, errors.Join(errs...)
}

// readMapped touches each page of a mapping, in order.
func readMapped(f *os.File, _ job) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	var sum byte
	for i := 0; i < len(m); i += 4096 {
		sum += m[i]
	}
	touched.Store(uint32(sum))
	return int64(len(m)), unix.Munmap(m)
}

// touched keeps the compiler from leaving out the reads of a mapping.
var touched atomic.Uint32

// A running is a reader's process that has been started.
type running struct {
	cmd       *exec.Cmd
	out, errs bytes.Buffer
}

func (j job) start(ctx context.Context) (*running, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	r := &running{cmd: exec.CommandContext(ctx, "/proc/self/exe")}
	r.cmd.Env = append(os.Environ(), readerRole+"="+string(text))
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
	return r, r.cmd.Start()
}

// wait is the reader's outcome. It returns an error if the reader failed.
func (r *running) wait() (outcome, error) {
	var o outcome
	if err := r.cmd.Wait(); err != nil {
		return o, fmt.Errorf("reader: %w: %s", err, bytes.TrimSpace(r.errs.Bytes()))
	}
	return o, json.Unmarshal(r.out.Bytes(), &o)
}

func (j job) do(ctx context.Context) (outcome, error) {
	r, err := j.start(ctx)
	if err != nil {
		return outcome{}, err
	}
	return r.wait()
}
