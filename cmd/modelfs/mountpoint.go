package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"modelfs/cmd/modelfs/config"
	"modelfs/internal/mountinfo"
)

// mountPoint is where to mount, as the mount table will show it. The error has
// an exit code.
func mountPoint(arg string) (string, error) {
	point, err := mountPath(arg)
	if errors.Is(err, os.ErrNotExist) {
		point, err = filepath.Abs(arg) // mounting says what to do
	}
	var coded *exitError
	if err != nil && !errors.As(err, &coded) {
		err = withCode(exitMount, err)
	}
	return point, err
}

// checkApart refuses a mount that would cover what it reads, or show itself:
// modelfs would wait for its own answers. In the backing dir it may lie: only
// what modelfs has made there is read.
func checkApart(cfg *config.Config, point string) error {
	for _, of := range []struct {
		name string
		dirs []string
	}{{"cache", []string{cfg.Cache}}, {"local", cfg.Local}, {"shared", cfg.Shared}} {
		for _, dir := range of.dirs {
			at := dir
			if of.name != "shared" { // a share may hang
				if real, err := mountPath(dir); err == nil {
					at = real
				}
			}
			if within(at, point) || of.name != "cache" && within(point, at) {
				return withCode(exitUsage, fmt.Errorf(
					"%s: %s can't be used with the mount point %s: one lies in the other, and modelfs would read itself; mount somewhere else",
					cfg.Where(of.name), dir, point))
			}
		}
	}
	return nil
}

// within reports whether path is dir or lies in it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// warnOfHidden says that a mount point has something in it. A modelfs that is
// mounted there is not asked: it may be dead or hung.
func warnOfHidden(point string, log *slog.Logger) {
	list, err := mountinfo.Read()
	if err != nil || slices.Contains(modelfsMounts(list), point) {
		return
	}
	dir, err := os.Open(point)
	if err != nil {
		return // mounting says it
	}
	defer dir.Close()
	if names, _ := dir.Readdirnames(1); len(names) > 0 {
		log.Warn("the mount point is not empty; what is in it can't be reached while modelfs is mounted there",
			"mount_point", point, "such_as", names[0])
	}
}
