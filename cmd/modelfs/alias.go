package main

import (
	"context"
	"path"
	"slices"
	"strings"

	"modelfs/cmd/modelfs/config"
	"modelfs/internal/model"
	"modelfs/resolver"
)

// aliasSource knows the names that the config file gives to models of the
// Hub. Bytes are the Hub's: its models say so, and have the Hub's keys.
type aliasSource struct {
	hub    resolver.Source
	models map[string]config.Alias
}

// ID is constant: there is one config file.
func (s aliasSource) ID() string { return "aliases" }

// Kind is the Hub's, so that trees come first.
func (s aliasSource) Kind() model.SourceKind { return model.Hub }

// Find asks the Hub for what the alias stands for.
func (s aliasSource) Find(ctx context.Context, n model.Name) (model.Found, error) {
	target, ok := s.target(n)
	if !ok {
		return model.Found{}, model.Errorf(model.NotFound, "the config file has no alias %s", n.Path())
	}
	return s.hub.Find(ctx, target)
}

// Renamed says that the alias's models are the Hub's, and what the config file
// has it stand for.
func (s aliasSource) Renamed(n model.Name) (source, meaning string) {
	alias, ok := s.models[n.Path()]
	if !ok {
		return "", ""
	}
	return s.hub.ID(), alias.HF + "@" + alias.Revision + " " + strings.Join(alias.Files, " ")
}

var _ resolver.Renamer = aliasSource{}

// List lists the model that the alias stands for, less the files that it does
// not want.
func (s aliasSource) List(ctx context.Context, n model.Name, f model.Found) (*model.Model, error) {
	target, _ := s.target(n)
	m, err := s.hub.List(ctx, target, f)
	patterns := s.models[n.Path()].Files
	if err != nil || len(patterns) == 0 {
		return m, err
	}
	wanted := *m
	wanted.Files = nil
	for _, file := range m.Files {
		if slices.ContainsFunc(patterns, func(p string) bool { return matches(p, file.Path) }) {
			wanted.Files = append(wanted.Files, file)
		}
	}
	return &wanted, nil
}

// matches compares a pattern with the whole path, or, if it has no slash,
// with the file's name.
func matches(pattern, file string) bool {
	if !strings.Contains(pattern, "/") {
		file = path.Base(file)
	}
	ok, err := path.Match(pattern, file)
	return ok && err == nil
}

// Names are the aliases, sorted.
func (s aliasSource) Names(context.Context) ([]model.Found, error) {
	var list []model.Found
	for name := range s.models {
		list = append(list, model.Found{Kind: model.ModelDir, Name: name})
	}
	slices.SortFunc(list, func(a, b model.Found) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// target is what an alias stands for; a revision or a quantisation that was
// asked for stays.
func (s aliasSource) target(n model.Name) (model.Name, bool) {
	alias, ok := s.models[n.Path()]
	if !ok {
		return model.Name{}, false
	}
	target, err := model.ParseName(alias.HF)
	if err != nil {
		return model.Name{}, false // config checked it
	}
	target.Quant, target.Revision = n.Quant, n.Revision
	if target.Revision == "" {
		target.Revision = alias.Revision
	}
	return target, true
}
