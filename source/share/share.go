// Package share answers: how is a tree on NFS or the like asked, so that
// nobody gets stuck in it?
//
// Every system call on a share is made by a child process, which owns nothing
// that others need: no /dev/fuse, no lock, no listening socket. Here waits are
// on a socket, and end when their context does. A child that is stuck in the
// kernel is left behind, and holds up neither the service nor its end.
//
// Invariants:
//
//  1. No thread of this process makes a system call that the share has to
//     answer. The descriptors that it is handed name files (O_PATH): closing
//     one tells the share nothing, where closing an open file would wait.
//  2. One share has one child, so that one that hangs slows no other. A child
//     bounds what can get stuck in it (package guard); at most maxLeft
//     more are left behind, and none while the share answers.
//  3. A child ends with its socket: with this process, however that ends.
//  4. What is here of a child can be lost at any moment: an open file is read
//     on through the next one, by its descriptor.
//
// It knows no layout: the child's side, [Serve], is given a [Tree].
package share

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/tree"
)

const (
	// maxLeft bounds the children of one share that are killed and not gone:
	// stuck in a filesystem that not even a kill gets them out of.
	maxLeft = 2
	// replaceAfter is how long a share hangs before a fresh child looks at it:
	// it may have been mounted anew at the same place, which the stuck one
	// can't notice. It doubles up to replaceAtMost while that does not help.
	replaceAfter  = 10 * time.Second
	replaceAtMost = 2 * time.Minute
	// restartPause keeps a child that ends at once from being started all the time.
	restartPause = 200 * time.Millisecond
	// closeWait is how long Close waits for a child that is not stuck.
	closeWait = 200 * time.Millisecond
)

// Config says which share to ask, and how.
type Config struct {
	ID      string        // of the source
	Root    string        // absolute
	Trust   []string      // absolute directories that its links may lead into
	Command []string      // arguments of this program that make it the share's child, which calls Serve
	Timeout time.Duration // longest wait for one operation
	// Relay reads files through the child and never hands them to the kernel.
	Relay  bool
	Output io.Writer // what a child says to people, its log
	Log    *slog.Logger
}

// A Source is a shared tree. It is safe for concurrent use.
type Source struct {
	cfg   Config
	files atomic.Uint64 // the number of the last file that was opened for reading
	index atomic.Pointer[index]
	roll  atomic.Pointer[roll]

	mu       sync.Mutex // guards the rest
	cur      *child     // nil: none was needed yet, or the last one is gone
	starting chan struct{}
	patience time.Duration // after which a hung share's child is replaced
	suspect  bool          // the last child was stuck: the next one asks before it lets anybody in
	left     int           // children that were killed for being stuck, and are not gone
	rest     time.Time     // no child is started before
	closed   bool
}

// New makes the source of a share and touches nothing. The caller closes it.
func New(c Config) *Source { return &Source{cfg: c, patience: replaceAfter} }

// ID names the source: the kind of store and the absolute path.
func (s *Source) ID() string { return s.cfg.ID }

// Kind is Shared.
func (s *Source) Kind() model.SourceKind { return model.Shared }

// Close ends every wait; calls after it fail. A child that is stuck is left
// behind.
func (s *Source) Close() {
	s.mu.Lock()
	c := s.cur
	s.closed, s.cur = true, nil
	s.mu.Unlock()
	if c == nil {
		return
	}
	c.kill(s.errClosed())
	if c.hung.Load() > 0 {
		return
	}
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-c.gone:
	case <-timer.C:
	}
}

func (s *Source) errClosed() error {
	return model.Errorf(model.Unavailable, "%s is closed", s.cfg.ID)
}

