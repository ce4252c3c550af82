package format

import (
	"fmt"
	"io"
	"path"
	"strings"

	"modelfs/internal/model"
)

// MaxIndex bounds the index of a set; those of the largest models have some
// 10 MB.
const MaxIndex = 64 << 20

// Bounds on the files of one model that are read for hints.
const (
	maxInspected = 512
	maxConfigs   = 16 // of config files alone; pipelines have one a directory
)

// Hints are what was read of a model's files. The zero value knows nothing.
type Hints struct {
	Configs     map[string]*model.Traits      // what config files say, by directory; "." is the model's
	Indexes     map[string][]string           // by path: the parts that an index of a set names, relative to its directory
	GGUF        map[string]*GGUFHeader        // by path
	Safetensors map[string]*SafetensorsHeader // by path
	Bad         map[string]string             // by path: why a header can't be used
}

// Local is an open file on this machine; *os.File is one.
type Local interface {
	io.ReaderAt
	io.Closer
}

// isConfig reports whether a file says how the weights beside it are stored.
func isConfig(f *model.File) bool {
	name := strings.ToLower(path.Base(f.Path))
	return f.Size > 0 && (name == "config.json" || quantFiles[name] != "")
}

// HasConfigs reports whether ReadConfigs would read anything.
func HasConfigs(m *model.Model) bool {
	for i := range m.Files {
		if isConfig(&m.Files[i]) {
			return true
		}
	}
	return false
}

// ReadConfigs reads the config files of a model through head, which returns
// the first n bytes of a file or all of it: some KB each. What can't be
// understood is a hint too. An error is head's.
func ReadConfigs(m *model.Model, head func(f *model.File, n int64) ([]byte, error)) (Hints, error) {
	h := Hints{Configs: map[string]*model.Traits{}, Bad: map[string]string{}}
	left := maxConfigs
	for i := range m.Files {
		f := &m.Files[i]
		if !isConfig(f) || left == 0 {
			continue
		}
		left--
		raw, err := head(f, maxConfig+1)
		if err != nil {
			return h, fmt.Errorf("inspecting %s: %w", f.Path, err)
		}
		if err := h.config(f, raw); err != nil {
			h.Bad[f.Path] = f.Path + ": " + err.Error()
		}
	}
	return h, nil
}

// Inspect reads the configs, the indexes and the headers of a model that lies
// on this machine, through open: a few MB for each weights file at most.
// What a file says that can't be understood is a hint too. An error is
// open's or a read's, and ends the inspection; the hints until then are good.
// It blocks as open and its files do.
func Inspect(m *model.Model, open func(*model.File) (Local, error)) (Hints, error) {
	h := Hints{Configs: map[string]*model.Traits{}, Indexes: map[string][]string{}, GGUF: map[string]*GGUFHeader{},
		Safetensors: map[string]*SafetensorsHeader{}, Bad: map[string]string{}}
	left := maxInspected
	for i := range m.Files {
		f := &m.Files[i]
		read := h.readerOf(f)
		if read == nil || f.Size <= 0 || left == 0 {
			continue
		}
		left--
		if err := h.inspect(f, open, read); err != nil {
			return h, fmt.Errorf("inspecting %s: %w", f.Path, err)
		}
	}
	return h, nil
}

// readerOf is what reads a file's hint, or nil.
func (h *Hints) readerOf(f *model.File) func(*model.File, io.ReaderAt) error {
	name := strings.ToLower(path.Base(f.Path))
	switch {
	case isConfig(f):
		return h.readConfig
	case strings.HasSuffix(name, ".index.json"):
		return h.readIndex
	case IsGGUF(name):
		return func(f *model.File, r io.ReaderAt) (err error) {
			h.GGUF[f.Path], err = ReadGGUF(r, f.Size)
			return err
		}
	case strings.HasSuffix(name, ".safetensors"):
		return func(f *model.File, r io.ReaderAt) (err error) {
			h.Safetensors[f.Path], err = ReadSafetensors(r, f.Size)
			return err
		}
	}
	return nil
}

func (h *Hints) inspect(f *model.File, open func(*model.File) (Local, error), read func(*model.File, io.ReaderAt) error) error {
	file, err := open(f)
	if err != nil {
		return err
	}
	defer file.Close()
	err = read(f, file)
	if model.IsKind(err, model.Invalid) || model.IsKind(err, model.Corrupt) {
		h.Bad[f.Path] = f.Path + ": " + err.Error()
		return nil
	}
	return err
}

func (h *Hints) readConfig(f *model.File, r io.ReaderAt) error {
	raw, err := readAll(f, r, maxConfig)
	if err != nil {
		return err
	}
	return h.config(f, raw)
}

// config takes what a config file says. The error is of kind Invalid.
func (h *Hints) config(f *model.File, raw []byte) error {
	dir, name := path.Dir(f.Path), strings.ToLower(path.Base(f.Path))
	if name == "config.json" {
		c, err := ParseConfig(raw)
		if err != nil {
			return err
		}
		if before := h.Configs[dir]; before != nil && c.Scheme == "" {
			c.Scheme, c.Bits = before.Scheme, before.Bits
		}
		h.Configs[dir] = c
		return nil
	}
	if h.Configs[dir] == nil {
		h.Configs[dir] = &model.Traits{}
	}
	return parseQuantConfig(h.Configs[dir], name, raw)
}

func (h *Hints) readIndex(f *model.File, r io.ReaderAt) error {
	raw, err := readAll(f, r, MaxIndex)
	if err != nil {
		return err
	}
	h.Indexes[f.Path], err = ParseIndex(raw)
	return err
}

func readAll(f *model.File, r io.ReaderAt, limit int64) ([]byte, error) {
	if f.Size > limit {
		return nil, model.Errorf(model.Invalid, "it is larger than %d bytes", limit)
	}
	return io.ReadAll(io.NewSectionReader(r, 0, f.Size))
}

// configOf is that of the directory or of the nearest one above it, or nil.
func (h Hints) configOf(dir string) *model.Traits {
	if len(h.Configs) == 0 {
		return nil
	}
	for ; ; dir = path.Dir(dir) {
		if c := h.Configs[dir]; c != nil || dir == "." || dir == "/" {
			return c
		}
	}
}

func (h Hints) architecture() string {
	if g := h.mainGGUF(); g != nil && g.Architecture != "" {
		return g.Architecture
	}
	if c := h.Configs["."]; c != nil {
		return c.Architecture
	}
	return ""
}

func (h Hints) sizeLabel() string {
	if g := h.mainGGUF(); g != nil {
		return g.SizeLabel
	}
	return ""
}

// mainGGUF is the header of the first GGUF file that is a model, by name, or nil.
func (h Hints) mainGGUF() *GGUFHeader {
	first := ""
	for p, g := range h.GGUF {
		if g != nil && g.Architecture != "" && !IsCompanion(p) && (first == "" || p < first) {
			first = p
		}
	}
	return h.GGUF[first]
}

// broken says what the headers find wrong with the files, or "".
func (h Hints) broken(files []*model.File) string {
	for _, f := range files {
		if why := h.Bad[f.Path]; why != "" {
			return why
		}
		want := int64(-1)
		if g := h.GGUF[f.Path]; g != nil {
			want = g.Expected
		} else if s := h.Safetensors[f.Path]; s != nil {
			want = s.Expected
		}
		if f.Size >= 0 && f.Size < want {
			return fmt.Sprintf("%s is truncated: it has %d of %d bytes", f.Path, f.Size, want)
		}
	}
	return ""
}
