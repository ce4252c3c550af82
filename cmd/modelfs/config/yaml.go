package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// places are the top-level keys of a file that was decoded, each with its line
// and column as the decoder's errors show them.
func places(data []byte) map[string]string {
	found := make(map[string]string)
	file, err := parser.ParseBytes(data, 0)
	if err != nil || len(file.Docs) == 0 {
		return found
	}
	top, ok := file.Docs[0].Body.(ast.MapNode)
	if !ok {
		return found
	}
	for pairs := top.MapRange(); pairs.Next(); {
		key := pairs.Key().GetToken()
		found[key.Value] = fmt.Sprintf("[%d:%d]", key.Position.Line, key.Position.Column)
	}
	return found
}

// explain says what the decoder has against a file in words of YAML, not of Go.
func explain(err error) error {
	var unknown *yaml.UnknownFieldError
	var node *yaml.UnexpectedNodeTypeError
	var value *yaml.TypeError
	text := strings.TrimSpace(yaml.FormatError(err, false, false))
	place, _, _ := strings.Cut(text, " ")
	switch {
	case errors.As(err, &unknown):
		if near := nearest(unknown.Token.Value, keys(reflect.TypeFor[Config](), reflect.TypeFor[Alias]())); near != "" {
			return fmt.Errorf("%s; did you mean %q?", text, near)
		}
	case errors.As(err, &node) && node.Expected == ast.SequenceType:
		return fmt.Errorf("%s a list is wanted here, such as [a, b]", place)
	case errors.As(err, &node) && node.Expected == ast.MappingType:
		return fmt.Errorf("%s keys with values are wanted here, such as log_level: info", place)
	case errors.As(err, &value) && value.DstType.Kind() == reflect.Bool:
		return fmt.Errorf("%s true or false is wanted here", place)
	case errors.As(err, &value) && value.DstType.Kind() == reflect.Int:
		return fmt.Errorf("%s a number is wanted here", place)
	}
	return errors.New(text)
}

// keys are the keys that a file may have in these structs.
func keys(types ...reflect.Type) []string {
	var list []string
	for _, t := range types {
		for i := range t.NumField() {
			if key := t.Field(i).Tag.Get("yaml"); key != "" && key != "-" {
				list = append(list, key)
			}
		}
	}
	return list
}

// nearest is the word that at most two letters make of this one; "" if none is
// that near.
func nearest(word string, words []string) string {
	best, found := 3, ""
	for _, w := range words {
		if d := distance(word, w); d < best && d < len(w) {
			best, found = d, w
		}
	}
	return found
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
