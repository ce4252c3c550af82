package backend

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"modelfs/internal/format"
	"modelfs/internal/model"
)

// mixed is a repository with everything.
func mixed() *model.Model {
	return repo("acme/everything-8B", split("gguf safetensors onnx"), split(`README.md LICENSE config.json tokenizer.json tokenizer.model
		model.safetensors.index.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors
		everything-8B-Q4_K_M.gguf everything-8B-BF16-00001-of-00002.gguf everything-8B-BF16-00002-of-00002.gguf mmproj-F16.gguf
		onnx/config.json onnx/model.onnx onnx/model.onnx_data onnx/model_q4f16.onnx
		metal/config.json metal/model.bin model.metal.bin
		model.directml.bin model.dml.bin directml/directml-int4-awq-block-128/genai_config.json directml/directml-int4-awq-block-128/model.onnx
		directml/directml-int4-awq-block-128/model.onnx.data
		cuda/cuda-int4-rtn-block-32/model.onnx cuda/cuda-int4-rtn-block-32/model.onnx.data model.cuda.bin
		cpu_and_mobile/cpu-int4-rtn-block-32/model.onnx cpu_and_mobile/cpu-int4-rtn-block-32/model.onnx.data`)...)
}

const (
	ggufs    = " everything-8B-Q4_K_M.gguf everything-8B-BF16-00001-of-00002.gguf everything-8B-BF16-00002-of-00002.gguf mmproj-F16.gguf"
	tensors  = " model-00001-of-00002.safetensors model-00002-of-00002.safetensors"
	onnx     = " onnx/model.onnx onnx/model.onnx_data onnx/model_q4f16.onnx"
	metals   = " metal/model.bin model.metal.bin"
	directs  = " model.directml.bin model.dml.bin directml/directml-int4-awq-block-128/model.onnx directml/directml-int4-awq-block-128/model.onnx.data"
	cudas    = " cuda/cuda-int4-rtn-block-32/model.onnx cuda/cuda-int4-rtn-block-32/model.onnx.data model.cuda.bin"
	cpuONNX  = " cpu_and_mobile/cpu-int4-rtn-block-32/model.onnx cpu_and_mobile/cpu-int4-rtn-block-32/model.onnx.data"
	foreign  = metals + directs + cudas
	mixedAll = ggufs + tensors + onnx + foreign + cpuONNX
)

func TestMixedRepository(t *testing.T) {
	for _, tt := range []struct {
		sel  Selection
		want string // hidden
	}{
		{only(CUDA), metals + directs + cpuONNX},
		{only(ROCm), foreign},
		{only(Metal), directs + cudas},
		{only(Vulkan), tensors + onnx + foreign + cpuONNX},
		{only(DirectML), ggufs + tensors + metals + cudas + cpuONNX},
		{only(CPU), foreign},
		{only(Intel), foreign},
		{only(Neuron), ggufs + onnx + foreign + cpuONNX},
		{only(TPU), ggufs + onnx + foreign + cpuONNX},
		{only(CUDA, DirectML), metals + cpuONNX},
		{only(CUDA, Vulkan), metals + directs + cpuONNX},
		{Selection{All: true}, ""},
	} {
		m := mixed()
		got := filter(t, tt.sel, m)
		want := map[string]bool{}
		for _, p := range split(tt.want) {
			want[p] = true
			if m.File(p) == nil {
				t.Fatalf("the repository has no %s", p)
			}
		}
		if diff := cmp.Diff(hidden(Shown{Hidden: want}), hidden(got)); diff != "" || !got.Model {
			t.Errorf("on %s (model shown: %v): %s", tt.sel, got.Model, diff)
		}
		if (got.Why == "") != (tt.want == "") {
			t.Errorf("on %s: why is %q", tt.sel, got.Why)
		}
	}
}

