package huggingface

import (
	"encoding/json"

	"modelfs/internal/format"
	"modelfs/internal/model"
)

// Bounds on the tags of a model that are kept, and recorded with its listing.
// Real ones have some 50.
const (
	maxTags = 256
	maxTag  = 128 // bytes
)

// said is what a model's info says of its weights.
type said struct {
	tags   []string
	traits model.Traits
}

// boundedTags drops tags that no label can be, and all beyond a number.
func boundedTags(tags []string) []string {
	var kept []string
	for _, t := range tags {
		if len(t) <= maxTag && len(kept) < maxTags {
			kept = append(kept, t)
		}
	}
	return kept
}

// traits is what the Hub has read of configs and headers. What can't be
// understood is left out.
func (i repoInfo) traits() model.Traits {
	var t model.Traits
	if c, err := format.ParseConfig(i.Config); err == nil {
		t = *c
	}
	var library string
	if json.Unmarshal(i.Library, &library) == nil {
		t.Library = format.Word(library)
	}
	var tensors struct {
		Parameters map[string]int64 `json:"parameters"`
		Total      int64            `json:"total"`
	}
	if json.Unmarshal(i.Safetensors, &tensors) == nil && len(tensors.Parameters) < 64 {
		t.Parameters = max(tensors.Total, 0)
		if t.Dtype == "" {
			t.Dtype = format.Word(most(tensors.Parameters))
		}
	}
	var gguf struct {
		Total        int64  `json:"total"`
		Architecture string `json:"architecture"`
	}
	if json.Unmarshal(i.GGUF, &gguf) == nil && gguf.Architecture != "" {
		t.Architecture, t.Parameters = format.Word(gguf.Architecture), max(gguf.Total, t.Parameters)
	}
	return t
}

// most is the key of the largest number, the first by name of equals.
func most(numbers map[string]int64) string {
	best := ""
	for key, n := range numbers {
		if best == "" || n > numbers[best] || n == numbers[best] && key < best {
			best = key
		}
	}
	return best
}
