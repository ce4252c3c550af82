package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"modelfs/internal/hubtest"
)

func jsonText(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

// plainRepo is a repository whose only weights are model.safetensors, as in a
// tree.
func plainRepo(id string, weights pattern) hubtest.Repo {
	return hubtest.Repo{ID: id, Files: []hubtest.File{
		{Path: "config.json", Content: hubtest.Text("{}")}, {Path: "model.safetensors", Content: weights.content(), LFS: true}}}
}

func plainTree(t testing.TB, id string, weights pattern) string {
	return writeTree(t, map[string][]byte{id + "/config.json": []byte("{}"), id + "/model.safetensors": weights.bytes()})
}

func TestLocalThenSharedThenHub(t *testing.T) {
	t.Parallel()
	local, shared, theirs := pattern{1, 50_001}, pattern{2, 50_002}, pattern{3, 50_003}
	hub := hubtest.New(t)
	hub.AddRepo(plainRepo("org/m", theirs))
	nas := newShare(t, plainTree(t, "org/m", shared))
	file := "org/m/model.safetensors"

	tree := plainTree(t, "org/m", local)
	var others []string
	for i := range 20 {
		name := fmt.Sprintf("org/here%02d", i)
		others = append(others, name)
		writeFile(t, filepath.Join(tree, name, "model.safetensors"), local.bytes())
	}
	all := start(t, append(hubFlags(hub), "--local", tree, "--shared", nas.dir)...)
	wantUnasked(t, all, hub, others[:10], local)
	checkReads(t, all.path(file), local)
	nas.set("hang")
	wantUnasked(t, all, hub, others[10:], local)
	checkReads(t, all.path(file), local)
	nas.set("open")
	all.stop()

	two := start(t, append(hubFlags(hub), "--shared", nas.dir)...)
	checkReads(t, two.path(file), shared)
	two.stop()

	nas.set("hang")
	dead := start(t, append(hubFlags(hub), "--shared", nas.dir)...)
	checkReads(t, dead.path(file), theirs)
	nas.set("open")
	eventually(t, "the share is believed again", 20*time.Second, func() bool {
		got := probes(t, probeJob{Call: "stat", Paths: []string{dead.path(file)}})
		return got[0].Size == shared.size
	})
	checkReads(t, dead.path(file), shared)
}

// headStart is how long a tree is asked alone.
const headStart = 30 * time.Millisecond

// wantUnasked reads models of a local tree. What the tree answers within its
// head start costs no request; on a busy machine that may not be all of them.
func wantUnasked(t *testing.T, d *daemon, hub *hubtest.Hub, names []string, want pattern) {
	t.Helper()
	before, late := len(hub.Requests(hubtest.Filter{})), 0
	for _, name := range names {
		began := time.Now()
		got, err := os.ReadFile(d.path(name + "/model.safetensors"))
		took := time.Since(began)
		if err != nil || !bytes.Equal(got, want.bytes()) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if took >= headStart {
			late++
			continue
		}
		if n := len(hub.Requests(hubtest.Filter{Path: "*" + name + "*"})); n != 0 {
			t.Errorf("%d requests for %s, which is local", n, name)
		}
	}
	if n := len(hub.Requests(hubtest.Filter{})) - before; late == 0 && n != 0 {
		t.Errorf("%d requests for local models", n)
	}
	if late == len(names) {
		t.Errorf("none of %d models was read within %v: this shows nothing", late, headStart)
	}
}

// The share goes down between two shards. The Hub's namesake with other sizes
// is refused, and explain says why.
func TestAShareThatGoesDownInTheMiddleOfAModel(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"hang", "fail"} {
		t.Run(state+" and the Hub's has the same sizes", func(t *testing.T) { checkStandIn(t, state, 60_000) })
		t.Run(state+" and the Hub's has another size", func(t *testing.T) { checkStandIn(t, state, 60_001) })
	}
}

func checkStandIn(t *testing.T, state string, size int64) {
	t.Parallel()
	const first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	index := []byte(`{"weight_map":{"a":"` + first + `","b":"` + second + `"}}`)
	tree := writeTree(t, map[string][]byte{"org/m/model.safetensors.index.json": index,
		"org/m/" + first: pattern{1, 50_000}.bytes(), "org/m/" + second: pattern{2, 60_000}.bytes()})
	hub := hubtest.New(t)
	hub.AddRepo(hubtest.Repo{ID: "org/m", Files: []hubtest.File{
		{Path: "config.json", Content: hubtest.Text("{}")}, {Path: "model.safetensors.index.json", Content: hubtest.Bytes(index)},
		{Path: first, Content: pattern{1, 50_000}.content(), LFS: true}, {Path: second, Content: pattern{3, size}.content(), LFS: true}}})
	nas := newShare(t, tree)
	d := start(t, append(hubFlags(hub), "--shared", nas.dir)...)
	checkReads(t, d.path("org/m", first), pattern{1, 50_000})
	nas.set(state)
	if size == 60_000 {
		checkReads(t, d.path("org/m", second), pattern{3, size}) // as far as anybody can tell
	} else {
		for range 3 {
			wantProbes(t, onTime, syscall.EHOSTUNREACH, probes(t, probeJob{Call: "open", Paths: []string{d.path("org/m", second)}}))
		}
		if text := jsonText(d.control("explain/org/m.json")); !strings.Contains(text, "60001") || !strings.Contains(text, "60000") {
			t.Errorf("explain does not name the difference: %s", text)
		}
		if n := hub.BytesSent("org/m/*.safetensors"); n != 0 {
			t.Errorf("%d bytes of a namesake were fetched", n)
		}
	}
	nas.set("open")
	eventually(t, "the share is used again", 20*time.Second, func() bool {
		return reader(d.path("org/m", second), pattern{2, 60_000}, "read").Run() == nil
	})
}

func TestFallbackAnyTakesTheNamesake(t *testing.T) {
	t.Parallel()
	hub := hubtest.New(t)
	hub.AddRepo(plainRepo("org/m", pattern{3, 50_003}))
	nas := newShare(t, plainTree(t, "org/m", pattern{2, 50_002}))
	d := start(t, append(hubFlags(hub), "--shared", nas.dir, "--fallback", "any")...)
	checkReads(t, d.path("org/m/model.safetensors"), pattern{2, 50_002})
	nas.set("fail")
	checkReads(t, d.path("org/m/model.safetensors"), pattern{3, 50_003})
}
