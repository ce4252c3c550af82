package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modelfs/cmd/modelfs/doctor"
	"modelfs/internal/model"
	"modelfs/internal/mountinfo"
)

// trialPatience bounds the mount made for trial.
const trialPatience = 15 * time.Second

// tryMount mounts a tree of one small file that lies where the backing dir
// is, or will be, and reads it as an engine would.
func tryMount(ctx context.Context, cache string) doctor.Trial {
	ctx, cancel := context.WithTimeout(ctx, trialPatience)
	defer cancel()
	base := cache
	for base != "/" {
		if _, err := os.Stat(base); err == nil {
			break
		}
		base = filepath.Dir(base)
	}
	t := doctor.Trial{Where: base}
	dir, err := os.MkdirTemp(base, ".modelfs-doctor-*")
	if err != nil { // what is wrong with the backing dir has a line of its own
		t.Where = os.TempDir()
		dir, err = os.MkdirTemp("", "modelfs-doctor.")
	}
	if err != nil {
		t.Err = err
		return t
	}
	t.Err = errors.Join(runTrial(ctx, dir, &t), os.RemoveAll(dir))
	return t
}

func runTrial(ctx context.Context, dir string, t *doctor.Trial) (err error) {
	point, file := filepath.Join(dir, "models"), filepath.Join(dir, "tree", "m", "model.gguf")
	for _, d := range []string{point, filepath.Dir(file)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(file, demoGGUF(16), 0o600); err != nil {
		return err
	}
	var said strings.Builder
	args := []string{"mount", "--local", filepath.Join(dir, "tree"), "--cache", filepath.Join(dir, "cache"), "--hf-endpoint", "",
		"--no-discover", "--backend", "all", "--log-level", "warn", "--log-format", "json", point}
	served, err := startChild(ctx, &said, args, point)
	if err != nil {
		return errors.Join(err, trialSaid(said.String()))
	}
	t.Native, t.ReadAhead, err = lookAtTrial(point)
	err = errors.Join(err, served.stop())
	t.Causes = causes(said.String()) // complete once the child has ended
	return err
}

func lookAtTrial(point string) (native bool, readAhead int, err error) {
	f, err := os.Open(filepath.Join(point, "m", "model.gguf"))
	if err != nil {
		return false, 0, err
	}
	defer f.Close()
	if _, err := io.Copy(io.Discard, f); err != nil {
		return false, 0, err
	}
	s, err := readStatus(point)
	if err != nil {
		return false, 0, err
	}
	list, err := mountinfo.Read()
	if m, ok := mountOf(list, point); ok && err == nil {
		text, _ := os.ReadFile(filepath.Join("/sys/class/bdi", m.Device, "read_ahead_kb"))
		_, _ = fmt.Sscan(string(text), &readAhead) // not known where there is no /sys
	}
	return s.Mount.Passthrough > 0, readAhead, err
}

// causes are those that the log of a child gives.
func causes(log string) []string {
	var list []string
	for line := range strings.Lines(log) {
		var entry struct{ Cause string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Cause != "" {
			list = append(list, entry.Cause)
		}
	}
	return list
}

// trialSaid is what a child said that did not mount, as an error.
func trialSaid(log string) error {
	if text := strings.TrimSpace(log); text != "" {
		return model.Errorf(model.Unavailable, "it said: %s", text)
	}
	return nil
}
