package model

import (
	"sort"
	"strings"
)

// A Refusal is a file of a listing that can't be used, and why.
type Refusal struct {
	Path string
	Why  string
}

// ControlDir is the name of the control directory, which no listing may use.
const ControlDir = ".modelfs"

// Listing makes files fit for a Model: sorted by path, and without those that
// invariant 2 forbids, which it returns as refusals. It keeps the first of
// two files with one path. It reuses the slice.
func Listing(files []File) ([]File, []Refusal) {
	var refused []Refusal
	kept := files[:0]
	for _, f := range files {
		if why := refuse(f); why != "" {
			refused = append(refused, Refusal{f.Path, why})
			continue
		}
		kept = append(kept, f)
	}
	if len(kept) > MaxFiles {
		refused = append(refused, Refusal{kept[MaxFiles].Path, "more files than modelfs takes of one model"})
		kept = kept[:MaxFiles]
	}
	sort.SliceStable(kept, func(i, j int) bool { return kept[i].Path < kept[j].Path })
	return dropClashes(kept, refused)
}

func refuse(f File) string {
	switch {
	case !ValidPath(f.Path):
		return "the path is not one that a file inside a model can have"
	case f.Path == ControlDir || strings.HasPrefix(f.Path, ControlDir+"/"):
		return "the name is modelfs's own"
	case f.Size < -1:
		return "the size is negative"
	}
	return ""
}

// dropClashes removes second files of one path and files that are also
// directories. A directory's prefix does not sort next to it ("a", "a-b",
// "a/b": '-' sorts before '/'), so every parent is looked up.
func dropClashes(files []File, refused []Refusal) ([]File, []Refusal) {
	dirs := make(map[string]bool)
	for _, f := range files {
		for i := strings.LastIndexByte(f.Path, '/'); i > 0; i = strings.LastIndexByte(f.Path[:i], '/') {
			dirs[f.Path[:i]] = true
		}
	}
	kept := files[:0]
	last := ""
	for _, f := range files {
		switch {
		case dirs[f.Path]:
			refused = append(refused, Refusal{f.Path, "it is also a directory"})
		case f.Path == last:
			refused = append(refused, Refusal{f.Path, "the listing has it twice"})
		default:
			kept = append(kept, f)
			last = f.Path
		}
	}
	return kept, refused
}
