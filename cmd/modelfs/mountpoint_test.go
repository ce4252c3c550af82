package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"modelfs/cmd/modelfs/config"
)

func TestAMountDoesNotReadItself(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Mkdir(dir+"/models", 0o700), os.Symlink("models", dir+"/link")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	point := dir + "/models"
	for name, tc := range map[string]struct {
		cfg  config.Config
		want string // in the message; "": it may
	}{
		"apart":                     {config.Config{Cache: dir + "/cache", Local: []string{dir + "/models-here"}, Shared: []string{"/srv"}}, ""},
		"the backing dir in it":     {config.Config{Cache: point + "/cache"}, "--cache: " + point + "/cache"},
		"it in the backing dir":     {config.Config{Cache: dir}, ""},
		"it is the backing dir":     {config.Config{Cache: point}, "--cache: " + point},
		"the tree itself":           {config.Config{Cache: "/c", Local: []string{"/srv", point}}, "--local: " + point},
		"the tree under a link":     {config.Config{Cache: "/c", Local: []string{dir + "/link"}}, "--local: " + dir + "/link"},
		"it in a tree":              {config.Config{Cache: "/c", Local: []string{dir}}, "--local: " + dir},
		"it in a share":             {config.Config{Cache: "/c", Shared: []string{dir}}, "--shared: " + dir},
		"everything is in the root": {config.Config{Cache: "/c", Shared: []string{"/"}}, "--shared: /"},
	} {
		err := checkApart(&tc.cfg, point)
		if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || exitCode(err) != exitUsage) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
