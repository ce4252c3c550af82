// Package supervise keeps a mount alive while the process that serves it
// comes and goes: a crash, an out-of-memory kill or an upgrade of the server
// is a pause of its readers, not an error.
//
// The supervisor mounts, holds /dev/fuse, the ledger and the backing dir's
// lock, starts the server and does almost nothing else, so that it has no
// reason to die.
//
// Invariants:
//
//  1. The supervisor never touches its own mount: a thread that waits there
//     could not be killed, and with it the supervisor.
//  2. It never waits for a server to be reaped before it goes on: a server may
//     be stuck in the kernel for ever.
//  3. No other child inherits /dev/fuse.
//
// It speaks no FUSE and knows no model.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"modelfs/fs"
)

// Config says what to keep alive.
type Config struct {
	Mount *fs.MountPoint
	Lock  *os.File // the backing dir's lock, taken; servers inherit it
	// Command starts a server: the path of the executable and its arguments.
	// The path is looked up anew for each start, so an upgrade finds the new one.
	Command []string
	// Probe is the command that looks at the mount from outside.
	Probe []string
	// Leave keeps the mount point when the service stops, for the next start to
	// mount over.
	Leave bool
	// Ready is called once, when the first server answers requests.
	Ready func()
	// Stopping is called once, before the mount is taken away.
	Stopping func()
	Log      *slog.Logger
}

const (
	// stopWithin leaves room below the two seconds in which a stop ends.
	stopWithin = 1500 * time.Millisecond
	// readyWithin is how long a new server may take until it serves, and a
	// standby until it could.
	readyWithin = 20 * time.Second
	// maxCrashes in a row, each before the server has served for steadyAfter,
	// end the service: it can't start, or a request that is sent again kills it.
	maxCrashes  = 5
	steadyAfter = 100 * time.Millisecond
	// maxRestarts within restartWindow end it, too.
	maxRestarts   = 30
	restartWindow = time.Minute
)

// Supervisor is a running service.
type supervisor struct {
	cfg    Config
	log    *slog.Logger
	device *os.File
	ledger *os.File
	init   []byte // of the kernel's handshake with the first server

	server   *child
	crashes  int         // in a row
	restarts []time.Time // within restartWindow
	events   chan event
}

// An event is what a child did.
type event struct {
	from    *child
	message *message // nil: it ended
	err     error    // how it ended
}

// ErrCrashing ends Run when the server can't be kept running.
var ErrCrashing = errors.New("the server ends again and again")

// Run serves until a signal comes, somebody unmounts, or the server can't be
// kept running. SIGTERM and SIGINT stop, SIGUSR2 upgrades.
func Run(cfg Config) error {
	ledger, err := fs.NewLedger()
	if err != nil {
		return err
	}
	defer ledger.Close()
	s := &supervisor{cfg: cfg, log: cfg.Log, device: cfg.Mount.Device(), ledger: ledger, events: make(chan event)}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGUSR2)
	defer signal.Stop(signals)
	restoreOOM := protectFromOOM(s.log)
	defer restoreOOM()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if s.server, err = s.start(ctx, false); err != nil {
		return errors.Join(err, cfg.Mount.Unmount())
	}
	return s.loop(ctx, signals)
}

// loop is the supervisor's life.
func (s *supervisor) loop(ctx context.Context, signals <-chan os.Signal) error {
	watch := newWatchdog(s.cfg.Probe, s.log)
	defer watch.stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	ready := false
	for {
		select {
		case sig := <-signals:
			if sig == unix.SIGUSR2 {
				s.upgrade(ctx, signals)
				continue
			}
			s.log.Info("stopping", "signal", sig.String(), "leave", s.cfg.Leave)
			s.cfg.Stopping()
			return s.stop()
		case e := <-s.events:
			if e.from != s.server {
				continue // one that was replaced
			}
			if e.message != nil {
				s.serving(e.message)
				if !ready {
					ready = true
					s.cfg.Mount.Tune(s.log) // the kernel's handshake has lowered it
					watch.start()
					s.cfg.Ready()
				}
				continue
			}
			if end, err := s.ended(ctx, e.err); end {
				return err
			}
		case <-tick.C:
			watch.restart()
			if why := watch.stuck(s.server); why != "" {
				s.log.Error("the server does not answer; it is replaced", "why", why, "pid", s.server.pid())
				s.server.abandon(why)
			}
		}
	}
}

// serving notes that the server answers requests.
func (s *supervisor) serving(m *message) {
	if s.init == nil {
		s.init = m.Init
	}
	s.server.readySince = time.Now()
	s.log.Info("the server is serving", "pid", s.server.pid(), "took", time.Since(s.server.started).Round(time.Millisecond))
}

