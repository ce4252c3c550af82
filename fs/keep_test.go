package fs

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"modelfs/internal/model"
)

// A server that takes over holds what is open and complete; what has gone from
// the backing dir is asked of nobody before the first request is answered.
func TestWhatIsGoneIsNotAskedForAtTheStart(t *testing.T) {
	v := view(model.Hub, "hub:x", model.File{Path: "a.gguf", Size: 5, Key: "sha256-aa", SHA256: "aa", URLs: []string{"https://h/a"}})
	b := bound{view: v, file: &v.Files[0]}
	blob, err := os.Create(filepath.Join(t.TempDir(), "blob"))
	must(t, err)
	defer blob.Close()
	ledgerFile, err := newLedgerFile()
	must(t, err)
	defer ledgerFile.Close()
	server := func(content *fakeContent) *rawFS {
		l, records, err := openLedger(ledgerFile)
		must(t, err)
		r := newRawFS(Config{Content: content, Log: slog.New(slog.DiscardHandler)}, l)
		t.Cleanup(r.bg.close)
		r.inherit(records)
		return r
	}
	first := server(&fakeContent{})
	n := first.node(&node{kind: kindBlob, size: 5, ino: 2, bound: b, key: nodeKey{kind: kindBlob, path: "sha256-aa", size: 5}})
	first.handles.add(&handle{node: n})
	must(t, first.nodes.ledger.close())
	for _, there := range []bool{true, false} {
		content := &fakeContent{data: map[model.Key][]byte{"sha256-aa": []byte("12345")}, complete: map[model.Key]*os.File{}}
		if there {
			content.complete["sha256-aa"] = blob
		}
		r := server(content)
		r.keepInherited(context.Background())
		if content.opens > 0 != there {
			t.Errorf("complete: %v, opened %d times", there, content.opens)
		}
		must(t, r.nodes.ledger.close())
	}
}
