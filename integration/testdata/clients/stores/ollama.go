package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ollama/ollama/manifest"
	"github.com/ollama/ollama/types/model"
)

func runOllama(dir, what string, args []string) error {
	if err := os.Setenv("OLLAMA_MODELS", dir); err != nil {
		return err
	}
	name := model.ParseName(args[0])
	if !name.IsFullyQualified() {
		return fmt.Errorf("%q is no name of Ollama's", args[0])
	}
	switch {
	case what == "add" && len(args) == 2:
		return addOllama(name, args[1])
	case what == "rm":
		m, err := manifest.ParseNamedManifest(name)
		if err != nil {
			return err
		}
		if err := m.Remove(); err != nil {
			return err
		}
		return m.RemoveLayers()
	}
	return fmt.Errorf("ollama %s %q", what, args)
}

func addOllama(name model.Name, file string) error {
	weights, err := os.Open(file)
	if err != nil {
		return err
	}
	defer weights.Close()
	var layers []manifest.Layer
	for _, l := range []struct {
		from io.Reader
		kind string
	}{
		{weights, "model"}, {strings.NewReader("{{ .Prompt }}"), "template"}, {strings.NewReader(`{"temperature":0}`), "params"},
	} {
		layer, err := manifest.NewLayer(l.from, "application/vnd.ollama.image."+l.kind)
		if err != nil {
			return err
		}
		layers = append(layers, layer)
	}
	config := strings.NewReader(`{"model_format":"gguf","model_family":"llama","model_type":"2.2M","file_type":"F32","architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	layer, err := manifest.NewLayer(config, "application/vnd.docker.container.image.v1+json")
	if err != nil {
		return err
	}
	return manifest.WriteManifest(name, layer, layers)
}
