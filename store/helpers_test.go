package store

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"testing"
	"time"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockHelperEnv); dir != "" {
		os.Exit(holdLock(dir))
	}
	leaktest.Main(m)
}

const testBoot = "11111111-2222-3333-4444-555555555555"

// testSystem is a machine with so much free space, in that boot.
func testSystem(free, total int64) system {
	return system{boot: testBoot, now: time.Now, datasync: datasync, space: func(*os.File) (int64, int64, error) { return free, total, nil }}
}

// roomy is a machine on which space plays no part.
func roomy() system { return testSystem(1<<50, 1<<50) }

func openStore(t testing.TB, dir string, o Options, sys system) *Store {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	s, err := open(dir, o, sys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && s.lock != nil {
			t.Error(err)
		}
	})
	return s
}

func newStore(t testing.TB) *Store {
	t.Helper()
	return openStore(t, t.TempDir(), Options{}, roomy())
}

// reopen closes a store and opens its directory again.
func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.lock = nil
	return openStore(t, s.dir, s.opt, s.sys)
}

func openPart(t testing.TB, s *Store, id PartID, size int64) *Part {
	t.Helper()
	p, err := s.OpenPart(id, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func closePart(t testing.TB, p *Part) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// pattern is n bytes that differ with the seed and from place to place.
func pattern(seed uint64, n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = src.Read(b)
	return b
}

func sha256Hex(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func gitHex(b []byte) string {
	h := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(b)), b...))
	return hex.EncodeToString(h[:])
}

// contentKey is the key of content whose sha256 is stated.
func contentKey(b []byte) model.Key { return model.SHA256Key(sha256Hex(b)) }

// write stores data[from:to] of a file, block by block as far as it is long.
func write(t testing.TB, p *Part, data []byte, from, to int64) {
	t.Helper()
	if err := p.WriteAt(data[from:min(to, int64(len(data)))], from); err != nil {
		t.Fatal(err)
	}
}

// store puts a whole file into the backing dir and closes it.
func store(t testing.TB, s *Store, key model.Key, data []byte, links ...Link) {
	t.Helper()
	p := openPart(t, s, PartID{Key: key, Source: "hub:test"}, int64(len(data)))
	write(t, p, data, 0, int64(len(data)))
	if err := p.Complete(context.Background(), Digest{}, links); err != nil {
		t.Fatal(err)
	}
	closePart(t, p)
}

// sync has the keeper make durable what is there now.
func (p *Part) sync(t testing.TB) error {
	t.Helper()
	return p.do(context.Background(), p.persist)
}

func wantKind(t testing.TB, err error, kind model.Kind) {
	t.Helper()
	if !model.IsKind(err, kind) {
		t.Fatalf("error %v: want kind %v", err, kind)
	}
}

func wantBlob(t testing.TB, s *Store, key model.Key, data []byte) {
	t.Helper()
	b, err := s.OpenBlob(key)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	got := make([]byte, b.Size())
	if _, err := b.File().ReadAt(got, 0); err != nil && len(got) > 0 {
		t.Fatal(err)
	}
	if !slices.Equal(got, data) {
		t.Fatalf("blob %s: other bytes than were stored", key)
	}
}

// tree lists the files and directories below name in the backing dir.
func tree(t testing.TB, s *Store, name string) []string {
	t.Helper()
	var names []string
	root := filepath.Join(s.dir, name)
	err := filepath.WalkDir(root, func(p string, d iofs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if rel, _ := filepath.Rel(root, p); rel != "." {
			names = append(names, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(names)
	return names
}
