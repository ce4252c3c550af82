// Package format answers: what are a model's files? Which belong together,
// in which format and quantisation, of which architecture and size, and is
// anything of them missing.
//
// Invariants:
//
//  1. [Of] looks at names, sizes, tags and what [Hints] holds, and does no
//     I/O: a model that has to be fetched is described without fetching.
//  2. What is not evident is "": a scheme of quantisation is stated only where
//     a config, a tag, or a word of the model's name that means nothing else
//     says so. A config that was read here outranks what the source says of
//     it, that outranks tags, tags outrank names.
//  3. A file is in at most one artifact, and text that engines read beside the
//     weights (configs, tokenizers, licences) is in none.
//  4. Headers come from strangers: every count in them is bounded before it is
//     believed, and the memory spent does not grow with what they claim.
//
// It knows nothing of backends: what runs where is decided by package backend.
package format

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"modelfs/internal/model"
)

// A Format is how weights are stored. The words are those of rules and of
// `modelfs ls`.
type Format string

// The formats. Native is a file that only its target can read and whose
// format has no name ("model.metal.bin", what lies in "metal/").
const (
	GGUF        Format = "gguf"
	Safetensors Format = "safetensors"
	MLX         Format = "mlx" // safetensors written by Apple's MLX
	Pickle      Format = "pickle"
	ONNX        Format = "onnx"
	OpenVINO    Format = "openvino"
	TensorRT    Format = "tensorrt"
	CoreML      Format = "coreml"
	Neuron      Format = "neuron"
	TFLite      Format = "tflite"
	Flax        Format = "flax"
	TensorFlow  Format = "tensorflow"
	GGML        Format = "ggml"      // the ancestor of GGUF; whisper.cpp still uses it
	Llamafile   Format = "llamafile" // an executable with GGUF inside
	Nemo        Format = "nemo"
	Native      Format = "native"
)

var allFormats = []Format{GGUF, Safetensors, MLX, Pickle, ONNX, OpenVINO, TensorRT, CoreML, Neuron, TFLite, Flax, TensorFlow, GGML,
	Llamafile, Nemo, Native}

// Known reports whether f is one of the formats.
func (f Format) Known() bool { return slices.Contains(allFormats, f) }

// A Target is what an artifact was made for, as its name or directory says.
type Target string

// The targets. GPU is "any GPU"; "" says nothing.
const (
	ForMetal    Target = "metal"
	ForDirectML Target = "directml"
	ForCUDA     Target = "cuda"
	ForROCm     Target = "rocm"
	ForVulkan   Target = "vulkan"
	ForCPU      Target = "cpu"
	ForGPU      Target = "gpu"
)

// A Role says what an artifact is for.
type Role int

// The roles. Only weights make a model.
const (
	Weights   Role = iota
	Companion      // projector, importance matrix, draft head: useless alone
)

// An Artifact is a set of files that load together.
type Artifact struct {
	Format Format
	Scheme string // how weights are quantised where that decides what can load them: "gptq", "mxfp4"; "" for not or unknown
	Target Target // what it was made for; "" where nothing says so
	Quant  string // for people: "Q4_K_M", "gptq 4-bit", "q4f16"; "" where nothing says so
	Role   Role
	Files  []string // paths in the model, sorted
	Size   int64    // bytes; -1 where one file's is unknown
	Broken string   // why it can't be loaded: a part is missing, a file is truncated; "" for nothing known
}

// A Summary is what a model is, for a line of `modelfs ls`.
type Summary struct {
	Artifacts    []Artifact // in the order of their first paths
	Formats      []Format   // of the weights, the largest first; without repetition
	Quants       []string   // of the weights, in the order of names; without repetition
	Architecture string     // "llama", "qwen3"; "" where only headers or configs that were not read say it
	Parameters   string     // "8B", "8x7B"; "" where nothing says so
	Size         int64      // bytes of all files; -1 where one is unknown
}

