package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"modelfs/internal/model"
)

// platter is what survives a power failure: the content of each file, by
// inode, as it was when the last good sync began. It stands in for the disk by
// replacing the sync, and nothing else: reads and writes go to real files.
type platter struct {
	mu      sync.Mutex
	synced  map[uint64][]byte
	failing string          // syncs of files with this ending fail; "" for none
	lost    uint64          // which pages a failed sync loses
	during  func()          // called once, after the next sync has begun
	owed    map[uint64]bool // a write-back failed; the next sync of the file has to say so
}

func (d *platter) sync(f *os.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	now := make([]byte, fi.Size())
	if _, err := f.ReadAt(now, 0); err != nil {
		return err
	}
	if d.during != nil {
		d.during()
		d.during = nil
	}
	ino := inode(fi)
	if d.owed[ino] {
		delete(d.owed, ino)
		return syscall.EIO
	}
	if d.failing == "" || !strings.HasSuffix(f.Name(), d.failing) {
		d.synced[ino] = now
		return nil
	}
	if _, err := f.WriteAt(mixPages(d.lost, d.synced[ino], now), 0); err != nil {
		return err
	}
	return syscall.EIO
}

// crashModel drives a store with two parts through writes, syncs and crashes,
// and knows which blocks must be there.
type crashModel struct {
	t     *rapid.T
	dir   string
	disk  *platter
	boots int
	s     *Store
	parts []*modelPart
}

type modelPart struct {
	id      PartID
	data    []byte
	p       *Part
	written map[int64]bool // must be present until power fails or a sync does
	durable map[int64]bool // must be present for ever
	doubted bool           // a sync failed: until it is reopened a crash may forget all but durable
}

func (m *crashModel) open() {
	sys := roomy()
	sys.boot = fmt.Sprintf("boot-%d", m.boots)
	sys.datasync = m.disk.sync
	s, err := open(m.dir, Options{Log: slog.New(slog.DiscardHandler)}, sys)
	if err != nil {
		m.t.Fatal(err)
	}
	m.s = s
	for _, p := range m.parts {
		m.openPart(p)
	}
}

func (m *crashModel) openPart(p *modelPart) {
	part, err := m.s.OpenPart(p.id, int64(len(p.data)))
	if err != nil {
		m.t.Fatal(err)
	}
	p.p, p.doubted = part, false
}

// kill drops everything as SIGKILL does: descriptors are closed, nothing is
// written.
func (m *crashModel) kill() {
	for _, p := range m.parts {
		if p.p.closed {
			continue // a step failed in the middle
		}
		abandon(p.p)
		if p.doubted {
			p.written = clone(p.durable)
		}
	}
	_ = m.s.release()
}

func abandon(p *Part) {
	p.mu.Lock()
	p.ended, p.closed = true, true
	p.mu.Unlock()
	close(p.stop)
	p.gone.Wait()
	_ = p.rec.close()
	_ = p.data.Close()
}

func (m *crashModel) draw() *modelPart {
	return m.parts[rapid.IntRange(0, len(m.parts)-1).Draw(m.t, "part")]
}

func (m *crashModel) write() { m.drawWrite(m.draw())() }

// drawWrite decides on a write and returns what does it.
func (m *crashModel) drawWrite(p *modelPart) func() {
	last := blocksFor(int64(len(p.data)))
	from := rapid.Int64Range(0, last-1).Draw(m.t, "from")
	to := rapid.Int64Range(from+1, min(from+9, last)).Draw(m.t, "to")
	return func() {
		if err := p.p.WriteAt(p.data[from*bs:min(to*bs, int64(len(p.data)))], from*bs); err != nil {
			panic(err)
		}
		for b := from; b < to; b++ {
			p.written[b] = true
		}
	}
}

// halfWrite is a write that did not get to its bits before the process died.
func (m *crashModel) halfWrite() {
	p := m.draw()
	if off, n := p.p.Missing(rapid.Int64Range(0, int64(len(p.data))-1).Draw(m.t, "at")); n > 0 {
		junk := bytes.Repeat([]byte{0xee}, int(min(n, bs/2)))
		if _, err := p.p.data.WriteAt(junk, off); err != nil {
			m.t.Fatal(err)
		}
	}
	m.kill()
	m.open()
}