// ended decides what comes after a server's end: nothing, after a regular one;
// else another server.
func (s *supervisor) ended(ctx context.Context, cause error) (bool, error) {
	if cause == nil {
		s.log.Info("the server has ended, because somebody unmounted")
		return true, nil
	}
	if s.init == nil {
		return true, errors.Join(startError(cause), s.cfg.Mount.Unmount())
	}
	if s.crashes++; s.server.steady() {
		s.crashes = 1
	}
	s.log.Error("the server has ended; its readers wait for the next one", "cause", cause, "in_a_row", s.crashes)
	if s.crashes >= maxCrashes || s.tooOften(time.Now()) {
		return true, errors.Join(fmt.Errorf("%w: %d times in the last minute, the last time by %w", ErrCrashing, len(s.restarts), cause),
			s.cfg.Mount.Unmount())
	}
	if !s.pause(ctx) {
		return true, s.stop()
	}
	next, err := s.start(ctx, false)
	if err != nil {
		return true, errors.Join(err, s.cfg.Mount.Unmount())
	}
	s.server = next
	return false, nil
}

// tooOften notes a restart and reports whether there were too many.
func (s *supervisor) tooOften(now time.Time) bool {
	s.restarts = slices.DeleteFunc(append(s.restarts, now), func(t time.Time) bool { return now.Sub(t) > restartWindow })
	return len(s.restarts) > maxRestarts
}

// pause waits before a restart: not at all after the first crash, then longer
// and longer, up to 2 s.
func (s *supervisor) pause(ctx context.Context) bool {
	if s.crashes <= 1 {
		return true
	}
	wait := min(100*time.Millisecond<<(2*(s.crashes-2)), 2*time.Second)
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// stop takes the mount away, which ends the server, and does not wait longer
// than it said for that.
func (s *supervisor) stop() error {
	var err error
	if s.cfg.Leave {
		s.server.kill()
	} else {
		err = s.cfg.Mount.Unmount()
	}
	timeout := time.After(stopWithin)
	for {
		select {
		case e := <-s.events:
			if e.from == s.server && e.message == nil {
				return err
			}
		case <-timeout:
			s.server.kill()
			return err
		}
	}
}

// upgrade starts a new server beside the old one, and replaces the old one
// once the new one could serve.
func (s *supervisor) upgrade(ctx context.Context, signals <-chan os.Signal) {
	if s.init == nil {
		s.log.Warn("no upgrade: the first server is not ready yet")
		return
	}
	next, err := s.start(ctx, true)
	if err != nil {
		s.log.Error("no upgrade: the new server can't be started", "cause", err)
		return
	}
	timeout := time.After(readyWithin)
	for {
		select {
		case e := <-s.events:
			switch {
			case e.from == next && e.message != nil:
				s.replace(next)
				return
			case e.from == next:
				s.log.Error("no upgrade: the new server ended before it was ready; the old one stays", "cause", e.err)
				return
			case e.from == s.server && e.message == nil:
				s.log.Error("the old server ended during the upgrade", "cause", e.err)
				s.replace(next)
				return
			}
		case <-timeout:
			next.kill()
			s.log.Error("no upgrade: the new server was not ready in time; the old one stays", "limit", readyWithin)
			return
		case sig := <-signals:
			if sig != unix.SIGUSR2 {
				next.kill()
				s.log.Info("the upgrade was given up for a stop")
				_ = unix.Kill(os.Getpid(), sig.(unix.Signal)) // the loop takes it
				return
			}
		}
	}
}

// replace ends the old server and tells the new one to go on. The old one is
// killed, not asked: whatever it is in the middle of is sent again.
func (s *supervisor) replace(next *child) {
	old := s.server
	s.server = next
	old.kill()
	old.waitGone(killGrace)
	next.started = time.Now()
	if err := next.send(message{Go: true}); err != nil {
		s.log.Error("the new server can't be told to go on", "cause", err)
		next.kill()
	}
}

// StartError is the end of a server that never served.
type StartError struct {
	Code int // it exited with; below 0 where a signal ended it
	Err  error
}

func (e *StartError) Error() string { return "the server could not start: " + e.Err.Error() }

func (e *StartError) Unwrap() error { return e.Err }

func startError(cause error) error {
	e := &StartError{Code: -1, Err: cause}
	var exit *exec.ExitError
	if errors.As(cause, &exit) {
		e.Code = exit.ExitCode()
	}
	return e
}

// Supported reports whether this kernel can hand a mount from one server to
// another: FUSE_NOTIFY_RESEND and passthrough came with Linux 6.9.
func Supported() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 6 || major == 6 && minor >= 9
}
