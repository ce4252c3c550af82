package format

import (
	"path"
	"regexp"
	"strings"

	"modelfs/internal/model"
)

// QuantLabel is the quantisation that the path of a GGUF file states, in upper
// case ("Q4_K_M", "UD-Q4_K_XL", "BF16"), or "": the last one of the file's
// name, else of the nearest directory that has one.
func QuantLabel(p string) string {
	for ; p != "." && p != "/" && p != ""; p = path.Dir(p) {
		base := path.Base(p)
		if IsGGUF(base) {
			base = base[:len(base)-len(ggufExt)]
		}
		if l := lastLabel(strings.ToUpper(base)); l != "" {
			return l
		}
	}
	return ""
}

// MatchesQuant reports whether a GGUF file's path is of the quantisation,
// ignoring case: its label is that, or one of its words ("UD-Q4_K_XL" has the
// word Q4_K_XL).
func MatchesQuant(p, quant string) bool {
	return quant != "" && (QuantLabel(p) == strings.ToUpper(quant) || HasQuantWord(p, quant))
}

// HasQuantWord reports whether a path has quant as a word of its own, ignoring
// case. Words end at '-', '.' and '/': '_' is part of labels (Q4_K is not
// Q4_K_M).
func HasQuantWord(p, quant string) bool {
	isBreak := func(r rune) bool { return r == '-' || r == '.' || r == '/' }
	join := func(s string) string { return strings.Join(strings.FieldsFunc(strings.ToLower(s), isBreak), "-") }
	want := join(quant)
	return want != "" && strings.Contains("-"+join(p)+"-", "-"+want+"-")
}

// HasQuant reports whether a listing has a GGUF model of the quantisation,
// whole or in parts.
func HasQuant(files []model.File, quant string) bool {
	for _, f := range files {
		if IsGGUF(f.Path) && !IsCompanion(f.Path) && MatchesQuant(f.Path, quant) {
			return true
		}
	}
	return false
}

const ggufExt = ".gguf"

// IsGGUF reports whether a path ends as a GGUF file's does.
func IsGGUF(p string) bool { return strings.EqualFold(path.Ext(p), ggufExt) }

// IsCompanion reports whether a GGUF file goes with a model and is none: a
// projector, an importance matrix or a draft head.
func IsCompanion(p string) bool {
	name := strings.ToLower(path.Base(p))
	return strings.Contains(name, "mmproj") || strings.Contains(name, "imatrix") || strings.HasPrefix(name, "mtp-")
}

// bitsWord is how names state a number of bits: "4bit", "4-bit", "4.0bpw".
var bitsWord = regexp.MustCompile(`(?i)(?:^|[-_.])([0-9](?:\.[0-9]+)?)[-_]?(bit|bpw)(?:s?)(?:$|[-_.])`)

// onnxLabel is how the names of ONNX files state a precision, after the stem.
var onnxLabel = regexp.MustCompile(`(?i)[-_.](fp16|fp32|bf16|q4f16|q4|q8|int4|int8|uint8|quantized|quint8|qint8|bnb4)(?:[-_.][a-z0-9_]+)?$`)

// onnxDirLabel is how ONNX Runtime's tools name the directories of variants.
var onnxDirLabel = regexp.MustCompile(`(?:^|[-_])(int4|int8|fp16|fp32|bf16)(?:$|[-_])`)

// sizeWord is how names state a number of parameters: 8B, 0.6b, 8x7B, E4B, 270M.
var sizeWord = regexp.MustCompile(`(?i)(?:^|[-_.:/ ])(E?(?:[0-9]{1,3}x)?[0-9]{1,4}(?:\.[0-9]{1,2})?[BM])(?:$|[-_.:/ ])`)

// SizeLabel is the number of parameters that a model's name states ("8B",
// "8x7B", "270M"), or "": the first one, because what follows is often the
// number that is active.
func SizeLabel(name string) string {
	m := sizeWord.FindStringSubmatch(name)
	if m == nil {
		return ""
	}
	label := strings.ToUpper(m[1])
	return strings.Replace(label, "X", "x", 1)
}
