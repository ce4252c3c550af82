package fs

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"strconv"
	"testing"

	"modelfs/internal/model"
)

// A download that turned out corrupt left its pages with the kernel: whoever
// opens the file afterwards, by whatever way, must not be shown them.
func TestPagesOfACorruptDownloadAreNotShownAgain(t *testing.T) {
	wrong, right := pattern(300_000, 1), pattern(300_000, 2)
	names, content := coldModel(wrong)
	dir, _ := mountTest(t, names, content)
	path := dir + "/org/cold/m-Q8_0.gguf"
	held, err := os.Open(path)
	must(t, err)
	defer held.Close()
	if got, err := io.ReadAll(held); err != nil || !bytes.Equal(got, wrong) {
		t.Fatalf("the first download: %d bytes, %v", len(got), err)
	}
	content.mu.Lock()
	content.attempt++
	for key := range content.data {
		content.data[key] = right
	}
	content.mu.Unlock()
	for _, way := range []string{path, "/proc/self/fd/" + strconv.Itoa(int(held.Fd()))} {
		got, err := os.ReadFile(way)
		if bytes.Equal(got, wrong) {
			t.Errorf("%s shows the corrupt download's bytes", way)
		}
		if way == path && (err != nil || !bytes.Equal(got, right)) {
			t.Errorf("%s: %v, and not the second download's bytes", way, err)
		}
	}
}

// The next server counts its attempts anew, but the kernel has pages of the
// earlier one's.
func TestAttemptsGoOnWithTheNextServer(t *testing.T) {
	file := model.File{Path: "a.gguf", Size: 5, Key: "sha256-aa", SHA256: "aa", URLs: []string{"https://h/a"}}
	v := view(model.Hub, "hub:x", file)
	b := bound{view: v, file: &v.Files[0]}
	ledgerFile, err := newLedgerFile()
	must(t, err)
	defer ledgerFile.Close()
	server := func(attempt uint32) (*rawFS, *fakeContent) {
		l, records, err := openLedger(ledgerFile)
		must(t, err)
		content := &fakeContent{attempt: attempt}
		r := newRawFS(Config{Content: content, Log: slog.New(slog.DiscardHandler)}, l)
		t.Cleanup(r.bg.close)
		r.inherit(records)
		return r, content
	}
	lookup := func(r *rawFS) *node {
		n, _, err := r.file(context.Background(), b)
		must(t, err)
		return n
	}
	first, content := server(0)
	bad := lookup(first)
	content.attempt = 1
	first.notifier.forgetEntries(contentID{file.Key, "hub:x"})
	must(t, first.nodes.ledger.close())

	second, _ := server(0)
	inherited := second.nodes.get(bad.id)
	good := lookup(second)
	if inherited == nil || good.id == bad.id {
		t.Errorf("a file is opened on node %d, whose pages are of a corrupt download", bad.id)
	}
	if _, err := second.reopen(context.Background(), &handle{node: inherited, inherited: &inheritance{}}); !model.IsKind(err, model.Corrupt) {
		t.Errorf("a handle of the corrupt download after a restart: %v", err)
	}
	must(t, second.nodes.ledger.close())

	third, content := server(0)
	if n := lookup(third); n.id != good.id {
		t.Errorf("node %d is not used again by the third server, but %d", good.id, n.id)
	}
	content.attempt = 1
	if n := lookup(third); n.id == good.id || n.id == bad.id {
		t.Error("the third server's second attempt is on an old node")
	}
	must(t, third.nodes.ledger.close())
}