func TestFilter(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sel    Selection
		tags   string
		files  string
		model  bool
		hidden string
		why    string
	}{
		{name: "nothing runs: the model goes, its directory hides nothing", sel: only(CUDA), tags: "mlx 4-bit", files: "config.json model.safetensors",
			why: "nothing of it runs on cuda: mlx needs metal or cpu"},
		{name: "a projector alone is no model", sel: only(Vulkan), files: "model.safetensors mmproj-F16.gguf config.json",
			why: "nothing of it runs on vulkan: safetensors needs cuda or rocm or metal or intel or neuron or tpu or cpu"},
		{name: "nothing but a projector: shown", sel: only(DirectML), files: "mmproj-F16.gguf README.md", model: true},
		{name: "no weights that anyone knows: shown", sel: only(CUDA), files: "README.md data.parquet", model: true},
		{name: "empty: shown", sel: only(CUDA), model: true},
		{name: "what is left must be whole", sel: only(Vulkan), files: "model.safetensors a-00001-of-00002.gguf", model: true},
		{name: "gpt-oss on CUDA", sel: only(CUDA), tags: "mxfp4", files: "config.json model.safetensors original/model.safetensors metal/model.bin",
			model: true, hidden: "metal/model.bin", why: "left out on cuda: native for metal needs metal"},
		{name: "gpt-oss on Metal keeps both", sel: only(Metal), tags: "mxfp4", files: "config.json model.safetensors metal/model.bin", model: true},
		{name: "CPU artifacts run beside a GPU when there is nothing better", sel: only(CUDA), model: true,
			files: "cpu_and_mobile/cpu-int4/model.onnx directml/directml-int4/model.onnx", hidden: "directml/directml-int4/model.onnx",
			why: "left out on cuda: onnx for directml needs directml"},
		{name: "something broken is not better", sel: only(CUDA), model: true,
			files: "cpu_and_mobile/model.onnx cuda/model-00001-of-00002.safetensors"},
		{name: "what may be any GPU's gives way to the CPU's on a CPU", sel: only(CPU), model: true, hidden: "gpu/gpu-int4/model.onnx",
			files: "cpu_and_mobile/cpu-int4/model.onnx gpu/gpu-int4/model.onnx", why: "left out on cpu: onnx for gpu gives way to what is made for cpu"},
		{name: "tensors of an ONNX graph under any name stay with it", sel: only(DirectML), model: true,
			files: "onnx/decoder.onnx onnx/decoder_weights.bin pytorch_model.bin", hidden: "pytorch_model.bin",
			why: "left out on directml: pickle needs cuda or rocm or metal or intel or neuron or tpu or cpu"},
		{name: "llmlb's names, ignoring case", sel: only(CUDA), model: true, files: "model.bin Model.Metal.bin MODEL.DirectML.bin model.DML.bin",
			hidden: "MODEL.DirectML.bin Model.Metal.bin model.DML.bin",
			why:    "left out on cuda: native for directml needs directml; native for metal needs metal"},
		{name: "OpenVINO beside safetensors on CUDA", sel: only(CUDA), model: true,
			files:  "model.safetensors openvino/openvino_model.xml openvino/openvino_model.bin openvino/openvino_config.json",
			hidden: "openvino/openvino_model.bin openvino/openvino_model.xml", why: "left out on cuda: openvino needs intel or cpu"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := filter(t, tt.sel, repo("acme/a", split(tt.tags), split(tt.files)...))
			if got.Model != tt.model {
				t.Errorf("the model is shown: %v", got.Model)
			}
			if diff := cmp.Diff(split(tt.hidden), hidden(got)); diff != "" && tt.hidden+strings.Join(hidden(got), "") != "" {
				t.Error(diff)
			}
			if got.Why != tt.why {
				t.Errorf("why is %q, want %q", got.Why, tt.why)
			}
		})
	}
}

// pieces are paths that repositories are drawn from.
var pieces = append(split(mixedAll), split(`README.md config.json tokenizer.model a.mlpackage/Manifest.json a.mlpackage/w.bin rank0.engine
	openvino_model.xml openvino_model.bin flax_model.msgpack pytorch_model.bin x.tflite unet/model.safetensors gpu/model.onnx metal/notes.txt
	vulkan/a.bin model.neuron weird.bin data`)...)

