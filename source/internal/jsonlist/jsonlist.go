// Package jsonlist answers: what are the elements of a JSON list that came
// from outside, if they are no more than somebody wants?
//
// It decodes element by element: three bytes ("{},") become a hundred in
// memory, so a list that is bounded in bytes only may cost more memory than
// there is.
package jsonlist

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Decode reads a list of at most most elements. null is nil, an empty list is
// not. What follows the list is not looked at: raw is part of a document that
// was found to be well formed, or it does not matter.
func Decode[T any](raw []byte, most int) ([]T, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	first, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if first == nil {
		return nil, nil
	}
	if first != json.Delim('[') {
		return nil, fmt.Errorf("%.20q is not the beginning of a list", fmt.Sprint(first))
	}
	list := []T{}
	for dec.More() {
		if len(list) == most {
			return nil, fmt.Errorf("the list has more than %d elements", most)
		}
		var element T
		if err := dec.Decode(&element); err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	_, err = dec.Token()
	return list, err
}
