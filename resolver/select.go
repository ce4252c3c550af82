package resolver

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"modelfs/internal/format"
	"modelfs/internal/model"
)

// partName is how the parts of a split GGUF are named.
var partName = regexp.MustCompile(`(?i)-([0-9]{5})-of-([0-9]{5})\.gguf$`)

// aliasFile is the name that points at the default file. Where a model has a
// real file of that name at its top, that is it.
const aliasFile = "model.gguf"

// isPart reports whether p is one of several parts. A set of one is a file.
func isPart(p string) bool {
	m := partName.FindStringSubmatch(p)
	if m == nil {
		return false
	}
	total, err := strconv.Atoi(m[2])
	return err != nil || total != 1
}

// offers reports whether m is there in the quantisation: a router states that
// of the whole model as a tag, elsewhere the names of the files say it.
func offers(m *model.Model, quant string) bool {
	stated := func(tag string) bool { return strings.EqualFold(tag, quant) }
	return m.Kind == model.Router && slices.ContainsFunc(m.Tags, stated) || format.HasQuant(m.Files, quant)
}

// defaultFile is the file that model.gguf points at, and why: of the
// single-file GGUFs that are not hidden the one that quant selects, or the
// first of the preferences that is there, or the first in the order of names.
// "" where there is none or a real file has the name.
func defaultFile(files []model.File, hidden map[string]bool, quant string, prefer []string) (file, why string) {
	var paths []string
	parts := false
	for _, f := range files {
		switch {
		case f.Path == aliasFile:
			return "", "the model has a file of that name"
		case !format.IsGGUF(f.Path) || format.IsCompanion(f.Path) || hidden[f.Path]:
		case isPart(f.Path):
			parts = true
		default:
			paths = append(paths, f.Path)
		}
	}
	switch {
	case len(paths) == 0 && parts:
		return "", "its GGUF files are parts of sets"
	case len(paths) == 0:
		return "", "it has no GGUF file"
	case quant != "" && format.HasQuant(files, quant):
		if p := pick(paths, quant); p != "" {
			return p, "the name asks for " + quant
		}
		return "", "the name asks for " + quant + ", which is there in parts only"
	case len(paths) == 1:
		return paths[0], "its only GGUF file"
	}
	for _, q := range prefer {
		if p := pick(paths, q); p != "" {
			return p, fmt.Sprintf("%s is preferred", q)
		}
	}
	return paths[0], "the first in the order of names"
}

// pick is the first of paths whose label is quant, else the first that has it
// as a word ("UD-Q4_K_M" for Q4_K_M), else "".
func pick(paths []string, quant string) string {
	for _, match := range []func(p, quant string) bool{
		func(p, quant string) bool { return format.QuantLabel(p) == strings.ToUpper(quant) },
		format.HasQuantWord,
	} {
		for _, p := range paths {
			if match(p, quant) {
				return p
			}
		}
	}
	return ""
}
