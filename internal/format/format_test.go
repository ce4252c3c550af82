package format

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"modelfs/internal/model"
)

func TestArtifacts(t *testing.T) {
	for _, tt := range []struct {
		name, model, tags, files string
		want                     []string
	}{
		{name: "GGUF with companions", files: "a-Q4_K_M.gguf mmproj-F16.gguf mtp-a.gguf a.imatrix imatrix.gguf README.md",
			want: []string{`gguf "Q4_K_M": a-Q4_K_M.gguf`, `gguf companion: a.imatrix`, `gguf companion: imatrix.gguf`,
				`gguf "F16" companion: mmproj-F16.gguf`, `gguf companion: mtp-a.gguf`}},
		{name: "split GGUF", files: "Q8_0/a-Q8_0-00001-of-00002.gguf Q8_0/a-Q8_0-00002-of-00002.gguf BF16/a-00002-of-00003.gguf a-00001-of-00002.gguf",
			want: []string{`gguf "BF16": BF16/a-00002-of-00003.gguf !BF16/a-00001-of-00003.gguf of the set is missing`,
				`gguf "Q8_0": Q8_0/a-Q8_0-00001-of-00002.gguf Q8_0/a-Q8_0-00002-of-00002.gguf`,
				`gguf: a-00001-of-00002.gguf !a-00002-of-00002.gguf of the set is missing`}},
		{name: "a hole in a set", files: "m-00001-of-00003.safetensors m-00003-of-00003.safetensors",
			want: []string{`safetensors: m-00001-of-00003.safetensors m-00003-of-00003.safetensors !m-00002-of-00003.safetensors of the set is missing`}},
		{name: "a set that counts from 0", files: "m-00000-of-00002.safetensors m-00001-of-00002.safetensors",
			want: []string{`safetensors: m-00000-of-00002.safetensors m-00001-of-00002.safetensors`}},
		{name: "diffusers", files: "model_index.json unet/diffusion_pytorch_model.safetensors vae/diffusion_pytorch_model.bin scheduler/scheduler_config.json",
			want: []string{`safetensors: unet/diffusion_pytorch_model.safetensors`, `pickle: vae/diffusion_pytorch_model.bin`}},
		{name: "what trainers leave", files: "pytorch_model.bin training_args.bin optimizer.pt scheduler.pt rng_state.pth",
			want: []string{`pickle: pytorch_model.bin`}},
		{name: "ONNX", files: "onnx/model.onnx onnx/model.onnx_data onnx/model_q4f16.onnx onnx/model_fp16.onnx onnx/model_fp16.onnx_data_1 onnx/config.json",
			want: []string{`onnx: onnx/model.onnx onnx/model.onnx_data`, `onnx "fp16": onnx/model_fp16.onnx onnx/model_fp16.onnx_data_1`,
				`onnx "q4f16": onnx/model_q4f16.onnx`}},
		{name: "ONNX Runtime GenAI", files: "cuda/cuda-int4-rtn-block-32/model.onnx cpu_and_mobile/cpu-int4/model.onnx directml/d/model.onnx gpu/model.onnx",
			want: []string{`onnx@cpu "int4": cpu_and_mobile/cpu-int4/model.onnx`, `onnx@cuda "int4": cuda/cuda-int4-rtn-block-32/model.onnx`,
				`onnx@directml: directml/d/model.onnx`, `onnx@gpu: gpu/model.onnx`}},
		{name: "made for one backend", files: "model.metal.bin metal/model.bin metal/lib.metallib metal/config.json model.dml.bin model.cuda.bin model.bin",
			want: []string{`native@metal: metal/lib.metallib metal/model.bin`, `pickle: model.bin`, `native@cuda: model.cuda.bin`,
				`native@directml: model.dml.bin`, `native@metal: model.metal.bin`}},
		{name: "GGUF in such a directory is GGUF", files: "cpu/a-Q4_0.gguf", want: []string{`gguf "Q4_0": cpu/a-Q4_0.gguf`}},
		{name: "OpenVINO", files: "openvino_model.xml openvino_model.bin openvino_tokenizer.xml openvino_tokenizer.bin openvino_config.json ir/a.xml ir/a.bin b.bin c.xml",
			want: []string{`pickle: b.bin`, `openvino: ir/a.bin`, `openvino: openvino_model.bin openvino_model.xml openvino_tokenizer.bin openvino_tokenizer.xml`}},
		{name: "Core ML", files: "A.mlpackage/Manifest.json A.mlpackage/Data/w.bin A.mlpackage/Data/m.mlmodel B.mlmodelc/model.mil old.mlmodel",
			want: []string{`coreml: A.mlpackage/Data/m.mlmodel A.mlpackage/Data/w.bin`, `coreml: B.mlmodelc/model.mil`, `coreml: old.mlmodel`}},
		{name: "others", files: "rank0.engine rank1.engine m.neff flax_model.msgpack tf_model.h5 a.tflite b.litertlm a.llamafile a.nemo ggml-base.bin",
			want: []string{`llamafile: a.llamafile`, `nemo: a.nemo`, `tflite: a.tflite`, `tflite: b.litertlm`, `flax: flax_model.msgpack`,
				`ggml: ggml-base.bin`, `neuron: m.neff`, `tensorrt: rank0.engine rank1.engine`, `tensorflow: tf_model.h5`}},
		{name: "nothing to load", files: "README.md LICENSE config.json data.parquet vocab.txt"},

		{name: "tag", tags: "safetensors gptq 4-bit", files: "model.safetensors", want: []string{`safetensors/gptq "gptq 4-bit": model.safetensors`}},
		{name: "tag, upper case", tags: "AWQ", files: "model.safetensors", want: []string{`safetensors/awq "awq": model.safetensors`}},
		{name: "one scheme by two words", tags: "gptq marlin", files: "model.safetensors", want: []string{`safetensors/gptq "gptq": model.safetensors`}},
		{name: "tags that differ say nothing", tags: "gptq awq", files: "model.safetensors", want: []string{`safetensors: model.safetensors`}},
		{name: "container and content", tags: "compressed-tensors fp8", files: "model.safetensors", want: []string{`safetensors/fp8 "fp8": model.safetensors`}},
		{name: "container, the name says what", model: "RedHatAI/Llama-3-8B-NVFP4", tags: "compressed-tensors", files: "model.safetensors",
			want: []string{`safetensors/nvfp4 "nvfp4": model.safetensors`}},
		{name: "container alone", tags: "compressed-tensors", files: "model.safetensors",
			want: []string{`safetensors/compressed-tensors "compressed-tensors": model.safetensors`}},
		{name: "name", model: "TheBloke/Llama-2-7B-GPTQ", files: "model.safetensors", want: []string{`safetensors/gptq "gptq": model.safetensors`}},
		{name: "exl2 with fractions", model: "acme/a-4.25bpw-exl2", files: "output.safetensors", want: []string{`safetensors/exl2 "exl2 4.25-bit": output.safetensors`}},
		{name: "a name that says nothing certain", model: "acme/flux-fp8", files: "a.safetensors", want: []string{`safetensors: a.safetensors`}},
		{name: "file beside the weights", files: "quantize_config.json model.safetensors", want: []string{`safetensors/gptq "gptq": model.safetensors`}},
		{name: "MLX quantised", model: "mlx-community/Qwen3-8B-4bit", files: "model.safetensors", want: []string{`mlx/mlx "4-bit": model.safetensors`}},
		{name: "MLX not quantised", model: "mlx-community/Qwen3-8B-bf16", tags: "mlx", files: "model.safetensors", want: []string{`mlx: model.safetensors`}},
		{name: "MLX by tag leaves GGUF alone", tags: "mlx 8-bit gguf", files: "a.gguf model.safetensors",
			want: []string{`gguf: a.gguf`, `mlx/mlx "8-bit": model.safetensors`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := repo(tt.model, split(tt.tags), split(tt.files)...)
			if diff := cmp.Diff(tt.want, lines(Of(m, Hints{}))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What the source says of the config outranks tags and names; headers and
// configs that were read here outrank it.
func TestTraits(t *testing.T) {
	for _, tt := range []struct {
		name, model, tags string
		traits            model.Traits
		h                 Hints
		want              string // the artifact
		arch, size        string
	}{
		{name: "scheme and architecture", traits: model.Traits{Scheme: "awq", Bits: 4, Architecture: "qwen3"}, want: `safetensors/awq "awq 4-bit"`, arch: "qwen3"},
		{name: "it outranks tags", tags: "gptq 8-bit", traits: model.Traits{Scheme: "awq", Bits: 4}, want: `safetensors/awq "awq 4-bit"`},
		{name: "it outranks the name", model: "a/x-GPTQ", traits: model.Traits{Scheme: "bitsandbytes"}, want: `safetensors/bitsandbytes "bitsandbytes"`},
		{name: "tags say what the container holds", tags: "fp8", traits: model.Traits{Scheme: "compressed-tensors"}, want: `safetensors/fp8 "fp8"`},
		{name: "the name says it", model: "a/x-NVFP4", traits: model.Traits{Scheme: "modelopt"}, want: `safetensors/nvfp4 "nvfp4"`},
		{name: "MLX by its library", traits: model.Traits{Library: "MLX", Bits: 6}, want: `mlx/mlx "6-bit"`},
		{name: "MLX by its config", traits: model.Traits{MLX: true, Scheme: "mlx", Bits: 4}, want: `mlx/mlx "4-bit"`},
		{name: "MLX, not quantised", traits: model.Traits{Library: "mlx", Dtype: "BF16"}, want: `mlx "bf16"`},
		{name: "not quantised", traits: model.Traits{Dtype: "F16", Parameters: 1_235_814_400}, want: `safetensors "fp16"`, size: "1.2B"},
		{name: "the name knows its size", model: "a/x-8B", traits: model.Traits{Parameters: 8_030_261_248}, want: `safetensors`, size: "8B"},
		{name: "packed weights are not counted", traits: model.Traits{Scheme: "gptq", Parameters: 1e9}, want: `safetensors/gptq "gptq"`},
		{name: "a config that was read", traits: model.Traits{Scheme: "awq", Bits: 4, Architecture: "llama"},
			h:    Hints{Configs: map[string]*model.Traits{".": {Scheme: "gptq", Architecture: "qwen3"}}},
			want: `safetensors/gptq "gptq"`, arch: "qwen3"},
		{name: "a config that was read, of new MLX", tags: "mlx", h: Hints{Configs: map[string]*model.Traits{".": {Bits: 4}}}, want: `mlx/mlx "4-bit"`},
		{name: "a config that says nothing", model: "a/x-mlx-4bit", h: Hints{Configs: map[string]*model.Traits{".": {}}}, want: `mlx/mlx "4-bit"`},
		{name: "a config that was read, of MLX that is not quantised", model: "a/x-mlx-4bit", h: Hints{Configs: map[string]*model.Traits{".": {Architecture: "llama"}}},
			want: `mlx`, arch: "llama"},
		{name: "a config that was read, of old ExLlama", model: "a/x-3.5bpw-exl2", h: Hints{Configs: map[string]*model.Traits{".": {Dtype: "float16"}}},
			want: `safetensors/exl2 "exl2 3.5-bit"`},
	} {
		m := repo(tt.model, split(tt.tags), "model.safetensors")
		m.Traits = tt.traits
		s := Of(m, tt.h)
		if got := lines(s); len(got) != 1 || got[0] != tt.want+": model.safetensors" || s.Architecture != tt.arch || s.Parameters != tt.size {
			t.Errorf("%s: %q, architecture %q, size %q", tt.name, got, s.Architecture, s.Parameters)
		}
	}
}

func TestIsWeights(t *testing.T) {
	for names, want := range map[string]bool{
		`a.gguf A.SafeTensors a/b.onnx m.ort m.bin m.pt x.pth x.ckpt x.engine x.plan x.trt x.neff x.neuron x.tflite x.task x.litertlm
		flax_model.msgpack tf_model.h5 x.keras x.llamafile x.nemo x.mlmodel`: true,
		`README.md config.json tokenizer.bin optimizer.pt training_args.bin rng_state_0.pth x.onnx_data x.xml x.gguf.part x.metallib tokenizer.model`: false,
	} {
		for _, name := range split(names) {
			if IsWeights(name) != want {
				t.Errorf("%s: %v", name, !want)
			}
		}
	}
	for name, want := range map[string]bool{"M.mlpackage": true, "m.MLModelC": true, "m.mlmodel": false, "mlpackage": false, "onnx": false} {
		if IsBundle(name) != want {
			t.Errorf("bundle %s: %v", name, !want)
		}
	}
}

func TestCountLabel(t *testing.T) {
	for n, want := range map[int64]string{-1: "", 0: "", 999_999: "", 137_022_720: "137M", 3_800_000: "3.8M", 8_030_261_248: "8B", 70_553_706_496: "71B",
		1_543_714_304: "1.5B", 671_026_419_200: "671B", 999_950_000: "1000M"} {
		if got := countLabel(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestSummary(t *testing.T) {
	m := repo("unsloth/Qwen3-8B-GGUF", nil, "Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-Q8_0.gguf", "mmproj-F16.gguf", "model.safetensors", "README.md")
	m.File("model.safetensors").Size = 9000
	s := Of(m, Hints{})
	s.Artifacts = nil
	want := Summary{Formats: []Format{Safetensors, GGUF}, Quants: []string{"Q4_K_M", "Q8_0"}, Parameters: "8B", Size: 13000}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

func TestParametersByFileName(t *testing.T) {
	for files, want := range map[string]string{"Llama-3-8B.Q4_0.gguf": "8B", "mmproj-1B.gguf model.safetensors": "", "README-8B.md": ""} {
		if got := Of(repo("acme/a", nil, split(files)...), Hints{}).Parameters; got != want {
			t.Errorf("%s: %q, want %q", files, got, want)
		}
	}
}

func TestUnknownAndEmptySizes(t *testing.T) {
	m := repo("a", nil, "a.gguf", "b.gguf", "c.gguf")
	m.Files[0].Size, m.Files[1].Size = -1, 0
	s := Of(m, Hints{})
	if s.Size != -1 || s.Artifacts[0].Size != -1 || s.Artifacts[2].Size != 1000 {
		t.Errorf("sizes are %d, %d, %d", s.Size, s.Artifacts[0].Size, s.Artifacts[2].Size)
	}
	if s.Artifacts[0].Broken != "" || s.Broken() != "b.gguf is empty" {
		t.Errorf("broken are %q and %q", s.Artifacts[0].Broken, s.Broken())
	}
	m.Files[0].Size, m.Files[1].Size = 1<<62, 1<<62
	if s := Of(m, Hints{}); s.Size != -1 {
		t.Errorf("sizes that don't fit add up to %d", s.Size)
	}
}

func TestOtherQuants(t *testing.T) {
	files := split("a-Q4_K_M.gguf a-UD-Q4_K_M.gguf a-UD-Q5_K_M.gguf b-Q8_0-00001-of-00002.gguf b-Q8_0-00002-of-00002.gguf mmproj-F16.gguf model.safetensors config.json")
	for _, tt := range []struct{ quant, left string }{
		{"Q4_K_M", "a-Q4_K_M.gguf config.json mmproj-F16.gguf"},
		{"ud-q4_k_m", "a-UD-Q4_K_M.gguf config.json mmproj-F16.gguf"},
		{"Q5_K_M", "a-UD-Q5_K_M.gguf config.json mmproj-F16.gguf"},
		{"Q8_0", "b-Q8_0-00001-of-00002.gguf b-Q8_0-00002-of-00002.gguf config.json mmproj-F16.gguf"},
		{"Q2_K", strings.Join(files, " ")},
		{"F16", strings.Join(files, " ")}, // only the projector has it
		{"", strings.Join(files, " ")},
	} {
		m := repo("a", nil, files...)
		out := Of(m, Hints{}).OtherQuants(tt.quant)
		var left []string
		for _, f := range m.Files {
			if !out[f.Path] {
				left = append(left, f.Path)
			}
		}
		want := split(tt.left)
		slices.Sort(want)
		if diff := cmp.Diff(want, left); diff != "" {
			t.Errorf("%s: %s", tt.quant, diff)
		}
	}
	if out := Of(repo("a", nil, "a-Q4_0.gguf", "config.json"), Hints{}).OtherQuants("Q4_0"); out != nil {
		t.Errorf("its only quantisation leaves out %v", out)
	}
}

// A file is in one artifact at most, text in none, and the order of files
// does not matter.
func TestArtifactProperties(t *testing.T) {
	segment := rapid.SampledFrom(split("a model metal cuda onnx openvino_model x.mlpackage model-00001-of-00002 model-00002-of-00002 model.dml q4_0 mmproj"))
	ending := rapid.SampledFrom(split(".gguf .bin .safetensors .onnx .onnx_data .xml .json .txt .engine .neff .dat .MD .GGUF"))
	rapid.Check(t, func(t *rapid.T) {
		var files []string
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			files = append(files, strings.Join(rapid.SliceOfN(segment, 1, 3).Draw(t, "path"), "/")+ending.Draw(t, "ending"))
		}
		m := repo("acme/a", nil, files...)
		seen := map[string]bool{}
		for _, a := range Of(m, Hints{}).Artifacts {
			if a.Format == "" || !a.Format.Known() || len(a.Files) == 0 || !slices.IsSorted(a.Files) {
				t.Fatalf("artifact %+v", a)
			}
			for _, p := range a.Files {
				if seen[p] || m.File(p) == nil {
					t.Fatalf("%s is in two artifacts or in no listing", p)
				}
				if low := strings.ToLower(p); strings.HasSuffix(low, ".json") || strings.HasSuffix(low, ".txt") || strings.HasSuffix(low, ".md") {
					t.Fatalf("%s is text", p)
				}
				seen[p] = true
			}
		}
		for _, f := range m.Files {
			if IsGGUF(f.Path) && !strings.Contains(f.Path, ".mlpackage/") && !seen[f.Path] {
				t.Fatalf("%s is in no artifact", f.Path)
			}
		}
	})
}

func BenchmarkOf(b *testing.B) {
	m := &model.Model{Name: "acme/a-8B"}
	for _, n := range split("a b c d e f g h i j") {
		for _, q := range split("Q2_K Q3_K_M Q4_K_M Q5_K_M Q6_K Q8_0 BF16 IQ4_XS IQ3_XS config.json") {
			m.Files = append(m.Files, model.File{Path: n + "/" + q + ".gguf", Size: 1})
		}
	}
	for b.Loop() {
		Of(m, Hints{})
	}
}
