package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/docker/model-runner/pkg/distribution/builder"
	"github.com/docker/model-runner/pkg/distribution/distribution"
	"github.com/docker/model-runner/pkg/distribution/tarball"
	"github.com/sirupsen/logrus"
)

func runDocker(dir, what string, args []string) error {
	log := logrus.New()
	log.SetOutput(io.Discard)
	client, err := distribution.NewClient(distribution.WithStoreRootPath(dir), distribution.WithLogger(logrus.NewEntry(log)))
	if err != nil {
		return err
	}
	switch {
	case what == "add" && len(args) > 1:
		return addDocker(client, args[0], args[1:])
	case what == "cut" && len(args) == 1:
		return cutDocker(client, args[0])
	case what == "tag" && len(args) == 2:
		return client.Tag(args[0], args[1])
	case what == "rm":
		_, err := client.DeleteModel(args[0], true)
		return err
	}
	return fmt.Errorf("docker %s %q", what, args)
}

// pack writes the model of the files as an archive.
func pack(archive string, files []string) error {
	var b *builder.Builder
	var err error
	if filepath.Ext(files[0]) == ".gguf" {
		b, err = builder.FromGGUF(files[0])
	} else {
		b, err = builder.FromSafetensors(files)
	}
	if err != nil {
		return err
	}
	return b.Build(context.Background(), tarball.NewFileTarget(archive), io.Discard)
}

// withArchive calls f with the model of the files, packed.
func withArchive(files []string, f func(*os.File) error) error {
	dir, err := os.MkdirTemp("", "stores")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	archive := filepath.Join(dir, "model.tar")
	if err := pack(archive, files); err != nil {
		return err
	}
	packed, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer packed.Close()
	return f(packed)
}

func addDocker(client *distribution.Client, tag string, files []string) error {
	return withArchive(files, func(archive *os.File) error {
		id, err := client.LoadModel(archive, io.Discard)
		if err != nil {
			return err
		}
		return client.Tag(id, tag)
	})
}

// cutDocker loads a model whose archive ends in the middle of its weights.
func cutDocker(client *distribution.Client, file string) error {
	return withArchive([]string{file}, func(archive *os.File) error {
		whole, err := archive.Stat()
		if err != nil {
			return err
		}
		if _, err := client.LoadModel(io.LimitReader(archive, whole.Size()/2), io.Discard); err == nil {
			return fmt.Errorf("half of an archive was accepted")
		}
		return nil
	})
}