// child is the child to ask, started if there is none.
func (s *Source) child(ctx context.Context) (*child, error) {
	for {
		s.mu.Lock()
		switch {
		case s.closed:
			s.mu.Unlock()
			return nil, s.errClosed()
		case s.cur != nil && s.cur.alive():
			c := s.cur
			s.mu.Unlock()
			return c, nil
		case s.starting == nil && time.Now().Before(s.rest):
			s.mu.Unlock()
			return nil, model.Errorf(model.Unavailable, "the process that reads %s has just ended", s.cfg.ID)
		case s.starting == nil:
			started := make(chan struct{})
			s.starting = started
			suspect := s.suspect
			s.mu.Unlock()
			return s.start(started, suspect)
		}
		wait := s.starting
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// start starts a child for everybody who waits for one.
func (s *Source) start(started chan struct{}, suspect bool) (*child, error) {
	command := s.cfg.Command
	if suspect {
		command = append([]string{command[0], "--" + SuspectFlag}, command[1:]...)
	}
	c, err := spawn(command, s.cfg.Output)
	s.mu.Lock()
	s.starting, s.rest = nil, time.Now().Add(restartPause)
	if err == nil && s.closed {
		err = s.errClosed()
	} else if err == nil {
		s.cur = c
	}
	s.mu.Unlock()
	close(started)
	if err != nil {
		if c != nil {
			c.kill(err)
		}
		return nil, model.Errorf(model.Unavailable, "%s: %w", s.cfg.ID, err)
	}
	s.cfg.Log.Debug("a process reads the share", "source", s.cfg.ID, "pid", c.cmd.Process.Pid)
	return c, nil
}

// SuspectFlag tells a child that the share hung when the last one was asked.
const SuspectFlag = "suspect"

// call makes one operation and waits for it no longer than ctx and the
// timeout.
func (s *Source) call(ctx context.Context, what string, q request) (*reply, error) {
	r, _, err := s.callChild(ctx, what, func(*child) (request, *os.File) { return q, nil })
	return r, err
}

// callChild is call for a request that depends on the child that is asked.
func (s *Source) callChild(ctx context.Context, what string, request func(*child) (request, *os.File)) (*reply, *child, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", what, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	c, err := s.child(ctx)
	var r *reply
	if err == nil {
		q, with := request(c)
		r, err = c.ask(ctx, q, with)
	}
	if err == nil && r.Large {
		r, err = r.unfold()
	}
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, c, model.Errorf(model.KindOf(err), "%s: %s did not answer in time: %w", what, s.cfg.ID, err)
	default:
		return nil, c, fmt.Errorf("%s: %w", what, err)
	}
	s.judge(c, r.Hung)
	if r.Fault != nil {
		c.discard(r)
		return nil, c, r.Fault.err(r.Hung > 0)
	}
	return r, c, nil
}

// judge replaces a child whose share has hung for long. The stuck one is left
// behind, and killed, which may or may not get it out of the kernel.
func (s *Source) judge(c *child, hung time.Duration) {
	s.mu.Lock()
	if hung == 0 && s.cur == c {
		s.suspect, s.patience = false, replaceAfter
	}
	replace := s.cur == c && hung >= s.patience && s.left < maxLeft
	if replace {
		s.cur, s.suspect, s.patience = nil, true, min(2*s.patience, replaceAtMost)
		s.left++
	}
	left := s.left
	s.mu.Unlock()
	if !replace {
		return
	}
	s.cfg.Log.Warn("the process that reads a share is stuck and is replaced", "source", s.cfg.ID, "pid", c.cmd.Process.Pid, "hung", hung, "left_behind", left)
	c.kill(model.Errorf(model.Unavailable, "%s does not answer", s.cfg.ID))
	go func() {
		<-c.gone
		s.mu.Lock()
		s.left--
		s.mu.Unlock()
	}()
}

// Find implements resolver.Source.
func (s *Source) Find(ctx context.Context, n model.Name) (model.Found, error) {
	r, err := s.call(ctx, "looking up "+n.String(), request{Op: opFind, Name: &n})
	if err != nil || r.Found == nil {
		return model.Found{}, orNonsense(err)
	}
	return *r.Found, nil
}

// List implements resolver.Source.
func (s *Source) List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error) {
	r, err := s.call(ctx, "listing "+n.String(), request{Op: opList, Name: &n, Found: &f})
	if err != nil || r.Model == nil {
		return nil, orNonsense(err)
	}
	m := r.Model.Model
	m.Files = make([]model.File, len(r.Model.Files))
	for i, line := range r.Model.Files {
		m.Files[i] = line.File
		m.Files[i].Place = &place{s: s, path: string(line.At), promised: line.Promised}
	}
	return &m, nil
}

// A roll is what the tree listed last. It is immutable.
type roll struct {
	of      *child // whose version it is
	version uint64
	found   []model.Found
}

// Names implements resolver.Source. As long as nothing has changed it is the
// very same slice.
func (s *Source) Names(ctx context.Context) ([]model.Found, error) {
	old := s.roll.Load()
	r, c, err := s.callChild(ctx, "listing the share", func(c *child) (request, *os.File) {
		q := request{Op: opNames}
		if old != nil && old.of == c {
			q.Since = old.version
		}
		return q, nil
	})
	if err != nil {
		return nil, err
	}
	if old != nil && old.of == c && old.version == r.Version {
		return old.found, nil
	}
	s.roll.Store(&roll{c, r.Version, r.Names})
	return r.Names, nil
}

// At is the file at an absolute path that Place.Path said, perhaps in another
// process; nil if that lies neither in the share nor where its links may lead.
// It does no I/O.
func (s *Source) At(abs string) model.Place {
	for _, root := range append([]string{s.cfg.Root}, s.cfg.Trust...) {
		if _, ok := tree.New(filepath.Clean(root), false).Rel(abs); ok {
			return &place{s: s, path: abs, promised: -1}
		}
	}
	return nil
}

func orNonsense(err error) error {
	if err == nil {
		err = model.Errorf(model.Invalid, "the process that reads the share said nothing")
	}
	return err
}

// An index is where content lies, by its sha256. It is immutable.
type index struct {
	of      *child // whose version it is
	version uint64
	blobs   map[string]blobLine
}

// Refresh brings what BySHA256 answers from up to date.
func (s *Source) Refresh(ctx context.Context) error {
	old := s.index.Load()
	r, c, err := s.callChild(ctx, "reading the blobs", func(c *child) (request, *os.File) {
		q := request{Op: opBlobs}
		if old != nil && old.of == c {
			q.Since = old.version
		}
		return q, nil
	})
	if err != nil {
		return err
	}
	if old != nil && old.of == c && old.version == r.Version {
		return nil
	}
	now := &index{of: c, version: r.Version, blobs: make(map[string]blobLine, len(r.Blobs))}
	for _, b := range r.Blobs {
		now.blobs[b.SHA256] = b
	}
	s.index.Store(now)
	return nil
}

// BySHA256 is the blob with this sha256, 64 lower-case hex digits, and its
// size, as of the last Refresh. It does no I/O; the place is NotFound once the
// blob is gone or has another size.
func (s *Source) BySHA256(hex string) (model.Place, int64, bool) {
	x := s.index.Load()
	if x == nil {
		return nil, 0, false
	}
	b, ok := x.blobs[hex]
	if !ok {
		return nil, 0, false
	}
	return &place{s: s, path: string(b.At), promised: b.Size}, b.Size, true
}
