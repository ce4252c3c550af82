package main

import (
	"errors"
	"log/slog"
	"os"
	"reflect"
	"syscall"
	"time"

	"modelfs/internal/model"
	"modelfs/resolver"
	"modelfs/source/discover"
)

// How long a start waits to see what layout a directory has. One that can't be
// read in that time is a plain tree until the next start.
const (
	localLook  = 2 * time.Second // of a disk that has to spin up
	sharedLook = 200 * time.Millisecond
	// recogniserStarts is how long the process that looks at a share may take
	// to begin.
	recogniserStarts = 5 * time.Second
)

// layoutsOf recognises the layouts in a directory, which may hang: look is left
// behind then, and what was seen the last time counts, if known is not nil.
func layoutsOf(root string, as model.SourceKind, limit time.Duration, look func(dir string) ([]discover.Store, error), known resolver.Facts, log *slog.Logger) []placed {
	var before []discover.Store
	var factErr error
	if known != nil {
		_, factErr = known.Get(root, &before)
	}
	seen, err := lookFor(root, limit, look)
	switch {
	case err != nil && len(before) > 0:
		seen = before
		log.Warn("the directory can't be read; it is what it was the last time until modelfs is started again", "directory", root, "cause", err)
	case err != nil:
		seen = []discover.Store{{Dir: root}}
		log.Warn("the directory can't be read; it is taken for a plain tree until modelfs is started again", "directory", root, "cause", err)
	case known != nil && (len(seen) > 1 || seen[0].Kind != "") && !reflect.DeepEqual(seen, before):
		factErr = errors.Join(factErr, known.Put(root, seen))
	}
	if factErr != nil {
		log.Warn("the layout of a share is not remembered", "directory", root, "cause", factErr)
	}
	list := make([]placed, len(seen))
	for i, s := range seen {
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
func localLayouts(dir string) ([]discover.Store, error) {
	switch info, err := os.Stat(dir); {
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, &os.PathError{Op: "reading", Path: dir, Err: syscall.ENOTDIR}
	}
	return discover.Layouts(dir), nil
}
