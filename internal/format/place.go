package format

import (
	"path"
	"slices"
	"strings"
)

// textEndings are those of files that engines and people read beside the
// weights. They are small, and in no artifact.
var textEndings = map[string]bool{".json": true, ".jsonl": true, ".md": true, ".txt": true, ".jinja": true, ".py": true, ".yaml": true,
	".yml": true, ".toml": true, ".cfg": true, ".ini": true, ".model": true, ".spm": true, ".vocab": true, ".tiktoken": true, ".csv": true,
	".tsv": true, ".html": true, ".rst": true, ".pdf": true, ".sh": true, ".ipynb": true, ".h": true, ".cpp": true, ".cu": true, "": true,
	".png": true, ".jpg": true, ".jpeg": true, ".gif": true, ".svg": true, ".webp": true, ".gitattributes": true, ".gitignore": true,
	".bpe": true, ".merges": true, ".log": true}

func isText(lower string) bool { return textEndings[path.Ext(lower)] }

// notWeights begin the names of files that trainers save next to the weights
// with the same endings.
var notWeights = []string{"training_args", "optimizer", "scheduler", "rng_state", "random_states", "scaler", "tokenizer", "trainer_state"}

// IsWeights reports whether a file's name is that of something to load, whole
// or in part. The generic endings (".bin") are also used for other things; what
// trainers leave besides the weights is none.
func IsWeights(p string) bool {
	base := strings.ToLower(path.Base(p))
	ext := path.Ext(base)
	switch {
	case ext == ggufExt, ext == ".safetensors", ext == ".onnx", ext == ".ort", ext == ".mlmodel", binaryEndings[ext] != "":
		return true
	}
	return isPickle(base, ext)
}

// IsBundle reports whether a directory's name is that of a Core ML bundle,
// which is weights as a whole.
func IsBundle(dir string) bool { return coreMLBundle(strings.ToLower(dir)+"/") != "" }

// place decides the artifact of a file: its format, target, scheme and role,
// and what tells artifacts of the same format apart. No format: none.
func (g *grouper) place(p, lower string) (Artifact, string) {
	dir, base, ext := path.Dir(lower), path.Base(lower), path.Ext(lower)
	if bundle := coreMLBundle(lower); bundle != "" {
		return Artifact{Format: CoreML}, bundle
	}
	switch ext {
	case ggufExt:
		return placeGGUF(p), setName(lower)
	case ".imatrix":
		return Artifact{Format: GGUF, Role: Companion}, lower
	}
	target := targetOf(lower, false)
	switch {
	case g.isOpenVINO(lower, base, ext):
		return Artifact{Format: OpenVINO}, dir
	case binaryEndings[ext] != "":
		return Artifact{Format: binaryEndings[ext], Target: target}, dir + "/" + stemOf(ext, base)
	case isONNX(base) || g.isTensorsOfONNX(dir, base, ext):
		return Artifact{Format: ONNX, Target: targetOf(lower, true), Quant: onnxQuant(lower)}, dir + "\x00" + onnxQuant(base)
	case ext == ".safetensors":
		a := g.torch(Safetensors, p)
		a.Target = target
		return a, setName(lower)
	case isLegacyGGML(base, ext):
		return Artifact{Format: GGML, Quant: QuantLabel(base)}, lower
	case target != "":
		return Artifact{Format: Native, Target: target}, dir
	case isPickle(base, ext):
		return g.torch(Pickle, p), setName(lower)
	}
	return Artifact{}, ""
}

// binaryEndings are those that name a format by themselves.
var binaryEndings = map[string]Format{".engine": TensorRT, ".plan": TensorRT, ".trt": TensorRT, ".neff": Neuron, ".neuron": Neuron,
	".tflite": TFLite, ".task": TFLite, ".litertlm": TFLite, ".msgpack": Flax, ".h5": TensorFlow, ".keras": TensorFlow, ".llamafile": Llamafile,
	".nemo": Nemo}

// stemOf tells files of one format and directory apart where each is a model
// of its own. Engines are one a rank, and load together.
func stemOf(ext, base string) string {
	if f := binaryEndings[ext]; f == TFLite || f == Llamafile || f == Nemo {
		return base
	}
	return ""
}

func placeGGUF(p string) Artifact {
	a := Artifact{Format: GGUF, Quant: QuantLabel(p)}
	if IsCompanion(p) {
		a.Role = Companion
	}
	return a
}