// Broken says what is wrong with the weights, or "": the reason of the first
// broken artifact.
func (s Summary) Broken() string {
	for _, a := range s.Artifacts {
		if a.Role == Weights && a.Broken != "" {
			return a.Broken
		}
	}
	return ""
}

// HasWeights reports whether there is anything to load.
func (s Summary) HasWeights() bool {
	return slices.ContainsFunc(s.Artifacts, func(a Artifact) bool { return a.Role == Weights })
}

// Of describes a model by its listing and by what its source says of it. h is
// what was read of its files, and may be zero.
func Of(m *model.Model, h Hints) Summary {
	g := newGrouper(m, h)
	for i := range m.Files {
		g.add(&m.Files[i])
	}
	s := Summary{Artifacts: g.artifacts(), Size: totalSize(m.Files)}
	s.Formats, s.Quants = formats(s.Artifacts), quants(s.Artifacts)
	s.Architecture = cmp.Or(h.architecture(), Word(m.Traits.Architecture))
	s.Parameters = cmp.Or(h.sizeLabel(), SizeLabel(m.Name), sizeOfFirst(s.Artifacts))
	if s.Parameters == "" && m.Traits.Scheme == "" { // packed weights are counted in words, not in weights
		s.Parameters = countLabel(m.Traits.Parameters)
	}
	return s
}

// countLabel writes a number of parameters as names do: "8B", "1.5B", "137M";
// "" for less than a million.
func countLabel(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1e9, "B"}, {1e6, "M"}} {
		if n >= unit.size {
			tenths := math.Round(float64(n) / float64(unit.size) * 10)
			if tenths >= 100 {
				tenths = math.Round(tenths/10) * 10
			}
			return strconv.FormatFloat(tenths/10, 'f', -1, 64) + unit.name
		}
	}
	return ""
}

// OtherQuants are the weights that `:quant` leaves out of a listing: where a
// GGUF model of that quantisation is there, all other weights. A label counts
// before a word of one ("UD-Q4_K_M" for Q4_K_M). Companions stay. nil for
// nothing.
func (s Summary) OtherQuants(quant string) map[string]bool {
	isLabel := func(p string) bool { return QuantLabel(p) == strings.ToUpper(quant) }
	isWord := func(p string) bool { return HasQuantWord(p, quant) }
	for _, match := range []func(string) bool{isLabel, isWord} {
		wanted := func(a Artifact) bool { return a.Format == GGUF && match(a.Files[0]) }
		left := make(map[string]bool)
		found := false
		for _, a := range s.Artifacts {
			switch {
			case a.Role != Weights:
			case wanted(a):
				found = true
			default:
				addAll(left, a.Files)
			}
		}
		if found && len(left) > 0 {
			return left
		}
		if found {
			return nil
		}
	}
	return nil
}

func addAll(set map[string]bool, paths []string) {
	for _, p := range paths {
		set[p] = true
	}
}

func totalSize(files []model.File) int64 {
	var sum int64
	for _, f := range files {
		if f.Size < 0 || sum+f.Size < sum {
			return -1
		}
		sum += f.Size
	}
	return sum
}

func formats(artifacts []Artifact) []Format {
	sizes := make(map[Format]int64)
	var list []Format
	for _, a := range artifacts {
		if a.Role != Weights {
			continue
		}
		if !slices.Contains(list, a.Format) {
			list = append(list, a.Format)
		}
		sizes[a.Format] += max(a.Size, 0)
	}
	slices.SortStableFunc(list, func(a, b Format) int { return cmp.Compare(sizes[b], sizes[a]) })
	return list
}

func quants(artifacts []Artifact) []string {
	var list []string
	for _, a := range artifacts {
		if a.Role == Weights && a.Quant != "" && !slices.Contains(list, a.Quant) {
			list = append(list, a.Quant)
		}
	}
	return list
}

// sizeOfFirst is what the name of the first weights says.
func sizeOfFirst(artifacts []Artifact) string {
	for _, a := range artifacts {
		if a.Role == Weights {
			return SizeLabel(a.Files[0])
		}
	}
	return ""
}
