// Package control answers: how does a command ask the process that owns a
// backing dir? Through a unix socket in that directory, on which the owner
// serves HTTP with JSON.
//
// Invariants:
//
//  1. Who may connect is who may write the socket: it is made with mode 0600,
//     and never exists with another one.
//  2. Only the holder of the backing dir's lock listens, so a socket that is
//     there before it does is a dead one's, and is replaced.
//  3. A request ends when its client leaves or the Server closes, whichever is
//     first; Close waits for all of them.
//  4. An error keeps its kind across the socket.
//  5. The address does not depend on the length of the directory's name, which
//     sun_path would limit to 107 bytes.
//
// It does none of the work: that is done by what is given to [Listen], and a
// [Client] has the same methods, so that a command need not care which of the
// two it has.
package control

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// socketFile is the socket's name in the backing dir.
const socketFile = "control.sock"

// A Puller fetches the files of a model.
type Puller interface {
	// Pull returns when all of them are here, or one failed for good. report
	// is called by one goroutine at a time, and not after Pull has returned.
	Pull(ctx context.Context, req PullRequest, report func(Event)) error
}

// A Keeper changes what the backing dir keeps. Names may have :quant and
// @revision.
type Keeper interface {
	Pin(ctx context.Context, name string) (Kept, error)    // keep from eviction
	Unpin(ctx context.Context, name string) (Kept, error)  // let it be evicted again
	Remove(ctx context.Context, name string) (Kept, error) // drop now
}

// A Lister says what is known.
type Lister interface {
	// List lists the models whose name matches the pattern of path.Match
	// (against the whole name or its last segment; "" is all), by name.
	List(ctx context.Context, pattern string) ([]Model, error)
}

// A PullRequest says what to pull.
type PullRequest struct {
	Name   string `json:"name"`
	Update bool   `json:"update,omitempty"` // ask what the name means now
}

// A State says how a file of a pull is doing.
type State string

// The states.
const (
	Listed  State = "listed"  // of the model: what will be pulled; Path is ""
	Filling State = "filling" // bytes are coming, or waited for
	Done    State = "done"    // the file is here
	Failed  State = "failed"
)

// An Event is the progress of one file, or with Path "" of the model.
type Event struct {
	Path   string `json:"path,omitempty"`
	State  State  `json:"state"`
	Done   int64  `json:"done"`             // bytes that are here
	Total  int64  `json:"total"`            // bytes; -1: unknown
	Files  int    `json:"files,omitempty"`  // with Listed: how many will be pulled; 0: the model is read in place
	Source string `json:"source,omitempty"` // with Listed: who has the model
	Commit string `json:"commit,omitempty"` // with Listed: its revision, where it has one
	Error  string `json:"error,omitempty"`  // with Failed
}

// Kept is the outcome of a Keeper's method.
type Kept struct {
	Name  string   `json:"name"`
	Files int      `json:"files"`          // that were changed
	Bytes int64    `json:"bytes"`          // of theirs that are here, or were before Remove
	Paths []string `json:"held,omitempty"` // with Remove: files that could not be dropped
}

// A Model is one line of a listing.
type Model struct {
	Name         string   `json:"name"`
	Source       string   `json:"source"` // ID
	Revision     string   `json:"revision,omitempty"`
	InPlace      bool     `json:"in_place"` // it is read where it lies
	Files        int      `json:"files"`    // -1: nobody has listed them yet
	Size         int64    `json:"size"`     // bytes; -1: unknown
	Here         int64    `json:"here"`     // bytes in the backing dir
	Pinned       bool     `json:"pinned,omitempty"`
	Format       string   `json:"format,omitempty"`
	Quant        string   `json:"quant,omitempty"`
	Architecture string   `json:"architecture,omitempty"`
	Parameters   string   `json:"parameters,omitempty"`
	Backends     []string `json:"backends,omitempty"` // that can run it, perhaps with limits
	Limited      []string `json:"limited,omitempty"`  // those of Backends that run it on some devices only, or slowly, or partly
	Broken       string   `json:"broken,omitempty"`   // why it can't be loaded: a part is missing, a file is truncated
	Hidden       bool     `json:"hidden,omitempty"`   // the mount's listing leaves it out
	Why          string   `json:"why,omitempty"`      // it, or files of it, are left out; or can't be listed
}

// A failure is an error as it crosses the socket.
type failure struct {
	Text string `json:"error"`
	Kind string `json:"kind"`
}

func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	return &failure{err.Error(), model.KindOf(err).String()}
}

// err is the error again; nil for nil.
func (f *failure) err() error {
	if f == nil {
		return nil
	}
	for k := model.Internal; k <= model.Invalid; k++ {
		if k.String() == f.Kind {
			return model.Errorf(k, "%s", f.Text)
		}
	}
	return model.Errorf(model.Internal, "%s", f.Text)
}

// A line is one of the lines that answer a pull: an event, or the last one.
type line struct {
	Event *Event   `json:"event,omitempty"`
	End   bool     `json:"end,omitempty"`
	Fail  *failure `json:"fail,omitempty"` // with End
}

// openDir opens a directory for use in an address.
func openDir(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return os.NewFile(uintptr(fd), dir), nil
}

// address is the socket's address while dir is open.
func address(dir *os.File) string {
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), socketFile)
}
