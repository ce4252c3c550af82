// Package weights answers, from the names of files and very little content:
// is there a model to load, and is it whole?
//
// Invariants:
//
//  1. Content is read only of indexes of sets and of weights files so small
//     that they may be Git-LFS pointers.
//  2. What a file says is bounded and checked before it is believed.
//
// It does no I/O of its own: a Reader does.
package weights

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"modelfs/internal/format"
	"modelfs/internal/model"
)

const (
	// maxPointer is above the size of any Git-LFS pointer (about 130 bytes;
	// the format allows 1024) and below that of any weights.
	maxPointer = 1024
)

const pointerStart = "version https://git-lfs"

// Is reports whether a file's name is that of something to load.
func Is(name string) bool { return format.IsWeights(name) }

// IsProjector reports whether a name is that of a multimodal projector, which
// is no model by itself.
func IsProjector(name string) bool {
	return strings.Contains(strings.ToLower(path.Base(name)), "mmproj")
}

// IsIndex reports whether a file lists the parts of a set.
func IsIndex(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".safetensors.index.json") || strings.HasSuffix(name, ".bin.index.json")
}

// IsMarker reports whether a file says that its directory is a model's.
func IsMarker(name string) bool {
	return name == "config.json" || name == "model_index.json" || IsIndex(name)
}

// partPattern is how parts of a set are named: prefix-00001-of-00003.ext.
var partPattern = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})(\.[A-Za-z]+)$`)

// Loose is the name of the model that a loose file is. Parts of a set and
// projectors are none: alone they can't be loaded.
func Loose(file string) (string, bool) {
	if !Is(file) || partPattern.MatchString(file) || IsProjector(file) {
		return "", false
	}
	stem := file[:len(file)-len(path.Ext(file))]
	return stem, model.ValidEntry(stem)
}

// IsOf reports whether a file is a GGUF file of the quantisation, by its path.
func IsOf(file, quant string) bool { return format.IsGGUF(file) && format.MatchesQuant(file, quant) }

// A Reader knows the files that are judged, by their paths in the model.
type Reader interface {
	// Size is the size of a file; NotFound if it is gone.
	Size(file string) (int64, error)
	// Head is the first n bytes of a file, or all of it.
	Head(file string, n int64) ([]byte, error)
}

// Judge says why the files, sorted paths in a model, can't be loaded, or "".
// With a quantisation only the GGUF files that carry it count, and NotFound
// says that there is none. Other errors are the Reader's.
func Judge(files []string, quant string, r Reader) (string, error) {
	loads := selected(files, quant)
	if len(loads) == 0 && quant != "" {
		return "", model.Errorf(model.NotFound, "no GGUF file of %s", quant)
	}
	if len(loads) == 0 {
		return "it holds no weights", nil
	}
	if missing := MissingPart(loads); missing != "" {
		return missing, nil
	}
	for _, f := range loads {
		if why, err := hollow(f, r); why != "" || err != nil {
			return why, err
		}
	}
	if quant != "" {
		return "", nil
	}
	return judgeIndexes(files, r)
}

// selected are the weights among files that count for a name with quant.
func selected(files []string, quant string) []string {
	var loads []string
	for _, f := range files {
		if Is(f) && (quant == "" || IsOf(f, quant)) {
			loads = append(loads, f)
		}
	}
	return loads
}

// MissingPart names the first missing part of a numbered set, as a reason, or "".
func MissingPart(files []string) string {
	have := make(map[string]bool, len(files))
	for _, f := range files {
		have[f] = true
	}
	for _, f := range files {
		m := partPattern.FindStringSubmatch(f)
		if m == nil {
			continue
		}
		total, _ := strconv.Atoi(m[3])
		// Stops at the first gap, so it looks no further than there are files.
		for i := 1; i <= total; i++ {
			if part := fmt.Sprintf("%s-%05d-of-%s%s", m[1], i, m[3], m[4]); !have[part] {
				return fmt.Sprintf("%s of the set is missing", part)
			}
		}
	}
	return ""
}

// hollow says why a weights file holds no weights, or "". A file that is gone
// by now is a reason too.
func hollow(file string, r Reader) (string, error) {
	size, err := r.Size(file)
	switch {
	case model.IsKind(err, model.NotFound):
		return path.Base(file) + " is missing", nil
	case err != nil:
		return "", err
	case size == 0:
		return path.Base(file) + " is empty", nil
	case size > maxPointer:
		return "", nil
	}
	head, err := r.Head(file, int64(len(pointerStart)))
	if err == nil && string(head) == pointerStart {
		return path.Base(file) + " is a Git-LFS pointer, not the file itself; run git lfs pull", nil
	}
	return "", err
}

// judgeIndexes checks that each part that an index names is there.
func judgeIndexes(files []string, r Reader) (string, error) {
	for _, index := range files {
		if !IsIndex(index) {
			continue
		}
		raw, err := r.Head(index, format.MaxIndex+1)
		if err != nil {
			return "", err
		}
		parts, err := format.ParseIndex(raw)
		if err != nil {
			return fmt.Sprintf("%s can't be used: %v", index, err), nil
		}
		for _, p := range parts {
			part := path.Join(path.Dir(index), p)
			if _, ok := slices.BinarySearch(files, part); !ok {
				return fmt.Sprintf("%s of the set is missing", part), nil
			}
			if why, err := hollow(part, r); why != "" || err != nil {
				return why, err
			}
		}
	}
	return "", nil
}

// maxParts bounds the parts of a set that Parts names.
const maxParts = 1000

// Parts are the names of all parts of the numbered set that file is one of, or
// nil.
func Parts(file string) []string {
	m := partPattern.FindStringSubmatch(file)
	if m == nil {
		return nil
	}
	total, err := strconv.Atoi(m[3])
	if err != nil || total > maxParts {
		return nil
	}
	parts := make([]string, total)
	for i := range parts {
		parts[i] = fmt.Sprintf("%s-%05d-of-%s%s", m[1], i+1, m[3], m[4])
	}
	return parts
}
