package directory

import (
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"modelfs/internal/model"
)

const (
	// maxPointer is above the size of any Git-LFS pointer (about 130 bytes;
	// the format allows 1024) and below that of any weights.
	maxPointer = 1024

	// maxIndex bounds the index of a set; those of the largest models have
	// some 10 MB.
	maxIndex = 64 << 20
)

const pointerStart = "version https://git-lfs"

// weightsExt are the endings of files that hold weights. The generic ones are
// also used for other things, see isWeights.
var weightsExt = map[string]bool{".gguf": true, ".safetensors": true, ".onnx": true, ".llamafile": true, ".msgpack": true,
	".h5": true, ".tflite": true, ".engine": true, ".plan": true, ".mlmodel": true, ".nemo": true,
	".bin": true, ".pt": true, ".pth": true, ".ckpt": true}

// notWeights begin the names of files that trainers save next to the weights
// with the same endings.
var notWeights = []string{"training_args", "optimizer", "scheduler", "rng_state", "random_states", "scaler", "tokenizer", "trainer_state"}

func ext(name string) string { return strings.ToLower(path.Ext(name)) }

// isWeights reports whether a file's name is that of something to load.
func isWeights(name string) bool {
	name = strings.ToLower(path.Base(name))
	if !weightsExt[path.Ext(name)] {
		return false
	}
	return !slices.ContainsFunc(notWeights, func(p string) bool { return strings.HasPrefix(name, p) })
}

func isGGUF(name string) bool { return ext(name) == ".gguf" }

// isIndex reports whether a file lists the parts of a set.
func isIndex(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".safetensors.index.json") || strings.HasSuffix(name, ".bin.index.json")
}

// isMarker reports whether a file says that its directory is a model's.
func isMarker(name string) bool {
	return name == "config.json" || name == "model_index.json" || isIndex(name)
}

// partPattern is how parts of a set are named: prefix-00001-of-00003.ext.
var partPattern = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})(\.[A-Za-z]+)$`)

// looseModel is the name of the model that a loose file is. Parts of a set
// and projectors are none: alone they can't be loaded.
func looseModel(file string) (string, bool) {
	if !isWeights(file) || partPattern.MatchString(file) || strings.Contains(strings.ToLower(file), "mmproj") {
		return "", false
	}
	stem := file[:len(file)-len(path.Ext(file))]
	return stem, model.ValidEntry(stem)
}

// hasLabel reports whether a GGUF file's path carries the quantisation as a
// word of its own, ignoring case: words end at '-', '.' and '/', because '_'
// is part of the labels themselves (Q4_K is not Q4_K_M).
func hasLabel(file, quant string) bool {
	file, quant = strings.ToLower(file), strings.ToLower(quant)
	for from := 0; from < len(file); {
		i := strings.Index(file[from:], quant)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(quant)
		if (start == 0 || isBreak(file[start-1])) && (end == len(file) || isBreak(file[end])) {
			return true
		}
		from = start + 1
	}
	return false
}

func isBreak(c byte) bool { return c == '-' || c == '.' || c == '/' }

// judge says why the files below rel are not a model that can be loaded, or
// "". With a quantisation only the GGUF files that carry it count, and
// NotFound says that there is none.
func (l *look) judge(rel string, files []string, quant string) (string, error) {
	var loads []string
	for _, f := range files {
		if isWeights(f) && (quant == "" || isGGUF(f) && hasLabel(f, quant)) {
			loads = append(loads, f)
		}
	}
	if len(loads) == 0 && quant != "" {
		return "", model.Errorf(model.NotFound, "%s has no GGUF file of %s in %s", l.s.id, quant, rel)
	}
	if len(loads) == 0 {
		return "it holds no weights", nil
	}
	if missing := missingPart(loads); missing != "" {
		return missing, nil
	}
	for _, f := range loads {
		if why, err := l.s.tree.hollow(path.Join(rel, f)); why != "" || err != nil {
			return why, err
		}
	}
	if quant != "" {
		return "", nil
	}
	return l.judgeIndexes(rel, files)
}

// missingPart names the first missing part of a numbered set, as a reason.
func missingPart(files []string) string {
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
func (t *tree) hollow(rel string) (string, error) {
	st, err := t.statFile(rel)
	switch {
	case model.IsKind(err, model.NotFound):
		return path.Base(rel) + " is missing", nil
	case err != nil:
		return "", err
	case st.Size == 0:
		return path.Base(rel) + " is empty", nil
	case st.Size > maxPointer:
		return "", nil
	}
	head, err := t.readHead(rel, int64(len(pointerStart)))
	if err == nil && string(head) == pointerStart {
		return path.Base(rel) + " is a Git-LFS pointer, not the file itself; run git lfs pull", nil
	}
	return "", err
}

func (t *tree) readHead(rel string, n int64) ([]byte, error) {
	f, _, err := t.openFile(rel)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return nil, t.failed("reading", rel, err)
	}
	return b, nil
}

// judgeIndexes checks that each part that an index names is there.
func (l *look) judgeIndexes(rel string, files []string) (string, error) {
	for _, index := range files {
		if !isIndex(index) {
			continue
		}
		raw, err := l.s.tree.readHead(path.Join(rel, index), maxIndex+1)
		if err != nil {
			return "", err
		}
		parts, err := parseIndex(raw)
		if err != nil {
			return fmt.Sprintf("%s can't be used: %v", index, err), nil
		}
		for _, p := range parts {
			part := path.Join(path.Dir(index), p)
			if !has(files, part) {
				return fmt.Sprintf("%s of the set is missing", part), nil
			}
			if why, err := l.s.tree.hollow(path.Join(rel, part)); why != "" || err != nil {
				return why, err
			}
		}
	}
	return "", nil
}

// parseIndex lists the parts that the index of a set names, sorted.
func parseIndex(raw []byte) ([]string, error) {
	if len(raw) > maxIndex {
		return nil, model.Errorf(model.Invalid, "it is larger than %d bytes", maxIndex)
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, model.Errorf(model.Invalid, "%w", err)
	}
	parts := make(map[string]bool)
	for _, p := range index.WeightMap {
		if !model.ValidPath(p) {
			return nil, model.Errorf(model.Invalid, "it names the part %q", p)
		}
		parts[p] = true
	}
	return sortedKeys(parts), nil
}
