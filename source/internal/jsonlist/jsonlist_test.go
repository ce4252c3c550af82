package jsonlist

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"testing"
)

type element struct {
	A, B, C, D any
	Name       string
}

func TestDecode(t *testing.T) {
	for text, want := range map[string][]string{`[]`: {}, `null`: nil, ` [ {"name":"a"} , {"name":"b","x":[1]},null ] `: {"a", "b", ""}} {
		got, err := Decode[element]([]byte(text), 3)
		var names []string
		if got != nil {
			names = []string{}
		}
		for _, e := range got {
			names = append(names, e.Name)
		}
		if err != nil || !slices.Equal(names, want) || (names == nil) != (want == nil) {
			t.Errorf("%s: %q, %v", text, names, err)
		}
	}
	for _, text := range []string{``, `{}`, `"x"`, `7`, `[`, `[{}`, `[{},`, `[{},]`, `[1]`, `[{"name":1}]`, `[{},{},{},{}]`, strings.Repeat("[", 1<<20), `[` + strings.Repeat(`{"a":`, 1<<20)} {
		if got, err := Decode[element]([]byte(text), 3); err == nil {
			t.Errorf("%.40s: %+v", text, got)
		}
	}
}

// However many elements there are in how few bytes, memory is bounded.
func TestManyElementsCostLittle(t *testing.T) {
	raw := append(append([]byte("["), bytes.Repeat([]byte("{},"), 5<<20)...), "{}]"...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := Decode[element](raw, 1000)
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Errorf("%d elements", len(got))
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
		t.Errorf("%d bytes of memory for %d of JSON", used, len(raw))
	}
}
