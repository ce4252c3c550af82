package fs

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"modelfs/internal/model"
)

// What a server writes into the ledger, and how the next one takes it over:
// nodes with their lookup counts, open files with their passthrough
// registrations, which the kernel goes on holding.

const (
	recordNode   uint32 = 1
	recordHandle uint32 = 2
)

// uniqueResent marks a request that the kernel sends again because the server
// that read it is gone (fuse.h, FUSE_UNIQUE_RESEND).
const uniqueResent = 1 << 63

func (n *node) recordID() recordID { return recordID{recordNode, n.id} }
func handleID(fh uint64) recordID  { return recordID{recordHandle, fh} }

// nodeRecord is a node's payload in the ledger.
type nodeRecord struct {
	Kind       kind             `json:"k"`
	Ino        uint64           `json:"i"`
	Path       string           `json:"p,omitempty"`
	Text       string           `json:"t,omitempty"`
	Size       int64            `json:"s,omitempty"`
	ModTime    int64            `json:"m,omitempty"` // ns
	RoleModel  string           `json:"rm,omitempty"`
	RoleSub    string           `json:"rs,omitempty"`
	RoleAll    bool             `json:"ra,omitempty"`
	KeyPath    string           `json:"kp,omitempty"`
	KeySource  string           `json:"ks,omitempty"`
	KeyDev     uint64           `json:"kd,omitempty"`
	KeyIno     uint64           `json:"ki,omitempty"`
	KeySize    int64            `json:"kz,omitempty"`
	KeyModTime int64            `json:"km,omitempty"`
	KeyAttempt uint32           `json:"ka,omitempty"`
	Moved      string           `json:"mv,omitempty"`
	Corrupt    bool             `json:"x,omitempty"`
	Model      string           `json:"n,omitempty"`
	Source     string           `json:"o,omitempty"`
	SourceKind model.SourceKind `json:"ok,omitempty"`
	Revision   string           `json:"r,omitempty"`
	File       *fileRecord      `json:"f,omitempty"`
}

type fileRecord struct {
	Path    string    `json:"p"`
	Size    int64     `json:"s"`
	ModTime int64     `json:"m"` // ns
	Key     model.Key `json:"k,omitempty"`
	SHA256  string    `json:"h,omitempty"`
	GitSHA1 string    `json:"g,omitempty"`
	URLs    []string  `json:"u,omitempty"`
	Place   string    `json:"l,omitempty"`

	Validator string `json:"v,omitempty"`
}

// marshal is the node's payload. Every field has a JSON form, so there is no
// error to return.
func (n *node) marshal() []byte {
	n.mu.Lock()
	moved := n.moved
	if n.relay != nil {
		moved = n.relay.Moved()
	}
	rec := nodeRecord{
		Moved: moved, Corrupt: n.corrupt,
		Kind: n.kind, Ino: n.ino, Path: n.path, Text: n.text, Size: n.size, ModTime: n.modTime.UnixNano(),
		RoleModel: n.role.model, RoleSub: n.role.sub, RoleAll: n.role.all,
		KeyPath: n.key.path, KeySource: n.key.source, KeyDev: n.key.dev, KeyIno: n.key.ino,
		KeySize: n.key.size, KeyModTime: n.key.modTime, KeyAttempt: n.key.attempt,
	}
	if v, f := n.bound.view, n.bound.file; f != nil {
		rec.Model, rec.Source, rec.SourceKind, rec.Revision = v.Name, v.Source, v.Kind, v.Revision
		rec.File = &fileRecord{
			Path: f.Path, Size: f.Size, ModTime: f.ModTime.UnixNano(), Key: f.Key, SHA256: f.SHA256, GitSHA1: f.GitSHA1, URLs: f.URLs,
			Validator: f.Validator,
		}
		if f.Place != nil {
			rec.File.Place = f.Place.Path()
		}
	}
	n.mu.Unlock()
	b, _ := json.Marshal(rec)
	return b
}

// timeOf undoes UnixNano, also for the time that nobody has stated.
func timeOf(ns int64) time.Time {
	if none := (time.Time{}); ns == none.UnixNano() {
		return none
	}
	return time.Unix(0, ns)
}

