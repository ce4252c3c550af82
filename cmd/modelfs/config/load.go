package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// maxFile bounds the config file, so that a wrong path costs no memory.
const maxFile = 1 << 20

// loadFile reads the file that --config or $MODELFS_CONFIG names, which must
// exist, or the system's default file where there is one.
func (c *Config) loadFile(sys System, flags *Flags) error {
	name, named := flags.configFile(), true
	if name == "" {
		name = sys.get("MODELFS_CONFIG")
	}
	if name == "" {
		name, named = sys.File, false
	}
	if name == "" {
		return nil
	}
	data, err := readFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist) && !named:
		return nil
	case err != nil:
		return errorf("config file", "%w", err)
	}
	c.File = name
	if err := c.decode(data); err != nil {
		return errorf(name, "%w", err)
	}
	for key, place := range places(data) {
		c.said[strings.ReplaceAll(key, "_", "-")] = fmt.Sprintf("%s: %s %s", name, place, key)
	}
	return nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return data, err
}

// decode takes one YAML document. The error holds line and column but no
// text of the file: a secret that was written there by mistake stays there.
func (c *Config) decode(data []byte) error {
	var content any
	if yaml.Unmarshal(data, &content) == nil && content == nil {
		return nil // empty, or comments only: decoding nothing would set everything to zero
	}
	dec := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	err := dec.Decode(c)
	if err == nil {
		if err = dec.Decode(new(any)); err == nil {
			return errors.New("more than one document")
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return explain(err)
}

func (c *Config) loadEnv(sys System) error {
	for _, s := range settings {
		name, value, ok := s.lookup(sys)
		if !ok {
			continue
		}
		if err := s.set(c, s.split(value)); err != nil {
			return errorf("$"+name, "%w", err)
		}
		c.said[s.Name] = "$" + name
	}
	return nil
}

// lookup finds the first variable of the setting that says something.
func (s Setting) lookup(sys System) (name, value string, ok bool) {
	if v, set := sys.Env(s.Env()); set && (s.EmptyCounts || s.says(v)) {
		return s.Env(), v, true
	}
	if s.Name == "hf-endpoint" {
		if name := offline(sys); name != "" {
			return name, "", true
		}
	}
	for _, name := range s.Also {
		if v := sys.get(name); s.says(v) {
			return name, v, true
		}
	}
	return "", "", false
}

func (s Setting) says(value string) bool {
	if s.List {
		return len(splitList(value)) > 0
	}
	return strings.TrimSpace(value) != ""
}

func (s Setting) split(value string) []string {
	if s.List {
		return splitList(value)
	}
	return []string{value}
}

// offline names the variable by which the Hub's own tools are told to send no
// request; "" if none is set.
func offline(sys System) string {
	for _, name := range []string{"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"} {
		switch strings.ToUpper(sys.get(name)) {
		case "1", "ON", "YES", "TRUE":
			return name
		}
	}
	return ""
}

// Flags are the flags of one command that set configuration. The zero value
// is ready for Add.
type Flags struct {
	file  string
	given map[string][]string // by flag name, as typed
}

// Add declares all settings as flags of a command, and --config.
func (f *Flags) Add(fs *pflag.FlagSet, sys System) {
	f.given = make(map[string][]string)
	for _, s := range settings {
		usage := s.Usage
		if s.List {
			usage += " (repeatable)"
		}
		flag := fs.VarPF(&flagValue{setting: s, given: f.given}, s.Name, "", usage)
		flag.DefValue = s.Default(sys)
		if s.Bool {
			flag.NoOptDefVal = "true"
		}
	}
	fs.StringVar(&f.file, "config", "", "config `FILE`, YAML (default "+DefaultFile+" where it exists)")
}

func (f *Flags) configFile() string {
	if f == nil {
		return ""
	}
	return f.file
}

func (f *Flags) apply(c *Config) error {
	if f == nil {
		return nil
	}
	for _, s := range settings {
		values, ok := f.given[s.Name]
		if !ok {
			continue
		}
		if err := s.set(c, values); err != nil {
			return errorf("--"+s.Name, "%w", err)
		}
		c.said[s.Name] = "--" + s.Name
	}
	return nil
}

// flagValue collects what was typed for one flag, and refuses at once what
// can't be parsed, so that the message shows the flag.
type flagValue struct {
	setting Setting
	given   map[string][]string
}

func (v *flagValue) Set(text string) error {
	if err := v.setting.set(new(Config), []string{text}); err != nil {
		return err
	}
	v.given[v.setting.Name] = append(v.given[v.setting.Name], text)
	return nil
}

func (v *flagValue) String() string { return strings.Join(v.given[v.setting.Name], ",") }

// Type is what help texts show; pflag shows no argument for a bool.
func (v *flagValue) Type() string {
	if v.setting.Bool {
		return "bool"
	}
	return v.setting.Arg
}
