package format

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"modelfs/internal/model"
)

// A grouper collects a model's files into artifacts.
type grouper struct {
	hints  Hints
	words  evidence        // what name and tags say
	graphs map[string]bool // lower-case paths, without ending, of .xml files: an OpenVINO graph lies beside its .bin
	onnx   map[string]bool // lower-case directories that hold .onnx files
	groups map[string]*group
}

type group struct {
	Artifact
	files []*model.File
}

func newGrouper(m *model.Model, h Hints) *grouper {
	g := &grouper{hints: h, words: gather(m), graphs: make(map[string]bool), onnx: make(map[string]bool), groups: make(map[string]*group)}
	for _, f := range m.Files {
		switch lower := strings.ToLower(f.Path); path.Ext(lower) {
		case ".xml":
			g.graphs[strings.TrimSuffix(lower, ".xml")] = true
		case ".onnx":
			g.onnx[path.Dir(lower)] = true
		}
	}
	return g
}

// add puts a file into its artifact, if it belongs to one.
func (g *grouper) add(f *model.File) {
	lower := strings.ToLower(f.Path)
	if isText(lower) {
		return
	}
	a, id := g.place(f.Path, lower)
	if a.Format == "" {
		return
	}
	id = string(a.Format) + "\x00" + string(a.Target) + "\x00" + id
	if g.groups[id] == nil {
		g.groups[id] = &group{Artifact: a}
	}
	g.groups[id].files = append(g.groups[id].files, f)
}

// partName is how the parts of a set are named.
var partName = regexp.MustCompile(`^(.+)-([0-9]{5})-of-([0-9]{5})(\.[A-Za-z]+)$`)

// partOf are the submatches of partName, or nil. Most files are no parts.
func partOf(p string) []string {
	if !strings.Contains(p, "-of-") {
		return nil
	}
	return partName.FindStringSubmatch(p)
}

// setName is the same for all parts of a numbered set, and different for
// everything else.
func setName(lower string) string {
	m := partOf(lower)
	if m == nil {
		return lower
	}
	return m[1] + "\x00" + m[3] + m[4]
}

// artifacts finishes the groups, in the order of their first paths.
func (g *grouper) artifacts() []Artifact {
	var list []Artifact
	for _, gr := range g.groups {
		a := gr.Artifact
		for _, f := range gr.files {
			a.Files = append(a.Files, f.Path)
			a.Size = addSize(a.Size, f.Size)
		}
		if h := g.hints.GGUF[a.Files[0]]; h != nil && a.Quant == "" && a.Role == Weights {
			a.Quant = h.FileType
		}
		a.Broken = cmp.Or(missingPart(a.Files), emptyFile(gr.files), g.hints.broken(gr.files))
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b Artifact) int { return cmp.Compare(a.Files[0], b.Files[0]) })
	g.checkIndexes(list)
	return list
}

func addSize(sum, n int64) int64 {
	if sum < 0 || n < 0 || sum+n < sum {
		return -1
	}
	return sum + n
}

// missingPart names the first missing part of a numbered set, as a reason, or
// "". The paths are sorted, so the parts come in order.
func missingPart(files []string) string {
	want := 1
	var m []string
	for i, f := range files {
		if m = partOf(f); m == nil {
			return ""
		}
		n, _ := strconv.Atoi(m[2])
		if i == 0 && n == 0 {
			want = 0 // some tools count from 0
		}
		if n != want {
			return partMissing(m, want)
		}
		want++
	}
	if total, _ := strconv.Atoi(m[3]); len(files) < total {
		return partMissing(m, want)
	}
	return ""
}

func partMissing(m []string, n int) string {
	return fmt.Sprintf("%s-%05d-of-%s%s of the set is missing", m[1], n, m[3], m[4])
}

func emptyFile(files []*model.File) string {
	for _, f := range files {
		if f.Size == 0 {
			return f.Path + " is empty"
		}
	}
	return ""
}

// checkIndexes marks the artifacts of a directory whose index names a part
// that is not there. An index that names no file of an artifact says nothing
// about it.
func (g *grouper) checkIndexes(list []Artifact) {
	if len(g.hints.Indexes) == 0 {
		return
	}
	have := make(map[string]int) // path: artifact
	for i, a := range list {
		for _, f := range a.Files {
			have[f] = i
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.hints.Indexes)) {
		parts, missing := g.hints.Indexes[name], ""
		for _, p := range parts {
			if _, ok := have[path.Join(path.Dir(name), p)]; !ok && missing == "" {
				missing = path.Join(path.Dir(name), p) + ", which " + path.Base(name) + " names, is missing"
			}
		}
		for _, p := range parts {
			if i, ok := have[path.Join(path.Dir(name), p)]; ok && list[i].Broken == "" {
				list[i].Broken = missing
			}
		}
	}
}
