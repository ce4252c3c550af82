// Package fetcher answers: what are the bytes of this range of this file? It
// takes them from the backing dir where they are there, else from an origin,
// once, whoever asks.
//
// Invariants:
//
//  1. There is one fill per key and source. Readers join it; a reader may
//     leave, the fill stays.
//  2. A read is answered as soon as its own bytes are here. It waits for no
//     window, no other read and no lock that is held across I/O.
//  3. Only bytes that were received are served. A range that is not here is
//     waited for or fails; it is never short before the end of the file.
//  4. Requests are made for blocked readers first, then ahead of moving
//     streams, then for the rest of the file, then for its set.
//  5. A waiting read costs no goroutine and no buffer; transfers and their
//     buffers are bounded whatever the number of readers and files.
//  6. Every goroutine ends before Close returns. What was received is kept,
//     and the next daemon goes on from there.
//  7. Bytes that were complete but contradict their hash are never served
//     again: their handles answer Corrupt for ever.
//  8. All bytes of an attempt at a file without a stated hash come from one
//     address; what outlives the process, from the first.
//
// Each fill has one goroutine while there is something to decide (fill.run),
// which alone starts transfers; transfers report to the fill's board, and the
// board says which readers to wake. It does not know what names mean
// (resolver), how a request is made and retried (origin), or how bytes are
// kept (store).
package fetcher

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"modelfs/internal/model"
	"modelfs/internal/origin"
	"modelfs/store"
)

// Config is what New needs.
type Config struct {
	Store       *store.Store
	Door        *origin.Door
	Touched     bool          // fetch only what is read, and read-ahead; never the rest of a file
	MaxFills    int           // files that are filled in the background at a time; 0: 1
	ReadTimeout time.Duration // a read fails when its fill got no byte for so long; 0: 5 min
	OpenTimeout time.Duration // an open waits for the origin's answer no longer; 0: 900 ms
	// Elsewhere is where a file lies on this machine, outside the backing dir,
	// by its sha256 and size (-1: unknown); nil: nowhere. Such files are not
	// fetched for the sake of their set, nor pulled. It does no I/O; nil: none.
	Elsewhere func(sha256 string, size int64) model.Place
	// OnChange is told, without any lock held, that a fill has ended: its key
	// is complete, or its attempt turned out corrupt. nil: nobody is told.
	OnChange func(key model.Key, source string)
	Log      *slog.Logger // nil: nothing is logged
}

// fillID is the identity of a fill.
type fillID = store.PartID

// A Fetcher owns the fills. It is safe for concurrent use.
type Fetcher struct {
	cfg     Config
	log     *slog.Logger
	slots   *slots
	buffers *buffers
	stats   counters
	ctx     context.Context // the owner's: ends with Close
	stop    context.CancelFunc
	wg      sync.WaitGroup
	wake    chan struct{} // the manager has something to do

	mu       sync.Mutex // guards all below, and refs, closing and idle of every fill; a leaf
	closed   bool
	fills    map[fillID]*fill
	corrupt  map[fillID]*corruption
	sizes    map[fillID]int64 // learnt, where the listing states none
	siblings []sibling        // files to fill when nothing else is left to do
	linked   map[linkID]bool
}

// counters are cumulative but for the gauges that Stats adds.
type counters struct {
	fetched, again, served, requests, waiting atomic.Int64
}

// Stats are the numbers that metrics export.
type Stats struct {
	Fetched  int64 // bytes received from origins
	Again    int64 // bytes asked of origins that they had been asked for before: what seemed late, or failed
	Served   int64 // bytes given to readers by ReadAt
	Requests int64 // ranges (or whole files) asked of origins
	Fills    int   // fills with work to do
	Open     int   // fills whose part is open, idle ones included
	Waiting  int   // reads that wait for bytes
}

// New makes a Fetcher. The caller closes it, before the store and the door.
func New(cfg Config) *Fetcher {
	setDefaults(&cfg)
	f := &Fetcher{
		cfg: cfg, log: cfg.Log, slots: newSlots(), buffers: newBuffers(), wake: make(chan struct{}, 1),
		fills: make(map[fillID]*fill), corrupt: make(map[fillID]*corruption),
		sizes: make(map[fillID]int64), linked: make(map[linkID]bool),
	}
	f.ctx, f.stop = context.WithCancel(context.Background())
	f.spawn(f.manage)
	return f
}

func setDefaults(cfg *Config) {
	if cfg.MaxFills <= 0 {
		cfg.MaxFills = 1
	}
	if cfg.ReadTimeout <= 0 {
		cfg.ReadTimeout = 5 * time.Minute
	}
	if cfg.OpenTimeout <= 0 {
		cfg.OpenTimeout = 900 * time.Millisecond
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(model.Key, string) {}
	}
	if cfg.Elsewhere == nil {
		cfg.Elsewhere = func(string, int64) model.Place { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
}

// spawn runs fn in a goroutine that Close waits for. It reports false, and
// runs nothing, once the Fetcher is closed.
func (f *Fetcher) spawn(fn func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.wg.Go(fn)
	return true
}

// Close ends all fills, which can be resumed, fails the reads that wait, and
// waits for every goroutine. Handles that are still open answer Unavailable.
func (f *Fetcher) Close() error {
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil
	}
	f.closed = true
	f.mu.Unlock()
	f.stop()
	f.wg.Wait()
	var first error
	for _, l := range f.snapshot() {
		l.shutdown(errClosed)
		if err := l.closePart(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

var errClosed = model.Errorf(model.Unavailable, "modelfs is shutting down")

// snapshot is the fills of this moment.
func (f *Fetcher) snapshot() []*fill {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*fill, 0, len(f.fills))
	for _, l := range f.fills {
		all = append(all, l)
	}
	return all
}

// State says what is known here of a file that has to be fetched. It does no I/O.
func (f *Fetcher) State(m *model.Model, file *model.File) model.FileState {
	id := fillID{Key: file.Key, Source: m.Source}
	key := f.have(file)
	st := model.FileState{Size: file.Size, Complete: key != ""}
	if st.Size < 0 {
		st.Size = f.cfg.Store.Size(fillID{Key: cmp.Or(key, file.Key), Source: m.Source})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.corrupt[id]; c != nil {
		st.Attempt = c.attempts
	}
	if n, ok := f.sizes[id]; ok && st.Size < 0 {
		st.Size = n
	}
	return st
}

// have is the key under which the file's content is complete here, or "".
func (f *Fetcher) have(file *model.File) model.Key {
	if f.cfg.Store.Has(file.Key) {
		return file.Key
	}
	if file.SHA256 != "" && f.cfg.Store.Has(model.SHA256Key(file.SHA256)) {
		return model.SHA256Key(file.SHA256)
	}
	return ""
}

// Stats reads the counters.
func (f *Fetcher) Stats() Stats {
	s := Stats{
		Fetched: f.stats.fetched.Load(), Again: f.stats.again.Load(), Served: f.stats.served.Load(),
		Requests: f.stats.requests.Load(), Waiting: int(f.stats.waiting.Load()),
	}
	for _, l := range f.snapshot() {
		s.Open++
		if l.active() {
			s.Fills++
		}
	}
	return s
}
