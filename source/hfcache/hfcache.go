// Package hfcache answers, for one cache of the Hugging Face clients: which
// models are here, at which commit, and where do their files lie?
//
// The cache is that of huggingface_hub, @huggingface/hub, hf-hub and llama.cpp:
// models--org--name/{refs,snapshots,blobs,trees,.no_exist}.
//
// Invariants:
//
//  1. Nothing is ever written.
//  2. A file of a snapshot lies in the snapshot, in its repository's blobs, or
//     in a place that the operator trusts; one that a link puts anywhere else
//     does not exist.
//  3. A name without a revision means refs/main. A commit is shown only as its
//     own snapshot: two are never mixed.
//  4. A file that a snapshot lacks is unknown, not absent. A snapshot that is
//     known to lack something is Broken: any other source ranks before it.
//  5. A hash is stated only where the name of a blob states it.
//
// It does not show datasets and spaces, and does not verify content.
package hfcache

import (
	"context"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
	"modelfs/source/internal/inplace"
	"modelfs/source/internal/tree"
)

// Config says which cache to serve: Root is the directory that holds models--….
type Config = inplace.Config

// A Source is one cache. It is safe for concurrent use.
type Source struct {
	*inplace.Store
	top       *tree.Cache // of the directory of repositories only
	index     blobs.Index
	snapshots snapshots
	survey    tree.Survey
}

// New makes a source of the cache at c.Root without touching it. The error is
// of kind Invalid: no root, or a kind that is not a tree's.
func New(c Config) (*Source, error) {
	store, err := inplace.New("hfcache", c)
	if err != nil {
		return nil, err
	}
	s := &Source{Store: store, top: tree.NewCache(store.Tree)}
	s.survey.Look, s.survey.Workers = sight, workers
	return s, nil
}

// Find says what n is in this cache. NotFound: the cache has nothing of that
// name and revision, or nothing with that quantisation. Denied: it may not be
// read. Unavailable: the cache could not be asked.
func (s *Source) Find(ctx context.Context, n model.Name) (model.Found, error) {
	return inplace.Run(ctx, s.Store, "looking up "+n.String(), func() (model.Found, error) { return s.find(n) })
}

// List lists the files of the snapshot that Find found. Files that vanish
// meanwhile are left out.
func (s *Source) List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error) {
	return inplace.Run(ctx, s.Store, "listing "+n.String(), func() (*model.Model, error) { return s.list(f) })
}

// Names lists the models whose current snapshot holds something to load,
// sorted by name. Whether it is complete is for Find to say.
func (s *Source) Names(ctx context.Context) ([]model.Found, error) {
	return inplace.Run(ctx, s.Store, "listing the cache", s.names)
}

// Refresh brings what BySHA256 answers from up to date: one stat for each
// repository, and a reading of those that have changed.
func (s *Source) Refresh(ctx context.Context) error {
	_, err := inplace.Run(ctx, s.Store, "reading the blobs", func() (struct{}, error) { return struct{}{}, s.refresh() })
	return err
}

// BySHA256 is the blob with this sha256, 64 lower-case hex digits, and its
// size, as of the last Refresh. It does no I/O; the place is NotFound once the
// blob is gone or has another size.
func (s *Source) BySHA256(hex string) (model.Place, int64, bool) { return s.index.Get(hex) }

// Index is what BySHA256 answers from.
func (s *Source) Index() *blobs.Index { return &s.index }
