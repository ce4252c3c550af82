// Package failover answers: where does the rest of a shared file come from,
// when the share stops answering in the middle of it?
//
// Invariants:
//
//  1. The bytes of one open file are those of one content. Another source is
//     used only if it has the same: its listing states the hash that the
//     share's states; or it states a hash where the share states none, its
//     size is the same, and all that was served from the share equals what it
//     has there.
//  2. Who can't be shown to have the same content is never used; a read waits
//     for the share then, until the read timeout.
//  3. A file that has moved stays where it went: its pages in the kernel hold
//     bytes of both places. What is opened later begins with the share again.
//  4. Locks are leaves. A read waits for its share, a search or its context,
//     and every wait has an end.
//
// It does not know what a name means (Names), how bytes are fetched (Content),
// or what a share is: a reader that may be Unavailable.
package failover

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"modelfs/internal/model"
)

// Names finds the sources besides a model's own.
type Names interface {
	// Others lists what other sources have under m's name, the one that is
	// believed most first, and says what it could not find out.
	Others(ctx context.Context, m *model.Model) (views []*model.View, unasked []error)
}

// Content gives the bytes of files that have to be fetched.
type Content interface {
	State(m *model.Model, file *model.File) model.FileState
	Open(ctx context.Context, v *model.View, file *model.File) (model.Reader, error)
}

// Config says where to look. Names, Content and Log are required.
type Config struct {
	Names   Names
	Content Content
	// Elsewhere is where a file lies in stores of this machine or on shares,
	// by its sha256 and size. It does no I/O; nil: nowhere.
	Elsewhere func(sha256 string, size int64) []model.Place
	// Stored is told that bytes of m, which goes by name, are kept here now;
	// nil: nobody is.
	Stored      func(name string, m *model.Model)
	ReadTimeout time.Duration // of a read that nobody can answer
	Log         *slog.Logger
}

const (
	// patience is how long a share may leave every read unanswered before
	// another source is looked for: a disk that has to spin up takes longer,
	// and costs a download then, but no error.
	patience = 3 * time.Second
	// retryAfter is how often a share that does not answer is asked again.
	retryAfter = 500 * time.Millisecond
	// searchAgain is how long after a search that found nothing the next one
	// may begin.
	searchAgain = 5 * time.Second
	// failedFor is how long a read that timed out fails the next ones at once:
	// the kernel asks a second time.
	failedFor = 10 * time.Second
	// maxPieces bounds what is remembered of the bytes that were served of one
	// file (64 GiB in the kernel's largest reads), maxAllPieces that of all files
	// together, some 60 bytes each. Beyond it a file can't move any more, unless
	// its hash is known.
	maxPieces    = 1 << 16
	maxAllPieces = 1 << 20
	// maxEvents bounds what is remembered for people.
	maxEvents = 256
)

// A Failover knows what moved. It is safe for concurrent use.
type Failover struct {
	cfg    Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	seeds  [2]maphash.Seed
	pieces atomic.Int64 // remembered, of all files

	mu     sync.Mutex // guards the rest
	wg     sync.WaitGroup
	closed bool
	health map[string]*health // by source
	events []event            // in order
}

type event struct {
	name string
	text string
}

// New makes a Failover. The caller closes it, before what it was given.
func New(c Config) *Failover {
	f := &Failover{cfg: c, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, health: make(map[string]*health)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// Close ends every search and waits for it.
func (f *Failover) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
}

// goRun runs a search, unless it is too late.
func (f *Failover) goRun(search func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.wg.Go(search)
	return true
}

// A health is how reads of one source go.
type health struct {
	good    atomic.Pointer[time.Time] // when one came back last, the monotonic clock's reading with it; nil: none has
	stalled atomic.Bool               // none has come back for patience
}

// answered notes that a read has come back.
func (h *health) answered(now time.Time) {
	h.good.Store(&now)
	h.stalled.Store(false)
}

func (f *Failover) healthOf(source string) *health {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.health[source] == nil {
		f.health[source] = &health{}
	}
	return f.health[source]
}

// note remembers what happened to reads of a model, for Events. The same again
// is not noted twice.
func (f *Failover) note(name, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.events {
		if e.name == name && e.text == text {
			return
		}
	}
	if len(f.events) >= maxEvents {
		f.events = f.events[1:]
	}
	f.events = append(f.events, event{name, text})
}

// Events says what happened to reads of the model of that name, the last last.
func (f *Failover) Events(name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, e := range f.events {
		if e.name == name {
			list = append(list, e.text)
		}
	}
	return list
}

// fingerprint is of bytes that were served, to be compared with another
// source's. Its keys are random and known to nobody, so that nobody can make
// other bytes that have the same.
func (f *Failover) fingerprint(p []byte) [2]uint64 {
	return [2]uint64{maphash.Bytes(f.seeds[0], p), maphash.Bytes(f.seeds[1], p)}
}

// hung reports whether an error says that the share is known not to answer.
func hung(err error) bool {
	var h interface{ Hung() bool }
	return errors.As(err, &h) && h.Hung()
}

func at(f *model.File, m *model.Model) string { return fmt.Sprintf("%s of %s", f.Path, m.Name) }