// node is the node that a record describes. places finds files of trees
// again; one that is not found makes the node stale.
func (rec *nodeRecord) node(places func(source, path string) model.Place) (*node, error) {
	n := &node{
		kind: rec.Kind, ino: rec.Ino, path: rec.Path, text: rec.Text, size: rec.Size, modTime: timeOf(rec.ModTime),
		role: role{rec.RoleModel, rec.RoleSub, rec.RoleAll}, moved: rec.Moved, corrupt: rec.Corrupt,
		key: nodeKey{
			kind: rec.Kind, path: rec.KeyPath, source: rec.KeySource, dev: rec.KeyDev, ino: rec.KeyIno,
			size: rec.KeySize, modTime: rec.KeyModTime, attempt: rec.KeyAttempt,
		},
	}
	if rec.File == nil {
		return n, nil
	}
	f := model.File{
		Path: rec.File.Path, Size: rec.File.Size, ModTime: timeOf(rec.File.ModTime), Key: rec.File.Key,
		SHA256: rec.File.SHA256, GitSHA1: rec.File.GitSHA1, URLs: rec.File.URLs,
		Validator: rec.File.Validator,
	}
	if rec.File.Place != "" {
		if f.Place = places(rec.Source, rec.File.Place); f.Place == nil {
			return nil, model.Errorf(model.Stale, "%s is in no tree any more", rec.File.Place)
		}
	}
	m := &model.Model{Name: rec.Model, Source: rec.Source, Kind: rec.SourceKind, Revision: rec.Revision, Files: []model.File{f}}
	n.bound = bound{view: &model.View{Model: m, Settled: true}, file: &m.Files[0]}
	return n, nil
}

// handleRecord is a handle's payload; its record's count is the node's id.
type handleRecord struct {
	Unique  uint64 `json:"u"`
	Pinned  bool   `json:"p,omitempty"`
	Backing int32  `json:"b,omitempty"`
	Dir     bool   `json:"d,omitempty"`
}

func (h *handle) marshal() []byte {
	rec := handleRecord{Unique: h.unique, Pinned: h.pinned, Dir: h.dir != nil}
	if h.pinned {
		h.node.mu.Lock()
		rec.Backing = h.node.backing.id
		h.node.mu.Unlock()
	}
	b, _ := json.Marshal(rec)
	return b
}

// inherit takes over what an earlier server of this connection told the
// kernel. It runs before the first request is read.
func (r *rawFS) inherit(records []record) {
	for _, rec := range records {
		if rec.kind == recordNode {
			r.inheritNode(rec)
		}
	}
	for _, rec := range records {
		if rec.kind == recordHandle {
			r.inheritHandle(rec)
		}
	}
}

func (r *rawFS) inheritNode(rec record) {
	var nr nodeRecord
	err := json.Unmarshal(rec.payload, &nr)
	var n *node
	if err == nil {
		n, err = nr.node(r.place)
	}
	if err != nil {
		r.log.Warn("a node of the earlier server can't be taken over; it is looked up again", "cause", err)
		r.nodes.ledger.remove(rec.recordID)
		return
	}
	n.id, n.lookups, n.inherited, n.older = rec.id, rec.count, rec.count, true
	if n.kind == kindCold {
		r.goOnFrom(n)
	}
	r.nodes.mu.Lock()
	defer r.nodes.mu.Unlock()
	r.nodes.insertLocked(n)
}

// goOnFrom has this server's attempts go on from an inherited node's, whose
// pages in the kernel are of the same download unless that turned out corrupt.
func (r *rawFS) goOnFrom(n *node) {
	first := n.key.attempt
	if n.corrupt {
		first++
	}
	id := contentID{model.Key(n.key.path), n.key.source}
	if r.attempts[id] < first {
		r.attempts[id] = first
	}
}

func (r *rawFS) place(source, path string) model.Place {
	if r.cfg.Places == nil {
		return nil
	}
	return r.cfg.Places(source, path)
}

func (r *rawFS) inheritHandle(rec record) {
	var hr handleRecord
	n := r.nodes.get(rec.count)
	if n == nil || json.Unmarshal(rec.payload, &hr) != nil {
		r.handles.ledger.remove(rec.recordID)
		return
	}
	h := &handle{node: n, unique: hr.Unique, pinned: hr.Pinned, inherited: &inheritance{}}
	if hr.Dir {
		h.dir = &listing{stale: true}
	}
	if hr.Pinned {
		r.passthrough.inherit(n, hr.Backing)
	}
	r.handles.inherit(rec.id, h)
}

// inherit counts a registration that the kernel has kept.
func (p *passthrough) inherit(n *node, id int32) {
	n.mu.Lock()
	n.backing.id = id
	n.backing.refs++
	first := n.backing.refs == 1
	n.mu.Unlock()
	if first {
		p.mu.Lock()
		p.ids++
		p.mu.Unlock()
	}
}

func (t *handleTable) inherit(fh uint64, h *handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[fh] = h
	t.resent[h.unique] = fh
}

