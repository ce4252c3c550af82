package format

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"modelfs/internal/model"
)

// evidence is what is known of weights whose file names don't tell.
type evidence struct {
	scheme string // as in Artifact
	marker string // the scheme that a quantisation file beside the weights stands for
	bits   float64
	mlx    bool
	dtype  string
}

// gather collects what the source, tags, file names and the model's name say.
func gather(m *model.Model) evidence {
	words := nameWords(m.Name)
	ev := evidence{scheme: m.Traits.Scheme, bits: m.Traits.Bits, dtype: m.Traits.Dtype}
	ev.mlx = m.Traits.MLX || strings.EqualFold(m.Traits.Library, "mlx")
	for _, f := range m.Files {
		if s := quantFiles[f.Path]; s != "" {
			ev.marker = s
		}
	}
	ev.tags(m.Tags, words)
	if ev.scheme == "" {
		ev.scheme = ev.marker
	}
	ev.name(m.Name, words)
	if ev.mlx {
		ev.scheme = ""
		if ev.bits > 0 || hasAny(words, "mxfp4", "nvfp4", "mxfp8", "q4", "q6", "q8", "dwq") {
			ev.scheme = "mlx"
		}
	}
	return ev
}

// tags takes the scheme that the Hub copies from the config, where the config
// is not at hand. Two that differ say nothing, unless one is only the container
// of the other.
func (ev *evidence) tags(tags, words []string) {
	var found []string
	container := ""
	for _, t := range tags {
		t = strings.ToLower(t)
		switch s := schemes[t]; {
		case t == "mlx":
			ev.mlx = true
		case isContainer(s):
			container = s
		case s != "" && !slices.Contains(found, s):
			found = append(found, s)
		}
		if n, ok := strings.CutSuffix(t, "-bit"); ok && ev.bits == 0 {
			ev.bits, _ = strconv.ParseFloat(n, 64)
		}
	}
	stated := cmp.Or(ev.scheme, container)
	switch {
	case ev.scheme != "" && !isContainer(ev.scheme): // the source has read it
	case len(found) == 1:
		ev.scheme = found[0]
	case len(found) == 0 && stated != "":
		ev.scheme = refine(stated, words)
	}
}

// name takes what the model's name says where nothing better does: only words
// that mean nothing else.
func (ev *evidence) name(name string, words []string) {
	if strings.HasPrefix(strings.ToLower(name), "mlx-community/") || hasAny(words, "mlx") {
		ev.mlx = true
	}
	if m := bitsWord.FindStringSubmatch(path.Base(name)); m != nil && ev.bits == 0 {
		ev.bits, _ = strconv.ParseFloat(m[1], 64)
	}
	for _, w := range []string{"gptq", "awq", "exl2", "exl3", "bnb", "aqlm", "hqq"} {
		if ev.scheme == "" && hasAny(words, w) {
			ev.scheme = schemes[w]
		}
	}
}

// configured is what a config says that was read; only what it can't say is
// taken from the words of tags and name: a quantisation file beside it, and
// ExLlama's old models, whose config is the original's.
func configured(c *model.Traits, words evidence) evidence {
	if *c == (model.Traits{}) {
		return words // "{}" says nothing
	}
	ev := evidence{scheme: c.Scheme, bits: c.Bits, mlx: c.MLX || words.mlx, dtype: c.Dtype}
	switch {
	case ev.mlx && ev.bits > 0:
		ev.scheme = "mlx" // newer MLX copies its block to quantization_config, without a method
	case ev.scheme == "" && !ev.mlx:
		ev.scheme = words.marker
		if ev.scheme == "" && strings.HasPrefix(words.scheme, "exl") {
			ev.scheme, ev.bits = words.scheme, words.bits
		}
	}
	return ev
}

// evidence adds what the header says. MLX packs quantised weights into U32.
func (h *SafetensorsHeader) evidence(ev evidence) evidence {
	if h.Framework == "mlx" {
		ev.mlx = true
		if h.Dtype == "U32" {
			ev.scheme = "mlx"
		}
	}
	if ev.dtype == "" {
		ev.dtype = h.Dtype
	}
	return ev
}

// label is the quantisation for people: "gptq 4-bit", "4-bit", "bf16".
func (ev evidence) label() string {
	name := ev.scheme
	if ev.mlx {
		name = ""
	}
	if ev.bits > 0 && (ev.scheme != "" || ev.mlx) {
		return strings.TrimSpace(name + " " + strconv.FormatFloat(ev.bits, 'g', -1, 64) + "-bit")
	}
	if name != "" {
		return name
	}
	return dtypes[strings.ToLower(ev.dtype)]
}

// dtypes are the short words for numbers that are not quantised, by those of
// configs and of safetensors headers.
var dtypes = map[string]string{"bfloat16": "bf16", "bf16": "bf16", "float16": "fp16", "f16": "fp16", "float32": "fp32", "f32": "fp32"}

// nameWords are the words of a model's name, without its organisation.
func nameWords(name string) []string {
	return strings.FieldsFunc(strings.ToLower(path.Base(name)), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}

func hasAny(words []string, any ...string) bool {
	for _, w := range words {
		for _, a := range any {
			if w == a {
				return true
			}
		}
	}
	return false
}
