package fetcher

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// A network is how the origin behaves in a benchmark.
type network struct {
	name    string
	latency time.Duration
	rate    int64 // bytes a second of one connection; 0: no limit
}

var networks = []network{
	{"unlimited", 0, 0},
	{"20ms-100MBps", 20 * time.Millisecond, 100_000_000},
	{"20ms", 20 * time.Millisecond, 0},
}

func (r *rig) behave(n network) {
	r.hub.SetLatency(n.latency)
	r.hub.SetConnRate(n.rate, hubtest.AtCDN)
}

// report states what a benchmark cost besides time.
func (r *rig) report(b *testing.B, asked int64) {
	b.ReportMetric(float64(r.f.Stats().Requests), "requests/op")
	b.ReportMetric(float64(r.sent())/float64(asked), "sent/asked")
	b.ReportMetric(float64(r.f.Stats().Fetched)/float64(asked), "fetched/asked")
}

// BenchmarkSequential reads one cold file from start to end: by one reader that
// waits for each MiB, and with as many MiB outstanding as the kernel has with
// a read-ahead of 8 MiB. It includes hashing but not the completion.
func BenchmarkSequential(b *testing.B) {
	for _, n := range networks {
		for _, outstanding := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/outstanding-%d", n.name, outstanding), func(b *testing.B) {
				benchSequential(b, n, outstanding)
			})
		}
	}
}

func benchSequential(b *testing.B, n network, outstanding int) {
	const size = 1 << 30
	c := hubtest.Pattern(1, size)
	c.SHA256()
	b.SetBytes(size)
	for b.Loop() {
		b.StopTimer()
		r := newRig(b)
		r.behave(n)
		v, file := r.one(c)
		b.StartTimer()
		rd := r.open(v, file)
		sweep(b, rd, size, outstanding)
		b.StopTimer()
		r.report(b, size)
		must(b, rd.Close())
		r.stop()
		b.StartTimer()
	}
}

// sweep reads all of a file in order, with so many reads outstanding.
func sweep(b *testing.B, rd model.Reader, size int64, outstanding int) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range outstanding {
		wg.Go(func() {
			p := make([]byte, mib)
			for {
				off := next.Add(mib) - mib
				if off >= size {
					return
				}
				if _, err := rd.ReadAt(context.Background(), p, off); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkScattered makes 256 reads of 1 MiB at random places of one cold
// file of 4 GiB, by several threads.
func BenchmarkScattered(b *testing.B) {
	n := networks[1]
	for _, touched := range []bool{false, true} {
		for _, threads := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("touched-%v/threads-%d", touched, threads), func(b *testing.B) {
				benchScattered(b, n, threads, touched)
			})
		}
	}
}

func benchScattered(b *testing.B, n network, threads int, touched bool) {
	const size, reads = 4 << 30, 256
	b.SetBytes(reads * mib)
	for b.Loop() {
		b.StopTimer()
		r := newRig(b, withConfig(func(c *Config) { c.Touched = touched }))
		r.behave(n)
		v := r.view("org/model", hubtest.File{Path: "x", Content: plain{hubtest.Pattern(1, size)}, LFS: true, SHA256: fakeSum})
		rd := r.open(v, &v.Files[0])
		b.StartTimer()
		scatter(b, rd, size, reads, threads)
		b.StopTimer()
		r.report(b, reads*mib)
		must(b, rd.Close())
		r.stop()
		b.StartTimer()
	}
}

// fakeSum stands for a hash that nobody wants to compute.
const fakeSum = "00000000000000000000000000000000000000000000000000000000000000ff"

// plain hides what kind of content it is.
type plain struct{ hubtest.Content }

func scatter(b *testing.B, rd model.Reader, size int64, reads, threads int) {
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(reads))
	for i := range threads {
		wg.Go(func() {
			p := make([]byte, mib)
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for left.Add(-1) >= 0 {
				if _, err := rd.ReadAt(context.Background(), p, rnd.Int64N(size/mib)*mib); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
