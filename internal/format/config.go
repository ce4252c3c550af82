package format

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"

	"modelfs/internal/model"
)

// maxConfig bounds a config file; those of the largest models have some 300 KB.
const maxConfig = 4 << 20

// configJSON are the fields that matter of config.json, quantize_config.json
// (GPTQ), quant_config.json (AWQ) and hf_quant_config.json (ModelOpt).
type configJSON struct {
	ModelType     string          `json:"model_type"`
	Architectures []string        `json:"architectures"`
	TorchDtype    json.RawMessage `json:"torch_dtype"`
	Dtype         json.RawMessage `json:"dtype"`
	MLX           json.RawMessage `json:"quantization"` // MLX's block, or ModelOpt's in hf_quant_config.json
	Quantization  *quantJSON      `json:"quantization_config"`
	Compression   *quantJSON      `json:"compression_config"`
}

type quantJSON struct {
	Method string          `json:"quant_method"`
	Format string          `json:"format"`     // compressed-tensors
	Algo   string          `json:"quant_algo"` // ModelOpt
	Bits   json.RawMessage `json:"bits"`
	Load4  bool            `json:"load_in_4bit"`
	Load8  bool            `json:"load_in_8bit"`
}

// ParseConfig reads config.json, or what the Hub copies of it: what it says of
// the weights in its directory and below. The error is of kind Invalid.
func ParseConfig(raw []byte) (*model.Traits, error) {
	var j configJSON
	if err := unmarshal(raw, &j); err != nil {
		return nil, err
	}
	c := &model.Traits{Architecture: Word(j.ModelType), Dtype: text(j.Dtype)}
	if c.Architecture == "" && len(j.Architectures) > 0 {
		c.Architecture = Word(j.Architectures[0])
	}
	if c.Dtype == "" {
		c.Dtype = text(j.TorchDtype)
	}
	for _, q := range []*quantJSON{j.Compression, j.Quantization} {
		if q != nil {
			c.Scheme, c.Bits = q.scheme(), q.bits()
		}
	}
	var block quantJSON
	if len(j.MLX) > 0 && j.MLX[0] == '{' && json.Unmarshal(j.MLX, &block) == nil && block.Method == "" && block.bits() > 0 {
		c.MLX, c.Scheme, c.Bits = true, "mlx", block.bits()
	}
	return c, nil
}

// quantFiles are files that state the quantisation of the weights beside
// them, and whose scheme that is where they don't say it.
var quantFiles = map[string]string{"quantize_config.json": "gptq", "quant_config.json": "awq", "hf_quant_config.json": "modelopt"}

// parseQuantConfig reads one of the files that state quantisation outside
// config.json, into c. The error is of kind Invalid; c is unchanged then.
func parseQuantConfig(c *model.Traits, name string, raw []byte) error {
	var top struct {
		quantJSON
		ModelOpt *quantJSON `json:"quantization"`
	}
	if err := unmarshal(raw, &top); err != nil {
		return err
	}
	q := top.quantJSON
	if top.ModelOpt != nil {
		q = *top.ModelOpt
	}
	if q.Method == "" && (q.Algo != "" || path.Base(name) != "hf_quant_config.json") {
		q.Method = quantFiles[path.Base(name)]
	}
	if scheme := q.scheme(); scheme != "" && c.Scheme == "" {
		c.Scheme, c.Bits = scheme, q.bits()
	}
	return nil
}

func unmarshal(raw []byte, v any) error {
	if len(raw) > maxConfig {
		return model.Errorf(model.Invalid, "it is larger than %d bytes", maxConfig)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return model.Errorf(model.Invalid, "%w", err)
	}
	return nil
}

func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return Word(strings.TrimPrefix(s, "torch."))
}

// Word keeps texts that are short and may be shown on a terminal; "" for
// others.
func Word(s string) string {
	if len(s) > 64 {
		return ""
	}
	return printable(s)
}

// bits may be a number, a fraction, or text.
func (q *quantJSON) bits() float64 {
	n, err := strconv.ParseFloat(strings.Trim(string(q.Bits), `"`), 64)
	switch {
	case err == nil && n > 0 && n <= 64:
		return n
	case q.Load4:
		return 4
	case q.Load8:
		return 8
	}
	return 0
}

func (q *quantJSON) scheme() string {
	method := strings.ToLower(strings.ReplaceAll(q.Method, "_", "-"))
	if method == "" && (q.Load4 || q.Load8) {
		return "bitsandbytes"
	}
	words := strings.FieldsFunc(strings.ToLower(q.Format+" "+q.Algo), func(r rune) bool { return r == ' ' || r == '-' || r == '_' })
	return refine(schemeOf(method), words)
}

// schemes are the words of quant_method and of tags, and the scheme that they
// mean. A scheme that no rule knows is kept: it is shown as unknown.
var schemes = map[string]string{"gptq": "gptq", "marlin": "gptq", "awq": "awq", "bitsandbytes": "bitsandbytes", "bnb": "bitsandbytes",
	"fp8": "fp8", "fbgemm-fp8": "fbgemm", "compressed-tensors": "compressed-tensors", "modelopt": "modelopt", "mxfp4": "mxfp4", "nvfp4": "nvfp4",
	"aqlm": "aqlm", "hqq": "hqq", "quanto": "quanto", "eetq": "eetq", "higgs": "higgs", "vptq": "vptq", "spqr": "spqr", "torchao": "torchao",
	"bitnet": "bitnet", "quark": "quark", "fp-quant": "fp-quant", "auto-round": "auto-round", "exl2": "exl2", "exl3": "exl3"}

func schemeOf(method string) string {
	if s := schemes[method]; s != "" {
		return s
	}
	return Word(method)
}

// isContainer reports whether a scheme is a way to write down several.
func isContainer(scheme string) bool { return scheme == "compressed-tensors" || scheme == "modelopt" }

// refine tells apart the schemes that one container format holds.
func refine(scheme string, words []string) string {
	if !isContainer(scheme) {
		return scheme
	}
	for _, w := range []struct{ word, scheme string }{{"nvfp4", "nvfp4"}, {"mxfp4", "mxfp4"}, {"float", "fp8"}, {"fp8", "fp8"}, {"int", "int8"},
		{"w8a8", "int8"}, {"int8", "int8"}} {
		if slices.Contains(words, w.word) {
			return w.scheme
		}
	}
	return scheme
}