// coreMLBundle is the path of the Core ML bundle that a file is or lies in, or "".
func coreMLBundle(lower string) string {
	for _, ending := range []string{".mlpackage/", ".mlmodelc/"} {
		if i := strings.Index(lower, ending); i >= 0 {
			return lower[:i+len(ending)]
		}
	}
	if strings.HasSuffix(lower, ".mlmodel") {
		return lower
	}
	return ""
}

// isOpenVINO reports whether a file is a graph or the weights of one: the two
// have one stem. An .xml alone may be anything.
func (g *grouper) isOpenVINO(lower, base, ext string) bool {
	switch ext {
	case ".xml":
		return strings.HasPrefix(base, "openvino_")
	case ".bin":
		return strings.HasPrefix(base, "openvino_") || g.graphs[strings.TrimSuffix(lower, ext)]
	}
	return false
}

func isONNX(base string) bool {
	return strings.HasSuffix(base, ".onnx") || strings.Contains(base, ".onnx_data") || strings.Contains(base, ".onnx.data") || strings.HasSuffix(base, ".ort")
}

// isTensorsOfONNX reports whether a file may hold the tensors of an ONNX graph
// beside it, which may have any name: one that no torch tool gives.
func (g *grouper) isTensorsOfONNX(dir, base, ext string) bool {
	return ext == ".bin" && g.onnx[dir] && !strings.Contains(base, "pytorch_model") && !strings.HasPrefix(base, "adapter_model") &&
		targetOf(base, false) == ""
}

// onnxQuant is the precision that an ONNX file's name states ("q4f16"), else
// that of the directory it is in ("cuda-int4-rtn-block-32"), or "".
func onnxQuant(p string) string {
	stem := path.Base(p)
	for _, cut := range []string{".onnx", ".ort"} {
		if i := strings.Index(stem, cut); i >= 0 {
			stem = stem[:i]
		}
	}
	if m := onnxLabel.FindStringSubmatch(stem); m != nil {
		return m[1]
	}
	if m := onnxDirLabel.FindStringSubmatch(path.Base(path.Dir(p))); m != nil {
		return m[1]
	}
	return ""
}

// isLegacyGGML reports whether a file is of the format before GGUF, by the
// names that its tools gave ("ggml-base.en.bin").
func isLegacyGGML(base, ext string) bool { return ext == ".bin" && strings.HasPrefix(base, "ggml-") }

func isPickle(base, ext string) bool {
	if ext != ".bin" && ext != ".pt" && ext != ".pth" && ext != ".ckpt" {
		return false
	}
	return !slices.ContainsFunc(notWeights, func(p string) bool { return strings.HasPrefix(base, p) })
}

// torch is the artifact of weights whose quantisation their names don't tell.
func (g *grouper) torch(f Format, p string) Artifact {
	ev := g.words
	if c := g.hints.configOf(path.Dir(p)); c != nil {
		ev = configured(c, g.words)
	}
	if h := g.hints.Safetensors[p]; h != nil {
		ev = h.evidence(ev)
	}
	a := Artifact{Format: f, Scheme: ev.scheme, Quant: ev.label()}
	if ev.mlx && f == Safetensors {
		a.Format = MLX
	}
	return a
}

// targets are the words for what an artifact was made for.
var targets = map[string]Target{"metal": ForMetal, "directml": ForDirectML, "dml": ForDirectML, "cuda": ForCUDA, "rocm": ForROCm, "hip": ForROCm,
	"vulkan": ForVulkan, "cpu": ForCPU, "cpu_and_mobile": ForCPU, "cpu-and-mobile": ForCPU, "gpu": ForGPU}

// targetOf is what a path says that the file was made for: a directory
// ("metal/", "cpu_and_mobile/") or the word before the ending
// ("model.dml.bin"). With long, a directory may go on after the word
// ("cuda-int4-rtn-block-32"), as those of ONNX Runtime's tools do.
func targetOf(lower string, long bool) Target {
	segments := strings.Split(lower, "/")
	for _, dir := range segments[:len(segments)-1] {
		if t := targets[dir]; t != "" {
			return t
		}
		if word, _, ok := strings.Cut(dir, "-"); ok && long && targets[word] != "" {
			return targets[word]
		}
	}
	words := strings.Split(segments[len(segments)-1], ".")
	if len(words) < 3 {
		return ""
	}
	return targets[words[len(words)-2]]
}
