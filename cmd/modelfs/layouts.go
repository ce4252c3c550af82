package main

import (
	"errors"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"modelfs/internal/model"
	"modelfs/resolver"
	"modelfs/source/discover"
)

// How long a start waits to see what layout a directory has. One that can't be
// read in that time is a plain tree until the next start, a share what it was
// the last time.
const (
	localLook  = 2 * time.Second        // of a disk that has to spin up
	firstLook  = 2 * time.Second        // of a share that no start has seen: an automounter may have to mount it
	sharedLook = 200 * time.Millisecond // of one that was seen: readers may be waiting for a server that starts again
	// recogniserStarts is how long the process that looks at a share may take
	// to begin.
	recogniserStarts = 5 * time.Second
)

// layoutsOf recognises the layouts in a directory of this machine.
func layoutsOf(root string, log *slog.Logger) []placed {
	seen, err := lookFor(root, localLook, localLayouts)
	if err != nil {
		seen = plain(root, log, err)
	}
	return placeAll(seen, model.Local, log)
}

// layoutsOfShares recognises the layouts in the directories of shares, which
// may hang, all at once. What was seen of one the last time is in known, which
// may be nil, and counts if it does not answer.
func layoutsOfShares(roots []string, known resolver.Facts, log *slog.Logger) []placed {
	lists := make([][]placed, len(roots))
	var wg sync.WaitGroup
	for i, root := range roots {
		wg.Go(func() { lists[i] = placeAll(seenOfShare(root, known, log), model.Shared, log) })
	}
	wg.Wait()
	return slices.Concat(lists...)
}

func seenOfShare(root string, known resolver.Facts, log *slog.Logger) []discover.Store {
	var before []discover.Store
	var factErr error
	if known != nil {
		_, factErr = known.Get(root, &before)
	}
	limit := sharedLook
	if len(before) == 0 {
		limit = firstLook
	}
	seen, err := lookFor(root, recogniserStarts+limit, func(dir string) ([]discover.Store, error) { return sharedLayouts(dir, limit) })
	switch {
	case err != nil && len(before) > 0:
		seen = before
		log.Warn("the directory can't be read; it is what it was the last time until modelfs is started again", "directory", root, "cause", err)
	case err != nil:
		seen = plain(root, log, err)
	case known != nil && !reflect.DeepEqual(seen, before):
		factErr = errors.Join(factErr, known.Put(root, seen))
	}
	if factErr != nil {
		log.Warn("the layout of a share is not remembered", "directory", root, "cause", factErr)
	}
	return seen
}

// plain is what a directory that can't be read is taken for.
func plain(root string, log *slog.Logger, cause error) []discover.Store {
	log.Warn("the directory can't be read; it is taken for a plain tree until modelfs is started again", "directory", root, "cause", cause)
	return []discover.Store{{Dir: root}}
}

func placeAll(stores []discover.Store, as model.SourceKind, log *slog.Logger) []placed {
	list := make([]placed, len(stores))
	for i, s := range stores {
		if s.Kind != "" {
			log.Info("the directory is the store of another tool", "layout", s.Kind, "directory", s.Dir)
		}
		list[i] = placed{s, as}
	}
	return list
}

// lookFor waits for look no longer than limit. Without an error there is at
// least one layout.
func lookFor(root string, limit time.Duration, look func(dir string) ([]discover.Store, error)) ([]discover.Store, error) {
	type result struct {
		stores []discover.Store
		err    error
	}
	seen := make(chan result, 1)
	go func() {
		stores, err := look(root)
		if err == nil && len(stores) == 0 {
			stores = []discover.Store{{Dir: root}}
		}
		seen <- result{stores, err}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-seen:
		return r.stores, r.err
	case <-timer.C:
		return nil, os.ErrDeadlineExceeded
	}
}

// localLayouts looks from here: a thread that is stuck on a disk is lost.
func localLayouts(dir string) ([]discover.Store, error) { return layoutsBy(discover.LocalLayouts, dir) }

// layoutsBy is what layouts sees in a directory that there is.
func layoutsBy(layouts func(dir string) []discover.Store, dir string) ([]discover.Store, error) {
	switch info, err := os.Stat(dir); {
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, &os.PathError{Op: "reading", Path: dir, Err: syscall.ENOTDIR}
	}
	return layouts(dir), nil
}
