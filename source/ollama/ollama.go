// Package ollama answers, for one store of Ollama: which models are here, and
// which blobs are they made of?
//
// The store is manifests/<host>/<namespace>/<model>/<tag>, each the manifest
// of a registry, and blobs/sha256-<hex>. The tag is the quantisation of a name:
// llama3.2:1b is Repo "llama3.2" and Quant "1b"; without one it is latest.
//
// Invariants:
//
//  1. Nothing is ever written.
//  2. A layer is shown only while its blob is a regular file of the size that
//     the manifest states; an unfinished download never is.
//  3. Hosts are believed in a fixed order, so a name means one model.
//  4. A Hub repository without a quantisation is Broken here: the store has
//     single files of it, without their names. Any other source ranks before.
//
// It pulls nothing, and does not assemble models that are kept as single
// tensors, which only Ollama reads.
package ollama

import (
	"context"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
	"modelfs/source/internal/inplace"
	"modelfs/source/internal/tree"
)

// Config says which store to serve: Root is the directory that holds manifests
// and blobs.
type Config = inplace.Config

// A Source is one store. It is safe for concurrent use.
type Source struct {
	*inplace.Store
	dirs      *tree.Cache
	index     blobs.Index
	manifests manifests
	glances   glances
}

// New makes a source of the store at c.Root without touching it. The error is
// of kind Invalid: no root, or a kind that is not a tree's.
func New(c Config) (*Source, error) {
	store, err := inplace.New("ollama", c)
	if err != nil {
		return nil, err
	}
	return &Source{Store: store, dirs: tree.NewCache(store.Tree)}, nil
}

// Find says what n is in this store. NotFound: the store has nothing of that
// name and tag, or a revision was asked for, which it does not record. Denied:
// it may not be read. Unavailable: the store could not be asked.
func (s *Source) Find(ctx context.Context, n model.Name) (model.Found, error) {
	return inplace.Run(ctx, s.Store, "looking up "+n.String(), func() (model.Found, error) { return s.find(n) })
}

// List lists the layers of the model that Find found, as files.
func (s *Source) List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error) {
	return inplace.Run(ctx, s.Store, "listing "+n.String(), func() (*model.Model, error) { return s.list(f) })
}

// Names lists the models that have weights here, sorted by name: "llama3.2" is
// the tag latest, "llama3.2:1b" any other. The sizes of blobs are for Find to
// check.
func (s *Source) Names(ctx context.Context) ([]model.Found, error) {
	return inplace.Run(ctx, s.Store, "listing the store", s.names)
}

// Refresh brings what BySHA256 answers from up to date: one stat unless the
// blobs have changed.
func (s *Source) Refresh(ctx context.Context) error {
	_, err := inplace.Run(ctx, s.Store, "reading the blobs", func() (struct{}, error) {
		return struct{}{}, s.index.Refresh(s.Tree, []blobs.Dir{{Path: "blobs", Hash: blobHash, Place: s.place}})
	})
	return err
}

// BySHA256 is the blob with this sha256, 64 lower-case hex digits, and its
// size, as of the last Refresh. It does no I/O; the place is NotFound once the
// blob is gone or has another size.
func (s *Source) BySHA256(hex string) (model.Place, int64, bool) { return s.index.Get(hex) }

// Index is what BySHA256 answers from.
func (s *Source) Index() *blobs.Index { return &s.index }

// place is the blob with the given file name, while it has size bytes.
func (s *Source) place(name string, size int64) *tree.Place {
	return s.Tree.Place(s.Guard, "blobs/"+name, size)
}
