package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkFill writes a file as a fill does, in 1 MiB pieces from several
// goroutines that move along the front, and reports how long completion takes
// after the last byte. Run with -benchtime=1x: 4 GiB go to the disk.
func BenchmarkFill(b *testing.B) {
	for _, c := range []struct {
		size  int64
		speed int64 // bytes a second that arrive; 0: as fast as they can be written
		git   bool
	}{{1 << 30, 0, false}, {4 << 30, 0, false}, {4 << 30, 400e6, false}, {4 << 30, 1000e6, false}, {1 << 30, 400e6, true}} {
		b.Run(fmt.Sprintf("size=%dMiB/speed=%dMBps/git=%v", c.size>>20, c.speed/1e6, c.git), func(b *testing.B) {
			b.SetBytes(c.size)
			for b.Loop() {
				fillOnce(b, c.size, c.speed, c.git)
			}
		})
	}
}

func fillOnce(b *testing.B, size, speed int64, git bool) {
	s := newStore(b)
	p := openPart(b, s, PartID{Key: "at-bench"}, size)
	want := Digest{}
	if git {
		p.Expect(Digest{GitSHA1: "x"})
	}
	const piece = 1 << 20
	data := pattern(1, piece)
	begin := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for off := next.Add(piece) - piece; off < size; off = next.Add(piece) - piece {
				if speed > 0 {
					<-time.After(time.Until(begin.Add(time.Duration(float64(off) / float64(speed) * 1e9))))
				}
				if err := p.WriteAt(data, off); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	written := time.Since(begin)
	if err := p.Complete(context.Background(), want, nil); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(size)/written.Seconds()/1e6, "written-MB/s")
	b.ReportMetric(float64((time.Since(begin) - written).Milliseconds()), "complete-ms")
	closePart(b, p)
	if err := s.Remove("at-bench"); err != nil {
		b.Fatal(err)
	}
}
