package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"modelfs/internal/model"
)

// maxFills bounds background downloads: beyond it they only take connections
// from each other.
const maxFills = 64

// maxID is the largest number of a user or group; the one above it means
// "unchanged" to the kernel.
const maxID = 1<<32 - 2

// finish makes paths absolute and checks what the parsers could not.
func (c *Config) finish() error {
	for _, step := range []func() error{c.finishPaths, c.checkWords, c.checkNumbers, c.checkURLs, c.checkNames} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) finishPaths() error {
	if c.Cache == "" {
		return c.errorf("cache", "no backing dir: there is neither $HOME nor $XDG_CACHE_HOME, so name one")
	}
	c.Local, c.Shared, c.LinkTargets = slices.Clone(c.Local), slices.Clone(c.Shared), slices.Clone(c.LinkTargets)
	for name, list := range map[string][]string{"local": c.Local, "shared": c.Shared, "link-targets": c.LinkTargets} {
		for i, dir := range list {
			if dir == "" {
				return c.errorf(name, "an empty path")
			}
			abs, err := filepath.Abs(dir)
			if err != nil {
				return c.errorf(name, "%w", err)
			}
			list[i] = abs
		}
	}
	for _, field := range []*string{&c.Cache, &c.CAFile, &c.RouterTokenFile, &c.BackendRules} {
		if *field == "" {
			continue
		}
		abs, err := filepath.Abs(*field)
		if err != nil {
			return errorf(*field, "%w", err)
		}
		*field = abs
	}
	for name, trees := range map[string][]string{"local": c.Local, "shared": c.Shared} {
		if slices.Contains(trees, c.Cache) { // which is written, and trees never are
			return c.errorf("cache", "%s is a tree, too (%s): downloads need a directory of their own", c.Cache, c.Where(name))
		}
	}
	return nil
}

func (c *Config) checkWords() error {
	for _, w := range []struct {
		name, value string
		words       []string
	}{
		{"shared-io", c.SharedIO, []string{SharedPassthrough, SharedDaemon}},
		{"fill", c.Fill, []string{FillAuto, FillTouched}},
		{"fallback", c.Fallback, []string{FallbackSame, FallbackAny}},
		{"on-stop", c.OnStop, []string{StopUnmount, StopLeave}},
		{"log-level", c.LogLevel, []string{"debug", "info", "warn", "error"}},
		{"log-format", c.LogFormat, []string{"auto", "text", "json"}},
	} {
		if !slices.Contains(w.words, w.value) {
			return c.errorf(w.name, "%q is none of %s", w.value, strings.Join(w.words, ", "))
		}
	}
	if slices.ContainsFunc(c.Quant, func(q string) bool { return strings.TrimSpace(q) == "" }) {
		return c.errorf("quant", "an empty quantisation")
	}
	return nil
}

func (c *Config) checkNumbers() error {
	if c.MaxFills < 1 || c.MaxFills > maxFills {
		return c.errorf("max-fills", "%d is not between 1 and %d", c.MaxFills, maxFills)
	}
	if c.CacheSize < 0 {
		return c.errorf("cache-size", "%d is negative", c.CacheSize)
	}
	for name, id := range map[string]int{"uid": c.UID, "gid": c.GID} {
		if id < Own || id > maxID {
			return c.errorf(name, "%d is no user's or group's number", id)
		}
	}
	for _, d := range []struct {
		name  string
		value Duration
		max   time.Duration
	}{
		{"lookup-timeout", c.LookupTimeout, time.Minute},
		{"list-timeout", c.ListTimeout, 10 * time.Minute},
		{"read-timeout", c.ReadTimeout, 24 * time.Hour},
	} {
		if d.value.Duration < 10*time.Millisecond || d.value.Duration > d.max {
			return c.errorf(d.name, "%v is not between 10ms and %v", d.value, Duration{d.max})
		}
	}
	return nil
}

func (c *Config) checkURLs() error {
	for name, field := range map[string]*string{"hf-endpoint": &c.HFEndpoint, "router": &c.Router} {
		if *field == "" {
			continue
		}
		if err := checkURL(*field); err != nil {
			return c.errorf(name, "%w", err)
		}
		*field = strings.TrimRight(*field, "/")
	}
	if c.Listen == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return c.errorf("listen", "%w; write it as :9090 or 0.0.0.0:9090", err)
	}
	if host == "" { // everybody's business only where that was asked for
		c.Listen = net.JoinHostPort("127.0.0.1", port)
	}
	return nil
}

// checkURL never shows the text: it may hold a password.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("not a base URL such as https://huggingface.co")
	case u.User != nil:
		return fmt.Errorf("a URL with a user or a password is not taken: a token goes into the environment or a file")
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("a base URL has no query and no fragment")
	}
	return nil
}

func (c *Config) checkNames() error {
	for name, alias := range c.Models {
		if n, err := model.ParseName(name); err != nil || n.Path() != name || !model.ValidRepoPart(n.Repo) {
			return c.errorf("models", "%q can't be an alias: it must look like a model's name, llama3 or org/llama3", name)
		}
		n, err := model.ParseName(alias.HF)
		if err != nil || n.Quant != "" || n.Revision != "" {
			return c.errorf("models", "%s: hf: %q is not a repository such as org/repo", name, alias.HF)
		}
		if err := checkPatterns(alias.Files); err != nil {
			return c.errorf("models", "%s: files: %w", name, err)
		}
	}
	for pattern, ids := range c.Sources {
		if err := checkPatterns([]string{pattern}); err != nil {
			return c.errorf("sources", "%w", err)
		}
		for _, id := range ids {
			kind, _, _ := strings.Cut(id, ":")
			if !slices.Contains(sourceWords, kind) {
				return c.errorf("sources", "%s: %q is not local, shared, hub, router or the ID of one of them", pattern, id)
			}
		}
	}
	return nil
}

// sourceWords are the kinds of source, and what the IDs of stores begin with.
var sourceWords = []string{"local", "shared", "hub", "router",
	"hfcache", "ollama", "lmstudio", "modelscope", "llamacpp", "docker", "node"}

func checkPatterns(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return fmt.Errorf("%q is not a pattern", p)
		}
	}
	return nil
}

// LogValue shows every setting; none of them is a secret.
func (c *Config) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("config", c.File)}
	for _, s := range settings {
		if v := s.get(c); v != "" {
			attrs = append(attrs, slog.String(s.Key(), v))
		}
	}
	return slog.GroupValue(append(attrs, slog.Any("hub_token", c.HubToken), slog.Any("router_token", c.RouterToken))...)
}