// sync makes one part durable, while another write to it comes in: what that
// one stores may not be counted as durable.
func (m *crashModel) sync() {
	p := m.draw()
	before, write := clone(p.written), m.drawWrite(p)
	m.disk.mu.Lock()
	if p.p.unsyncedNow() {
		m.disk.during = write
	}
	m.disk.mu.Unlock()
	if err := p.p.do(context.Background(), p.p.persist); err != nil {
		m.t.Fatal(err)
	}
	p.durable = before
}

// failSync has the disk fail a sync and lose some of what it was given.
func (m *crashModel) failSync() {
	p := m.draw()
	fresh := p.p.unsyncedNow()
	lost, file := m.drawLost(), rapid.SampledFrom([]string{".part", ".map"}).Draw(m.t, "file")
	m.disk.mu.Lock()
	m.disk.failing, m.disk.lost = file, lost
	m.disk.mu.Unlock()
	err := p.p.do(context.Background(), p.p.persist)
	m.disk.mu.Lock()
	m.disk.failing = ""
	m.disk.mu.Unlock()
	if (err != nil) != fresh {
		m.t.Fatalf("persist on a failing disk: %v", err)
	}
	if !fresh {
		return
	}
	p.doubted = true
	if file == ".part" {
		p.written = clone(p.durable)
	}
}

func (p *Part) unsyncedNow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unsynced > 0
}

func clone(m map[int64]bool) map[int64]bool {
	c := make(map[int64]bool)
	for k := range m {
		c[k] = true
	}
	return c
}

func (m *crashModel) drawLost() uint64 { return rapid.Uint64().Draw(m.t, "which pages are lost") }

// killUnheard is a crash after the kernel lost data that nobody has synced
// yet: the error is there for the next process to find.
func (m *crashModel) killUnheard() {
	p := m.draw()
	m.kill()
	fresh := !p.doubted && !slices.Equal(p.p.have.words(), p.p.kept.words)
	if fresh {
		m.mixFile(filepath.Join(m.dir, fillName(p.id.base())), true)
		p.written = clone(p.durable)
	}
	m.open()
	if len(m.disk.owed) > 0 {
		m.t.Fatal("the next process did not ask whether all was written")
	}
}

// mixFile makes the file a mixture of what was synced and what is there.
func (m *crashModel) mixFile(file string, owed bool) {
	fi, err := os.Stat(file)
	if err != nil {
		m.t.Fatal(err)
	}
	now, err := os.ReadFile(file)
	if err != nil {
		m.t.Fatal(err)
	}
	mixed := mixPages(m.drawLost(), m.disk.synced[inode(fi)], now)
	if err := os.WriteFile(file, mixed, 0); err != nil {
		m.t.Fatal(err)
	}
	m.disk.synced[inode(fi)] = mixed // it is what the disk has
	if owed {
		m.disk.owed[inode(fi)] = true
	}
}

// mixPages makes content of which each page is either old or new.
func mixPages(lost uint64, old, now []byte) []byte {
	mixed := bytes.Clone(now)
	for i := 0; i < len(now); i += pageSize {
		if end := min(i+pageSize, len(now)); lost>>(i/pageSize*7%64)&1 == 1 {
			clear(mixed[i:end])
			if i < len(old) {
				copy(mixed[i:end], old[i:])
			}
		}
	}
	return mixed
}

// powerFails leaves of each file a mixture of what was synced and what was
// written since, and of files whose names were never synced maybe nothing.
func (m *crashModel) powerFails() {
	m.kill()
	m.boots++
	for _, p := range m.parts {
		p.written = clone(p.durable)
		for _, name := range []string{fillName(p.id.base()), mapName(p.id.base())} {
			m.losePower(filepath.Join(m.dir, name), len(p.durable) > 0)
		}
	}
	m.open()
}

func (m *crashModel) losePower(file string, named bool) {
	if _, err := os.Stat(file); err != nil {
		return
	}
	if !named && rapid.Bool().Draw(m.t, "its name was lost") {
		if err := os.Remove(file); err != nil {
			m.t.Fatal(err)
		}
		return
	}
	m.mixFile(file, false)
}

