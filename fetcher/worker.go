package fetcher

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"modelfs/internal/model"
)

// The buffers of transfers. A lane's is what one read of a fast connection
// brings; a blocked reader's requests are shorter and more. With mostDemand
// and mostAllLanes they make up 24 MiB at most.
const (
	laneBuffer   = 512 << 10
	demandBuffer = 256 << 10
	// storeAgain is for how long a full or broken disk is left alone.
	storeAgain = 10 * time.Second
)

type buffers struct{ lane, demand sync.Pool }

func newBuffers() *buffers {
	b := &buffers{}
	b.lane.New = func() any { p := make([]byte, laneBuffer); return &p }
	b.demand.New = func() any { p := make([]byte, demandBuffer); return &p }
	return b
}

func (b *buffers) of(c class) *sync.Pool {
	if c.lane() {
		return &b.lane
	}
	return &b.demand
}

// errNotStored ends a transfer that nobody waits for and whose bytes can't be
// stored.
var errNotStored = errors.New("there is no room to store it")

// fetch streams a transfer's range into the part.
func (l *fill) fetch(ctx context.Context, t *transfer, r request) error {
	l.f.stats.requests.Add(1)
	var body io.ReadCloser
	var err error
	if t.class == whole {
		body, err = t.origin.obj.Whole(ctx)
	} else {
		body, err = t.origin.obj.Range(ctx, r.off, r.end-r.off)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	pool := l.f.buffers.of(t.class)
	buf := pool.Get().(*[]byte)
	defer pool.Put(buf)
	return l.pour(ctx, t, body, *buf)
}

// pour reads body into buf and stores whole blocks as they come. buf[from:to]
// is what is not stored yet and belongs at t.pos.
func (l *fill) pour(ctx context.Context, t *transfer, body io.Reader, buf []byte) error {
	from, to := 0, 0
	for {
		n, err := body.Read(buf[to:])
		to += n
		if n > 0 {
			if !l.received(t, n) {
				return errOther
			}
			done, perr := l.put(t, buf[from:to], &from)
			if errors.Is(perr, errNotStored) && t.class == whole && l.linger(ctx, t) {
				done, perr = false, nil
			}
			if done || perr != nil {
				return perr
			}
		}
		if err == io.EOF && t.class == whole {
			return l.last(t, buf[from:to])
		}
		if err != nil {
			return noEOF(err)
		}
		if from == to {
			from, to = 0, 0
		} else if len(buf)-to < len(buf)/2 {
			to = copy(buf, buf[from:to])
			from = 0
		}
	}
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// put stores the whole blocks of data and moves from behind them. done is true
// when the transfer has nothing left to do.
func (l *fill) put(t *transfer, data []byte, from *int) (done bool, err error) {
	n := int64(len(data))
	l.mu.Lock()
	end := t.end
	l.mu.Unlock()
	if t.pos+n >= end {
		n = end - t.pos
	} else {
		n -= n % blockSize
	}
	if n <= 0 {
		return t.pos >= end, nil
	}
	*from += int(n)
	return l.keep(t, data[:n])
}

// keep stores data at t.pos and wakes the readers that have what they need.
func (l *fill) keep(t *transfer, data []byte) (done bool, err error) {
	off := t.pos
	stored := l.write(off, data)
	l.mu.Lock()
	woken := l.arrive(off, data, stored)
	t.pos += int64(len(data))
	done = t.pos >= t.end
	early := l.nearEnd(t)
	idle := !stored && t.class != demand && !l.anyoneWaits(t)
	l.mu.Unlock()
	wake(woken)
	if early {
		l.poke()
	}
	if idle && !done {
		return true, errNotStored
	}
	return done, nil
}

// nearEnd notes that a lane is so close to its end that another one may make
// its request now: that answer will begin when this one is done.
func (l *fill) nearEnd(t *transfer) bool {
	if t.nearly || !t.class.lane() || t.pos >= t.end {
		return false
	}
	t.nearly = float64(t.end-t.pos) < t.rate(l.pace.conn)*l.pace.ttfb.Seconds()
	return t.nearly
}

// anyoneWaits reports whether a read waits for what t has yet to bring.
func (l *fill) anyoneWaits(t *transfer) bool {
	for block := range l.waiting {
		if t.claims(block) {
			return true
		}
	}
	return false
}

// lingerTime is how long a stream that can't be begun where it ends waits for
// the next read. It is less than what yield grants it.
const lingerTime = 5 * time.Second

// linger has a stream whose bytes nobody waits for and nothing keeps wait for a
// read of what it has yet to bring, and reports whether there is one: reading
// mostly goes on, and another stream would have to begin at the start.
func (l *fill) linger(ctx context.Context, t *transfer) bool {
	l.mu.Lock()
	if l.anyoneWaits(t) {
		l.mu.Unlock()
		return true
	}
	read := make(chan struct{})
	t.lingers = read
	l.mu.Unlock()
	timer := time.NewTimer(lingerTime)
	defer timer.Stop()
	select {
	case <-read:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	t.lingers = nil
	l.mu.Unlock()
	return false
}

// release lets streams that linger go on for a read that has come, and ends
// those that have passed what reads wait for.
func (l *fill) release() {
	l.mu.Lock()
	passed := l.drop(func(t *transfer) bool { return t.lingers != nil && len(l.waiting) > 0 && !l.anyoneWaits(t) })
	for _, t := range l.transfers {
		if t.lingers != nil && l.anyoneWaits(t) {
			close(t.lingers)
			t.lingers = nil
		}
	}
	l.mu.Unlock()
	cancel(passed)
}

// write stores data at off. It reports false where there is no room, or the
// disk fails: the bytes then only pass through.
func (l *fill) write(off int64, data []byte) bool {
	if l.part.Has(off, int64(len(data))) {
		return true
	}
	now := time.Now()
	l.mu.Lock()
	closed := l.storeOff(now)
	l.mu.Unlock()
	if closed {
		return false
	}
	err := l.part.WriteAt(data, off)
	if err == nil {
		return true
	}
	l.mu.Lock()
	first := !l.storeOff(now)
	l.noStore = now.Add(storeAgain)
	l.lanesOff = true
	l.mu.Unlock()
	if first {
		l.log.Warn("bytes can't be stored and are streamed to the readers", "error", err, "no_space", model.IsKind(err, model.NoSpace))
	}
	return false
}

// storeOff reports whether nothing is stored at present. The caller holds the lock.
func (l *fill) storeOff(now time.Time) bool { return now.Before(l.noStore) }

// received counts bytes. It reports false where they can't be used, because
// another address gives the file.
func (l *fill) received(t *transfer, n int) bool {
	l.f.stats.fetched.Add(int64(n))
	l.mu.Lock()
	needless, ok := l.holdTo(t.origin)
	if ok {
		needless = append(needless, l.flow(t, n, time.Now())...)
	} else {
		t.dropped = true
	}
	l.mu.Unlock()
	cancel(needless)
	return ok
}

// flow takes in that t brings bytes, and returns the transfers that nobody
// needs any more. The caller holds the lock.
func (l *fill) flow(t *transfer, n int, now time.Time) (needless []*transfer) {
	if t.got == 0 {
		t.first = now
		l.pace.first(now.Sub(t.began))
		t.origin.fails, t.origin.err = 0, nil
		if t.class != whole { // ranges can be had again
			needless = l.drop(func(t *transfer) bool { return t.class == whole })
		}
	}
	t.got += int64(n)
	t.last = now
	l.fetched += int64(n)
	l.flowed, l.progress = now, now
	return needless
}

// last stores the end of a file that was read to its end, and learns its
// length if nobody had stated it.
func (l *fill) last(t *transfer, rest []byte) error {
	size := t.pos + int64(len(rest))
	l.mu.Lock()
	known := l.size
	needless, ok := l.holdTo(t.origin) // also of nothing there is one giver
	t.dropped = t.dropped || !ok
	l.mu.Unlock()
	cancel(needless)
	if !ok {
		return errOther
	}
	if known >= 0 && known != size {
		return model.Errorf(model.Unavailable, "the answer ended after %d of %d bytes", size, known)
	}
	if known < 0 {
		if err := l.setSize(size); err != nil {
			return err
		}
	}
	l.mu.Lock()
	t.end = size
	l.mu.Unlock()
	if len(rest) == 0 {
		return nil
	}
	_, err := l.keep(t, rest)
	return err
}
