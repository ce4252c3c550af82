package fetcher

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/hubtest"
	"modelfs/internal/model"
)

// TestNoRoom: a file above the budget is readable all the same; what fits
// stays, the rest streams, and nothing is filled in the background.
func TestNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory, withMaxSize(16*mib))
		r.hub.SetLatency(5 * time.Millisecond)
		c := hubtest.Pattern(5, 40*mib+77)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		for range 2 {
			readAll(t, rd, c, mib)
		}
		readAt(t, rd, c, 30*mib+11, 5*mib)
		readAt(t, rd, c, c.Size()-100, 200)
		if u := r.store.Usage(); u.Used < 12*mib || u.Used > 16*mib {
			t.Errorf("%d bytes are stored", u.Used)
		}
		sent := r.sent()
		<-time.After(time.Minute)
		if r.sent() != sent {
			t.Errorf("%d bytes were fetched for nobody", r.sent()-sent)
		}
		if err := r.f.Pull(context.Background(), v, file, nil); !model.IsKind(err, model.NoSpace) {
			t.Errorf("a pull of what has no room: %v", err)
		}
	})
}

// TestNoRoomSharesRequests: readers of one range that can't be stored share
// its request.
func TestNoRoomSharesRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory, withMaxSize(mib))
		r.hub.SetLatency(50 * time.Millisecond)
		c := hubtest.Pattern(5, 40*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		readAt(t, rd, c, 0, 3*mib) // nothing is stored from now on
		sent := r.sent()
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() { readAt(t, rd, c, 20*mib, mib) })
		}
		wg.Wait()
		if got := r.sent() - sent; got > 2*mib {
			t.Errorf("%d bytes were sent for 16 reads of one MiB", got)
		}
	})
}

func TestRoomComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory, withMaxSize(30*mib))
		a, b := hubtest.Pattern(1, 20*mib), hubtest.Pattern(2, 20*mib)
		v := r.view("org/model", hubtest.File{Path: "a", Content: a, LFS: true}, hubtest.File{Path: "b", Content: b, LFS: true})
		must(t, r.f.Pull(context.Background(), v, &v.Files[0], nil))
		ra := r.open(v, &v.Files[0]) // open, so it can't be evicted
		rb := r.open(v, &v.Files[1])
		readAll(t, rb, b, mib)
		must(t, rb.Close())
		must(t, ra.Close())
		<-time.After(2 * time.Minute)
		must(t, r.f.Pull(context.Background(), v, &v.Files[1], nil))
		if st := r.f.State(v.Model, &v.Files[0]); st.Complete {
			t.Error("the file that nobody uses was not evicted")
		}
	})
}

// TestReady: a reader knows beforehand whether a read will wait.
func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetLatency(50 * time.Millisecond)
		c := hubtest.Pattern(5, 40*mib+7)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		ready := rd.(interface{ Ready(off, n int64) bool }).Ready
		for _, off := range []int64{20*mib + 5, c.Size() - 5} {
			if ready(off, 6*mib) {
				t.Errorf("ready at %d before anything was read", off)
			}
			readAt(t, rd, c, off, int(min(6*mib, c.Size()-off)))
			began := time.Now()
			if !ready(off, 6*mib) {
				t.Errorf("not ready at %d after it was read", off)
			}
			readAt(t, rd, c, off, int(min(6*mib, c.Size()-off)))
			if d := time.Since(began); d > 0 {
				t.Errorf("a read that was ready took %v", d)
			}
		}
		if !ready(c.Size()+5, 100) {
			t.Error("not ready beyond the end, where nothing is waited for")
		}
	})
}

// TestRestart: what was received before a stop is not fetched again.
func TestRestart(t *testing.T) {
	r := newRig(t)
	c := hubtest.Pattern(5, 64*mib)
	v, file := r.one(c)
	for i := range int64(4) {
		rd := r.open(v, file)
		readAt(t, rd, c, i*16*mib, 16*mib)
		must(t, rd.Close())
		r.stop()
		r.start()
	}
	must(t, r.f.Pull(context.Background(), v, file, nil))
	// Each stop may lose what lanes had on their way.
	if got := r.sent(); got > c.Size()*5/4+32*mib {
		t.Errorf("%d bytes sent for %d", got, c.Size())
	}
	rd := r.open(v, file)
	defer rd.Close()
	readAll(t, rd, c, mib)
}

// TestReadersGoOnAfterCompletion: a handle of the fill reads on, even when the
// file has been removed from the backing dir since.
func TestReadersGoOnAfterCompletion(t *testing.T) {
	r := newRig(t)
	c := hubtest.Pattern(5, 12*mib)
	v, file := r.one(c)
	rd := r.open(v, file)
	must(t, r.f.Pull(context.Background(), v, file, nil))
	must(t, os.RemoveAll(filepath.Join(r.dir, "models")))
	readAll(t, rd, c, mib)
	must(t, rd.Close())
	if err := rd.Close(); err == nil {
		t.Error("a second Close is not refused")
	}
}

func TestReaderEdges(t *testing.T) {
	r := newRig(t)
	c := hubtest.Pattern(5, 3*mib+1)
	v, file := r.one(c)
	for _, complete := range []bool{false, true} {
		if complete {
			must(t, r.f.Pull(context.Background(), v, file, nil))
		}
		rd := r.open(v, file)
		if (rd.File() != nil) != complete {
			t.Fatalf("complete %v, but File is %v", complete, rd.File())
		}
		readAt(t, rd, c, c.Size()-1, 10)
		readAt(t, rd, c, c.Size(), 10)
		readAt(t, rd, c, c.Size()+mib, 10)
		readAt(t, rd, c, 5, 0)
		readAt(t, rd, c, mib-1, 2)
		if n, err := rd.ReadAt(context.Background(), make([]byte, 1), -1); n != 0 || !model.IsKind(err, model.Invalid) {
			t.Errorf("a read at -1: %d, %v", n, err)
		}
		must(t, rd.Close())
	}
}

// What is not stored is not fetched for nobody: the one stream of an origin
// without ranges is begun neither again and again nor anew for each read.
func TestTheStreamIsNotBegunForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, inMemory)
		r.hub.SetLatency(5 * time.Millisecond)
		r.hub.SetConnRate(10*mib, hubtest.AtCDN)
		r.hub.Fault(atCDN, hubtest.Always(), hubtest.IgnoreRange())
		c := hubtest.Pattern(5, 100*mib)
		v, file := r.one(c)
		rd := r.open(v, file)
		defer rd.Close()
		readAt(t, rd, c, 10*mib, mib) // the rest is wanted, too
		l := r.f.snapshot()[0]
		l.mu.Lock()
		l.noStore = time.Now().Add(time.Hour)
		l.mu.Unlock()
		before := r.asked(hubtest.AtCDN)
		<-time.After(time.Minute)
		if n := r.asked(hubtest.AtCDN) - before; n > 0 {
			t.Errorf("%d requests whose bytes nobody waits for and nothing keeps", n)
		}
		before = r.asked(hubtest.AtCDN)
		for off := int64(20 * mib); off < 40*mib; off += mib {
			readAt(t, rd, c, off, mib)
		}
		if n := r.asked(hubtest.AtCDN) - before; n > 1 {
			t.Errorf("%d requests for reads that follow one another", n)
		}
		began := time.Now()
		readAt(t, rd, c, 20*mib, mib) // has passed by: what 21 MiB take, and no wait for the stream's end
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("a read of what has passed by took %v", d)
		}
		<-time.After(2 * lingerTime)
		if n := r.f.Status()[0].Connections; n != 0 {
			t.Errorf("%d connections for nobody", n)
		}
	})
}
