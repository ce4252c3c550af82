package resolver

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"modelfs/internal/model"
)

// labels are the quantisations that file names state, as ggml writes them.
var labels = regexp.MustCompile(`(?i)(UD-)?(BF16|F16|F32|MXFP4(_MOE)?|NVFP4|IQ[0-9]_[A-Z]+(_[A-Z]+)*|T?Q[0-9]_[0-9K](_[A-Z]+)*)`)

// partName is how the parts of a split GGUF are named.
var partName = regexp.MustCompile(`(?i)-([0-9]{5})-of-([0-9]{5})\.gguf$`)

// aliasFile is the name that points at the default file. Where a model has a
// real file of that name at its top, that is it.
const aliasFile = "model.gguf"

// companions are words in the names of GGUF files that go with a model and
// are none: projectors, importance matrices, and draft heads.
var companions = []string{"mmproj", "imatrix"}

func isGGUF(p string) bool { return strings.EqualFold(path.Ext(p), ".gguf") }

func isCompanion(p string) bool {
	name := strings.ToLower(path.Base(p))
	for _, word := range companions {
		if strings.Contains(name, word) {
			return true
		}
	}
	return strings.HasPrefix(name, "mtp-")
}

// isPart reports whether p is one of several parts. A set of one is a file.
func isPart(p string) bool {
	m := partName.FindStringSubmatch(p)
	if m == nil {
		return false
	}
	total, err := strconv.Atoi(m[2])
	return err != nil || total != 1
}

// label is the quantisation that a path states, in upper case, or "": the last
// one of the file's name, else of its directories.
func label(p string) string {
	for ; p != "." && p != "/"; p = path.Dir(p) {
		base := path.Base(p)
		if isGGUF(base) {
			base = base[:len(base)-len(".gguf")]
		}
		if all := labels.FindAllString(base, -1); all != nil {
			return strings.ToUpper(all[len(all)-1])
		}
	}
	return ""
}

// hasWord reports whether a path has quant as a word of its own, ignoring
// case. Words end at '-', '.' and '/': '_' is part of labels (Q4_K is not
// Q4_K_M).
func hasWord(p, quant string) bool {
	isBreak := func(r rune) bool { return r == '-' || r == '.' || r == '/' }
	words := "-" + strings.Join(strings.FieldsFunc(strings.ToLower(p), isBreak), "-") + "-"
	want := strings.Join(strings.FieldsFunc(strings.ToLower(quant), isBreak), "-")
	return want != "" && strings.Contains(words, "-"+want+"-")
}

func matches(p, quant string) bool { return label(p) == strings.ToUpper(quant) || hasWord(p, quant) }

// hasQuant reports whether a listing has a GGUF model of the quantisation,
// whole or in parts.
func hasQuant(files []model.File, quant string) bool {
	for _, f := range files {
		if isGGUF(f.Path) && !isCompanion(f.Path) && matches(f.Path, quant) {
			return true
		}
	}
	return false
}

// offers reports whether m is there in the quantisation: a router states that
// of the whole model as a tag, elsewhere the names of the files say it.
func offers(m *model.Model, quant string) bool {
	stated := func(tag string) bool { return strings.EqualFold(tag, quant) }
	return m.Kind == model.Router && slices.ContainsFunc(m.Tags, stated) || hasQuant(m.Files, quant)
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
		case !isGGUF(f.Path) || isCompanion(f.Path) || hidden[f.Path]:
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
	case quant != "" && hasQuant(files, quant):
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
		func(p, quant string) bool { return label(p) == strings.ToUpper(quant) },
		hasWord,
	} {
		for _, p := range paths {
			if match(p, quant) {
				return p
			}
		}
	}
	return ""
}
