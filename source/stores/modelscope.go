package stores

import (
	"slices"
	"strings"

	"modelfs/internal/model"
	"modelfs/source/internal/blobs"
)

// notOwners are directories of ModelScope's caches that are no owners.
var notOwners = map[string]bool{"models": true, "datasets": true, "studios": true, "skills": true, "hub": true, "temp": true, "ast_indexer": true, "credentials": true}

// modelScope reads the three generations of ModelScope's cache. The client
// goes on using an older copy where there is one, so that is believed first.
func modelScope(l *look) ([]*book, error) {
	var books []*book
	for _, root := range []string{"hub/models", "models", "hub"} {
		old, err := l.pairs(root, notOwners, undot)
		if err != nil {
			return nil, err
		}
		// A directory of the new layout is no owner, and holds one thing.
		old = slices.DeleteFunc(old, func(b *book) bool {
			owner, name, _ := strings.Cut(b.name, "/")
			return strings.Contains(owner, "--") && name == "snapshots"
		})
		books = append(books, old...)
	}
	for _, root := range []string{"models", "hub/models"} {
		snapshots, err := l.snapshots(root)
		if err != nil {
			return nil, err
		}
		books = append(books, snapshots...)
	}
	return books, nil
}

// undot restores the dots that older clients could not keep in names.
func undot(name string) string { return strings.ReplaceAll(name, "___", ".") }

// snapshots are root/owner--name/snapshots/revision. A revision is a branch or
// a tag as it was asked for; without one the client takes master, then main,
// then the only one that is here.
func (l *look) snapshots(root string) ([]*book, error) {
	top, err := l.list(root)
	if err != nil {
		return nil, err
	}
	var books []*book
	for _, d := range top.Dirs {
		owner, name, ok := strings.Cut(d, "--")
		if !ok || !model.ValidEntry(owner) || !model.ValidEntry(name) {
			continue
		}
		dir := root + "/" + d + "/snapshots"
		in, err := l.list(dir)
		if err != nil {
			return nil, err
		}
		name = owner + "/" + name
		if rev := defaultRevision(in.Dirs); rev != "" {
			books = append(books, &book{name: name, revision: commit(rev), dir: dir + "/" + rev})
		}
		for _, rev := range in.Dirs {
			books = append(books, &book{name: name + "@" + rev, revision: commit(rev), dir: dir + "/" + rev})
		}
	}
	return books, nil
}

// commit is rev, if it is one.
func commit(rev string) string {
	if blobs.IsSHA1(rev) {
		return rev
	}
	return ""
}

func defaultRevision(have []string) string {
	for _, rev := range []string{"master", "main"} {
		if slices.Contains(have, rev) {
			return rev
		}
	}
	if len(have) == 1 {
		return have[0]
	}
	return ""
}
