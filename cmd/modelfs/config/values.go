package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml/ast"
)

// A Size is a number of bytes. It is written as 500GB, 1.5TiB or 0.
type Size int64

// String is the size as it would be typed.
func (s Size) String() string {
	if s <= 0 {
		return "0"
	}
	return strings.ReplaceAll(humanize.Bytes(uint64(s)), " ", "")
}

// UnmarshalYAML takes a number of bytes or a text with a unit.
func (s *Size) UnmarshalYAML(node ast.Node) error { return unmarshal(node, s.parse) }

func (s *Size) parse(text string) error {
	n, err := humanize.ParseBytes(text)
	if err != nil || n > 1<<62 {
		return fmt.Errorf("%q is not a size such as 500GB, 1.5TiB or 0", text)
	}
	*s = Size(n)
	return nil
}

// A Duration is a time.Duration that is written as 900ms, 10s or 5m.
type Duration struct{ time.Duration }

// String is the duration as people type it: "5m", not "5m0s".
func (d Duration) String() string {
	s := d.Duration.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// UnmarshalYAML takes a text with a unit.
func (d *Duration) UnmarshalYAML(node ast.Node) error { return unmarshal(node, d.parse) }

func (d *Duration) parse(text string) error {
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 900ms, 10s or 5m", text)
	}
	d.Duration = parsed
	return nil
}

func parseInt(n *int, text string) error {
	parsed, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return fmt.Errorf("%q is not a number", text)
	}
	*n = parsed
	return nil
}

func parseBool(b *bool, text string) error {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "1", "true", "yes", "on":
		*b = true
	case "0", "false", "no", "off":
		*b = false
	default:
		return fmt.Errorf("%q is neither true nor false", text)
	}
	return nil
}

// boolText is "" for false, which needs no saying.
func boolText(b bool) string {
	if b {
		return "true"
	}
	return ""
}

// unmarshal parses a scalar of the config file; its errors say where it is.
func unmarshal(node ast.Node, parse func(string) error) error {
	at := node.GetToken().Position
	scalar, ok := node.(ast.ScalarNode)
	if !ok {
		return fmt.Errorf("[%d:%d] a single value is wanted here", at.Line, at.Column)
	}
	if err := parse(fmt.Sprint(scalar.GetValue())); err != nil {
		return fmt.Errorf("[%d:%d] %w", at.Line, at.Column, err)
	}
	return nil
}
