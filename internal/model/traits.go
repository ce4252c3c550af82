package model

// Traits are what is said of a model's weights besides the names of their
// files: by a source, which may have read their configs and headers, or by a
// config file. Empty fields are not said. Texts are short and can be printed.
type Traits struct {
	Library      string  `json:",omitempty"` // what loads it: "transformers", "mlx"
	Architecture string  `json:",omitempty"` // "llama", "qwen3"
	Dtype        string  `json:",omitempty"` // of most weights: "bfloat16", "BF16"
	Scheme       string  `json:",omitempty"` // how they are quantised: "gptq", "mxfp4"; the words are those of package format
	Bits         float64 `json:",omitempty"` // of quantised weights; exl2 has fractions
	MLX          bool    `json:",omitempty"` // Apple's MLX wrote them
	Parameters   int64   `json:",omitempty"` // how many; of packed weights fewer than there are
}