// What the filter promises, for any repository and any backends.
func TestFilterProperties(t *testing.T) {
	r := rulesOf(t)
	rapid.Check(t, func(t *rapid.T) {
		files := rapid.SliceOfDistinct(rapid.SampledFrom(pieces), rapid.ID[string]).Draw(t, "files")
		tags := rapid.SliceOfN(rapid.SampledFrom(split("mlx 4-bit gptq awq fp8 mxfp4 exl2 onnx")), 0, 2).Draw(t, "tags")
		sel := Selection{Backends: rapid.SliceOfNDistinct(rapid.SampledFrom(allBackends), 1, 3, rapid.ID[Backend]).Draw(t, "backends")}
		m := repo("acme/a", tags, files...)
		s := format.Of(m, format.Hints{})
		got := r.Filter(sel, s)
		left := 0
		for _, a := range s.Artifacts {
			hides := 0
			for _, p := range a.Files {
				if got.Hidden[p] {
					hides++
				}
			}
			if hides != 0 && hides != len(a.Files) {
				t.Fatalf("%v is hidden in part: %v", a.Files, hidden(got))
			}
			if res := r.Runs(sel, a); hides != 0 && res.Verdict != No && !res.Spare {
				t.Fatalf("%v is hidden, and it runs: %+v", a.Files, res)
			}
			if hides == 0 && a.Role == format.Weights && a.Broken == "" {
				left++
			}
		}
		if got.Hidden != nil && left == 0 {
			t.Fatalf("nothing that loads is left: %v", listing(m, got))
		}
		for p := range got.Hidden {
			if m.File(p) == nil || isSmallText(p) {
				t.Fatalf("%s is hidden", p)
			}
		}
		if !got.Model && got.Why == "" || !got.Model && got.Hidden != nil {
			t.Fatalf("a model that is not shown: %+v", got)
		}
	})
}

func isSmallText(p string) bool {
	for _, end := range split(".json .md .txt .model LICENSE") {
		if strings.HasSuffix(p, end) {
			return true
		}
	}
	return false
}

// A config that was read locally decides what tags would have.
func TestFilterByConfig(t *testing.T) {
	m := repo("acme/a", nil, "config.json", "model.safetensors")
	for _, tt := range []struct {
		config string
		model  bool
	}{
		{`{"model_type":"llama"}`, true},
		{`{"quantization_config":{"quant_method":"gptq","bits":4}}`, false},
		{`{"quantization":{"bits":4,"group_size":64}}`, true},
		{`{"quantization_config":{"quant_method":"new-scheme"}}`, true},
	} {
		c, err := format.ParseConfig([]byte(tt.config))
		if err != nil {
			t.Fatal(err)
		}
		s := format.Of(m, format.Hints{Configs: map[string]*model.Traits{".": c}})
		if got := rulesOf(t).Filter(only(Metal), s); got.Model != tt.model {
			t.Errorf("%s on metal: %+v", tt.config, got)
		}
	}
}

// The quantisation of a name and the backends' filter are independent: both
// leave something that loads.
func TestFilterWithQuant(t *testing.T) {
	m := mixed()
	s := format.Of(m, format.Hints{})
	out := rulesOf(t).Filter(only(CUDA), s).Hidden
	for p := range s.OtherQuants("Q4_K_M") {
		out[p] = true
	}
	want := split(`LICENSE README.md config.json directml/directml-int4-awq-block-128/genai_config.json everything-8B-Q4_K_M.gguf metal/config.json
		mmproj-F16.gguf model.safetensors.index.json onnx/config.json tokenizer.json tokenizer.model`)
	if diff := cmp.Diff(want, listing(m, Shown{Hidden: out})); diff != "" {
		t.Error(diff)
	}
}

func BenchmarkFilter(b *testing.B) {
	r := rulesOf(b)
	m := mixed()
	for b.Loop() {
		r.Filter(only(CUDA), format.Of(m, format.Hints{}))
	}
}
