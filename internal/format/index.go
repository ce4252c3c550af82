package format

import (
	"encoding/json"
	"maps"
	"slices"

	"modelfs/internal/model"
)

// ParseIndex lists the parts that the index of a set ("….index.json") names,
// sorted. The error is of kind Invalid.
func ParseIndex(raw []byte) ([]string, error) {
	if len(raw) > MaxIndex {
		return nil, model.Errorf(model.Invalid, "it is larger than %d bytes", MaxIndex)
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
	return slices.Sorted(maps.Keys(parts)), nil
}
