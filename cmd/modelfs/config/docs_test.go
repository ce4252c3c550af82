package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the table in docs/configuration.md")

const (
	docs  = "../../../docs/configuration.md"
	begin = "<!-- table of settings: go test ./cmd/modelfs/config -update -->\n"
	end   = "<!-- end of table -->\n"
)

// table is the documentation of every setting.
func table() string {
	var b strings.Builder
	b.WriteString("| flag | key | variables, the first that is set wins | default | what it says |\n|---|---|---|---|---|\n")
	for _, s := range Settings() {
		vars := "`" + strings.Join(append([]string{s.Env()}, s.Also...), "`, `") + "`"
		def := s.Default(system())
		if def != "" {
			def = "`" + def + "`"
		}
		usage := s.Usage
		if s.List {
			usage += " (repeatable)"
		}
		arg := strings.ReplaceAll(s.Arg, "|", `\|`)
		flag := strings.TrimSpace(s.Name + " " + arg)
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s | %s |\n", flag, s.Key(), vars, def, usage)
	}
	return b.String()
}

func TestDocumentedSettings(t *testing.T) {
	data, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no table between its marks", docs)
	}
	if *update {
		if err := os.WriteFile(docs, []byte(head+begin+table()+end+tail), 0o644); err != nil { //nolint:gosec // documentation is for everyone
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table(), old); diff != "" {
		t.Errorf("%s differs from the settings (-settings +docs); run the command in its mark:\n%s", docs, diff)
	}
}

// Every key of the config file is a setting or is described in the text.
func TestDocumentedKeys(t *testing.T) {
	data, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	c := reflect.TypeFor[Config]()
	for i := range c.NumField() {
		key := c.Field(i).Tag.Get("yaml")
		if key == "-" {
			continue
		}
		if key == "" || !strings.Contains(string(data), "`"+key+"`") {
			t.Errorf("field %s: key %q is not in %s", c.Field(i).Name, key, docs)
		}
	}
}

// Every setting has a key of the config file that sets the same field.
func TestKeysMatchFlags(t *testing.T) {
	c := reflect.TypeFor[Config]()
	keys := make(map[string]bool)
	for i := range c.NumField() {
		keys[c.Field(i).Tag.Get("yaml")] = true
	}
	for _, s := range Settings() {
		if !keys[s.Key()] {
			t.Errorf("--%s has no key %s", s.Name, s.Key())
		}
	}
}
