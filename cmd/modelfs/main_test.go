package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"modelfs/internal/leaktest"
)

// In scripts the command modelfs is this test binary.
func TestMain(m *testing.M) {
	testscript.Main(watched{m}, map[string]func(){"modelfs": main})
}

// watched are tests that fail if they leave anything.
type watched struct{ m *testing.M }

// Run follows testscript.TestingM.
func (w watched) Run() int { return leaktest.Run(w.m.Run) }

// Scripts are the command line as people and units use it: real processes,
// real mounts. They need root and /dev/fuse.
func TestScripts(t *testing.T) {
	// The package's own removes the directories only if every script was run.
	dirs, err := os.MkdirTemp("", "scripts") // a short path: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dirs); err != nil {
			t.Error(err)
		}
	})
	testscript.Run(t, testscript.Params{
		Dir:         "testdata/script",
		WorkdirRoot: dirs,
		Setup: func(env *testscript.Env) error {
			// None of the machine's own settings, and no Hub unless a script says so.
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("MODELFS_CONFIG", os.DevNull)
			env.Setenv("MODELFS_HF_ENDPOINT", "")
			env.Setenv("MODELFS_CACHE", env.WorkDir+"/cache")
			env.Setenv("GORACE", noRaceSleep)
			env.Values[daemonsKey{}] = make(daemons)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     cmdCode,
			"daemon":   cmdDaemon,
			"halt":     cmdHalt,
			"waitgone": cmdWaitGone,
		},
	})
}