func (m *crashModel) restart() {
	for _, p := range m.parts {
		if err := p.p.Close(); err != nil {
			m.t.Fatal(err)
		}
		p.durable = clone(p.written)
	}
	if err := m.s.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.boots += rapid.IntRange(0, 1).Draw(m.t, "reboot")
	m.open()
}

func (m *crashModel) discard() {
	p := m.draw()
	if err := p.p.Discard(); err != nil {
		m.t.Fatal(err)
	}
	if err := p.p.Close(); err != nil {
		m.t.Fatal(err)
	}
	p.written, p.durable = make(map[int64]bool), make(map[int64]bool)
	m.openPart(p)
}

// complete fetches what is missing and checks that the blob is the file: the
// hash may have been resumed from any state.
func (m *crashModel) complete() {
	p := m.draw()
	size := int64(len(p.data))
	for off, n := p.p.Missing(0); n > 0; off, n = p.p.Missing(off) {
		if err := p.p.WriteAt(p.data[off:off+n], off); err != nil {
			m.t.Fatal(err)
		}
	}
	want := Digest{SHA256: sha256Hex(p.data)}
	if rapid.Bool().Draw(m.t, "with a git hash") {
		want.GitSHA1 = gitHex(p.data)
	}
	if err := p.p.Complete(context.Background(), want, nil); err != nil {
		m.t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(m.dir, blobName(p.id.Key)))
	if err != nil || !bytes.Equal(got, p.data) || int64(len(got)) != size {
		m.t.Fatalf("the blob is another file: %v", err)
	}
	if err := p.p.Close(); err != nil {
		m.t.Fatal(err)
	}
	if err := m.s.Remove(p.id.Key); err != nil {
		m.t.Fatal(err)
	}
	p.written, p.durable = make(map[int64]bool), make(map[int64]bool)
	m.openPart(p)
}

// check is the invariant: what must be present is, and what is present holds
// the right bytes.
func (m *crashModel) check() {
	buf := make([]byte, bs)
	for _, p := range m.parts {
		size := int64(len(p.data))
		for b := range blocksFor(size) {
			off, n := b*bs, min(bs, size-b*bs)
			if !p.p.Has(off, n) {
				if p.written[b] {
					m.t.Fatalf("%s: block %d was forgotten", p.id.Key, b)
				}
				continue
			}
			if _, err := p.p.ReadAt(buf[:n], off); err != nil {
				m.t.Fatal(err)
			}
			if !bytes.Equal(buf[:n], p.data[off:off+n]) {
				m.t.Fatalf("%s: block %d is reported present and holds other bytes", p.id.Key, b)
			}
		}
		if got := p.p.have.bytes(size); got != p.p.Present() {
			m.t.Fatalf("%s: Present is %d, counted are %d", p.id.Key, p.p.Present(), got)
		}
	}
}

func TestNothingIsBelievedAfterACrashThatCouldBeLost(t *testing.T) {
	big, small := pattern(1, 4*bs+100), pattern(2, 2*bs)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("/dev/shm", "modelfs-store-")
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		m := &crashModel{t: rt, dir: dir, disk: &platter{synced: make(map[uint64][]byte), owed: make(map[uint64]bool)}}
		for i, d := range [][]byte{big, small} {
			id := PartID{Key: model.Key("at-" + strings.Repeat("x", i+1)), Source: "hub:test"}
			m.parts = append(m.parts, &modelPart{id: id, data: d, written: make(map[int64]bool), durable: make(map[int64]bool)})
		}
		m.open()
		defer m.kill()
		step := func(f func()) func(*rapid.T) {
			return func(t *rapid.T) { m.t = t; f() }
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": step(m.write), "write more": step(m.write), "write even more": step(m.write),
			"sync": step(m.sync), "a sync fails": step(m.failSync), "killed": step(func() { m.kill(); m.open() }),
			"killed in a write": step(m.halfWrite), "killed unheard": step(m.killUnheard), "power fails": step(m.powerFails), "restart": step(m.restart),
			"discard": step(m.discard), "complete": step(m.complete), "": step(m.check),
		})
	})
}
