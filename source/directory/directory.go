// Package directory answers, for one tree of models on this machine's disk or
// on a share: which models are here, and where do their files lie?
//
// A tree is root/name or root/org/repo. Loose weights at its top are models
// too: x.gguf is the file x.gguf and the model x whose only file is
// model.gguf.
//
// Invariants:
//
//  1. Nothing is ever written, and nothing but the first bytes of small
//     weights files and the indexes of sets is read.
//  2. No file outside the root is listed, opened or stat'ed, whatever the
//     symbolic links say; links that end inside the root, or in a place that
//     the operator trusts, are followed.
//  3. Only ENOENT and its kin are absent. A root that is missing is absent
//     for a local tree and unknown for a share, which may not be mounted yet;
//     any other failure is unknown.
//  4. What is remembered of a directory is used only while the directory is as
//     it was; sizes and times of files are never remembered.
//  5. On a share every system call is made by a goroutine that can be left
//     behind; in a local tree the caller makes it.
//
// It does not choose among the files of a model, record revisions, or read
// the stores of other tools.
package directory

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"modelfs/internal/model"
	"modelfs/source/internal/inplace"
	"modelfs/source/internal/tree"
)

// Config says which tree to serve.
type Config struct {
	Root    string           // the tree; made absolute, need not exist
	Kind    model.SourceKind // model.Local or model.Shared
	Trust   []string         // absolute directories outside the tree that its links may lead into
	Skip    []string         // directories at the top that are no models of this tree, nor namespaces
	Timeout time.Duration    // longest wait for one operation on a share; 0: 10 s. Local trees have none
	Log     *slog.Logger     // nil: nothing is logged
}

// A Source is one tree. It is safe for concurrent use. Its ID is "local:" or
// "shared:" and the absolute path of the root.
type Source struct {
	*inplace.Store
	dirs   *tree.Cache
	skip   skipped
	loose  looseFiles
	survey tree.Survey

	mu   sync.Mutex // guards walk
	walk *walk      // the reading of all names that is under way, or nil
}

// New makes a source of the tree at c.Root without touching it. The error is
// of kind Invalid: no root, or a kind that is not a tree's.
func New(c Config) (*Source, error) {
	store, err := inplace.New(c.Kind.String(), inplace.Config{Root: c.Root, Kind: c.Kind, Trust: c.Trust, Timeout: c.Timeout, Log: c.Log})
	if err != nil {
		return nil, err
	}
	s := &Source{Store: store, dirs: tree.NewCache(store.Tree), skip: skipped{names: c.Skip}}
	s.survey.Look, s.survey.Workers = s.sight, runtime.GOMAXPROCS(0)
	if s.Guard != nil {
		s.survey.Workers = sharedWalkers
	}
	return s, nil
}

// Find says what n is in this tree. NotFound: the tree has nothing of that
// name, or nothing with that quantisation, or a revision was asked for, which
// a plain tree does not record. Denied: the directory may not be read.
// Unavailable: the tree could not be asked.
func (s *Source) Find(ctx context.Context, n model.Name) (model.Found, error) {
	return inplace.Run(ctx, s.Store, "looking up "+n.String(), func() (model.Found, error) { return s.find(n) })
}

// List lists the files of what Find found, with their sizes of now. Files
// that vanish meanwhile are left out.
func (s *Source) List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error) {
	return inplace.Run(ctx, s.Store, "listing "+n.String(), func() (*model.Model, error) { return s.list(f) })
}

var _ interface {
	ID() string
	Kind() model.SourceKind
	Find(context.Context, model.Name) (model.Found, error)
	List(context.Context, model.Name, model.Found) (*model.Model, error)
	Names(context.Context) ([]model.Found, error)
	At(abs string) model.Place
} = (*Source)(nil)