// again returns the handle of an open whose reply was lost with the server
// that made it.
func (t *handleTable) again(unique, nodeID uint64) (uint64, *handle) {
	if unique&uniqueResent == 0 {
		return 0, nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	fh, ok := t.resent[unique&^uniqueResent]
	if !ok || t.open[fh] == nil || t.open[fh].node.id != nodeID {
		return 0, nil
	}
	return fh, t.open[fh]
}

// inheritance is what an inherited handle opens again.
type inheritance struct {
	mu      sync.Mutex    // guards what follows; not held across I/O
	opening chan struct{} // not nil while one request opens it for all
	reader  model.Reader
	closed  bool
}

// open returns what the handle reads from, opened by the first who asks.
func (i *inheritance) open(ctx context.Context, open func() (model.Reader, error)) (model.Reader, error) {
	for {
		i.mu.Lock()
		switch {
		case i.closed:
			i.mu.Unlock()
			return nil, model.Errorf(model.Stale, "the file was closed")
		case i.reader != nil:
			reader := i.reader
			i.mu.Unlock()
			return reader, nil
		case i.opening == nil:
			ready := make(chan struct{})
			i.opening = ready
			i.mu.Unlock()
			return i.first(ready, open)
		}
		ready := i.opening
		i.mu.Unlock()
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (i *inheritance) first(ready chan struct{}, open func() (model.Reader, error)) (model.Reader, error) {
	reader, err := open()
	i.mu.Lock()
	i.opening = nil
	closed := i.closed
	if err == nil && !closed {
		i.reader = reader
	}
	i.mu.Unlock()
	close(ready)
	if err == nil && closed {
		err = firstError(reader.Close(), model.Errorf(model.Stale, "the file was closed"))
	}
	return reader, err
}

func (i *inheritance) close() {
	if i == nil {
		return
	}
	i.mu.Lock()
	i.closed = true
	reader := i.reader
	i.mu.Unlock()
	if reader != nil {
		_ = reader.Close() // nothing was written
	}
}

// reopen opens what an inherited handle reads from.
func (r *rawFS) reopen(ctx context.Context, h *handle) (model.Reader, error) {
	n, b := h.node, h.node.getBound()
	if n.failed(r) {
		return nil, model.Errorf(model.Corrupt, "%s turned out corrupt", b.file.Path)
	}
	return h.inherited.open(ctx, func() (model.Reader, error) {
		switch {
		case n.kind == kindStatic:
			return textReader(n.text), nil
		case n.kind == kindCtlFile:
			return r.controlText(ctx, n)
		case b.file == nil:
			return nil, model.Errorf(model.Stale, "%s can't be read after a restart", n.path)
		case b.file.Place != nil:
			return r.reopenPlaced(ctx, n, b)
		}
		reader, err := r.cfg.Content.Open(ctx, b.view, b.file)
		if err == nil && reader.Size() != n.key.size {
			err = firstError(reader.Close(), model.Errorf(model.Stale, "%s has another length now", b.file.Path))
		}
		return reader, err
	})
}

func (r *rawFS) reopenPlaced(ctx context.Context, n *node, b bound) (model.Reader, error) {
	if later, err := r.relayedLater(n, b); later != nil || n.moved != "" {
		return later, err
	}
	reader, st, err := b.file.Place.Reader(ctx)
	if err == nil && !n.same(st) {
		err = firstError(reader.Close(), stale(b.file.Place))
	}
	if err != nil {
		return nil, err
	}
	return r.relayed(n, b, reader, st), nil
}

// keepInherited holds the blobs open that inherited passthrough handles use,
// so that they are not evicted. It touches only the backing dir: opening what
// is not in there any more would ask an origin, before the first request is
// answered.
func (r *rawFS) keepInherited(ctx context.Context) {
	for _, h := range r.handles.all() {
		if h.inherited == nil || h.node.kind != kindBlob {
			continue
		}
		if b := h.node.getBound(); b.file == nil || !r.cfg.Content.State(b.view.Model, b.file).Complete {
			continue
		}
		if _, err := r.reopen(ctx, h); err != nil && ctx.Err() == nil {
			r.log.Warn("a complete file that is open can't be kept from eviction", "file", h.node.path, "cause", err)
		}
	}
}

// sweepEvery is how often inherited nodes are checked; a lookup whose reply
// was lost counts twice, and only this finds out.
const sweepEvery = time.Minute

// sweep drops inherited nodes that the kernel has forgotten, which an earlier
// server may have been told and not have written down. The notification
// changes nothing: it only says whether the kernel knows the node.
func (r *rawFS) sweep(ctx context.Context) {
	for {
		left := r.nodes.inherited()
		for _, n := range left {
			if r.server.InodeNotify(n.id, -1, 0) == fuse.ENOENT {
				r.nodes.dropInherited(n)
			}
		}
		if len(left) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepEvery):
		}
	}
}

func (t *nodeTable) inherited() []*node {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []*node
	for _, n := range t.byID {
		if n.inherited > 0 {
			found = append(found, n)
		}
	}
	return found
}

// dropInherited takes back the lookups that were counted before this server;
// its own may be on their way to the kernel.
func (t *nodeTable) dropInherited(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[n.id] == n && n.inherited > 0 {
		count := min(n.inherited, n.lookups)
		n.inherited = 0
		t.lowerLocked(n, count)
	}
}
