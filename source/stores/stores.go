// Package stores answers, for one store with a simple layout: which models are
// here, and where do their files lie?
//
// The layouts are those of LM Studio, ModelScope's cache (old and new), the
// flat cache that llama.cpp kept until 2026, Docker Model Runner, and the node
// that modelfs replaces. Each says in a file of its own what is a book: a model
// and the files or the directory that it is made of.
//
// Invariants:
//
//  1. Nothing is ever written.
//  2. No file outside the store, or a place that the operator trusts, is
//     listed or opened, whatever links, manifests and indexes say.
//  3. An unfinished download is never shown.
//  4. What is remembered of a store is used only while the directories that it
//     was read from are as they were.
package stores

import (
	"context"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
	"modelfs/source/internal/inplace"
	"modelfs/source/internal/tree"
)

// Layout is a kind of store.
type Layout string

// The layouts. Their values begin the ID of a source.
const (
	LMStudio   Layout = "lmstudio"   // publisher/model/files
	ModelScope Layout = "modelscope" // models/owner--name/snapshots/revision/files, and older ones
	LlamaCpp   Layout = "llamacpp"   // owner_name_file.gguf with .json or .etag beside it
	Docker     Layout = "docker"     // models.json, manifests/sha256, blobs/sha256
	Node       Layout = "node"       // name/model.gguf and the like, in lower case
)

// shelf reads the books of a layout. The order is that of belief: of two books
// with one name the first counts.
type shelf func(l *look) ([]*book, error)

var shelves = map[Layout]shelf{LMStudio: lmStudio, ModelScope: modelScope, LlamaCpp: llamaCpp, Docker: docker, Node: node}

// Config says which store to serve.
type Config = inplace.Config

// A Source is one store. It is safe for concurrent use.
type Source struct {
	*inplace.Store
	shelf   shelf
	dirs    *tree.Cache
	index   blobs.Index
	catalog catalog
}

// New makes a source of the store at c.Root without touching it. The error is
// of kind Invalid: no root, a kind that is not a tree's, or no such layout.
func New(l Layout, c Config) (*Source, error) {
	if shelves[l] == nil {
		return nil, model.Errorf(model.Invalid, "there is no layout %q", l)
	}
	store, err := inplace.New(string(l), c)
	if err != nil {
		return nil, err
	}
	return &Source{Store: store, shelf: shelves[l], dirs: tree.NewCache(store.Tree)}, nil
}

// Find says what n is in this store. NotFound: the store has nothing of that
// name, quantisation and revision. Denied: it may not be read. Unavailable:
// the store could not be asked.
func (s *Source) Find(ctx context.Context, n model.Name) (model.Found, error) {
	return inplace.Run(ctx, s.Store, "looking up "+n.String(), func() (model.Found, error) { return s.find(n) })
}

// List lists the files of what Find found. Files that vanish meanwhile are
// left out.
func (s *Source) List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error) {
	return inplace.Run(ctx, s.Store, "listing "+n.String(), func() (*model.Model, error) { return s.list(n, f) })
}

// Names lists the models of the store that hold something to load, sorted by
// name. Whether they are whole is for Find to say.
func (s *Source) Names(ctx context.Context) ([]model.Found, error) {
	return inplace.Run(ctx, s.Store, "listing the store", s.names)
}

// Refresh brings what BySHA256 answers from up to date: one stat unless the
// blobs have changed. Stores that don't name files by their hash have none.
func (s *Source) Refresh(ctx context.Context) error {
	_, err := inplace.Run(ctx, s.Store, "reading the blobs", func() (struct{}, error) {
		return struct{}{}, s.index.Refresh(s.Tree, []blobs.Dir{{Path: dockerBlobs, Hash: dockerHash, Place: func(name string, size int64) *tree.Place {
			return s.Tree.Place(s.Guard, dockerBlobs+"/"+name, size)
		}}})
	})
	return err
}

// BySHA256 is the blob with this sha256, 64 lower-case hex digits, and its
// size, as of the last Refresh. It does no I/O; the place is NotFound once the
// blob is gone or has another size.
func (s *Source) BySHA256(hex string) (model.Place, int64, bool) { return s.index.Get(hex) }

// Index is what BySHA256 answers from.
func (s *Source) Index() *blobs.Index { return &s.index }
