package describe

import (
	"context"
	"hash/maphash"

	"modelfs/internal/format"
	"modelfs/internal/model"
	"modelfs/resolver"
)

// maxStudies bounds the models of which is remembered what was read, some 300
// bytes each.
const maxStudies = 32_768

// identity is a listing: what was read is good as long as it is the same.
type identity struct {
	source, name string
	listing      uint64 // hash of what else it says
}

// A study is what was read of a model that lies here.
type study struct {
	configs format.Hints  // of config files
	headers *format.Hints // of weights too; nil: not read
}

func (d *Describer) identify(m *model.Model) identity {
	var h maphash.Hash
	h.SetSeed(d.seed)
	write := func(s string) {
		_, _ = h.WriteString(s) // it never fails
		_ = h.WriteByte(0)
	}
	for _, t := range m.Tags {
		write(t)
	}
	write(m.Revision)
	maphash.WriteComparable(&h, m.Traits)
	for i := range m.Files {
		f := &m.Files[i]
		write(f.Path)
		maphash.WriteComparable(&h, f.Size)
		maphash.WriteComparable(&h, f.ModTime.UnixNano())
	}
	return identity{m.Source, m.Name, h.Sum64()}
}

// Study reads the config files of a model that lies here, if that was not done
// before. It returns when ctx ends; then the model is judged by names, as is
// one whose files can't be read.
func (d *Describer) Study(ctx context.Context, m *model.Model) {
	if !m.Kind.InPlace() || !format.HasConfigs(m) {
		return
	}
	id := d.identify(m)
	if _, done := d.studied(id); done {
		return
	}
	configs, err := format.ReadConfigs(m, func(f *model.File, n int64) ([]byte, error) { return f.Place.Head(ctx, n) })
	if err == nil {
		d.remember(id, study{configs: configs})
	}
}

func (d *Describer) studied(id identity) (study, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, done := d.studies[id]
	return s, done
}

func (d *Describer) remember(id identity, s study) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.studies) >= maxStudies {
		clear(d.studies)
	}
	d.studies[id] = s
}

// headers is all that is known of a model from its files. Headers are read of
// models on this machine's disks: a share, whose server may hang, is not worth
// it.
func (d *Describer) headers(ctx context.Context, m *model.Model) format.Hints {
	if !m.Kind.InPlace() {
		return format.Hints{}
	}
	id := d.identify(m)
	s, _ := d.studied(id)
	switch {
	case s.headers != nil:
		return *s.headers
	case m.Kind != model.Local || ctx.Err() != nil:
		return s.configs
	}
	read, err := format.Inspect(m, func(f *model.File) (format.Local, error) {
		file, _, err := f.Place.Open(ctx)
		return file, err
	})
	if err != nil {
		return s.configs
	}
	s.headers = &read
	d.remember(id, s)
	return read
}

// A Studied source is a tree whose models are studied when they are listed, so
// that whoever asks the Filter afterwards has what their configs say.
type Studied struct {
	resolver.Source
	by *Describer
}

// Studied makes a source of one whose models lie here.
func (d *Describer) Studied(s resolver.Source) Studied { return Studied{s, d} }

// List is that of the source.
func (s Studied) List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error) {
	m, err := s.Source.List(ctx, n, f)
	if err == nil && m != nil {
		s.by.Study(ctx, m)
	}
	return m, err
}
