package fs

import (
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"modelfs/internal/model"
)

// kind says what a node is; it is fixed when the node is made.
type kind uint8

const (
	kindRoot    kind = iota // the mount's root
	kindDir                 // a namespace, a model's directory, or a directory inside a model
	kindAlias               // model.gguf, a symlink
	kindInPlace             // a file of a tree, handed to the kernel
	kindServed              // a file of a tree that can't be handed to the kernel
	kindBlob                // a complete file of the backing dir, handed to the kernel
	kindCold                // a file that has to be fetched, or a complete one that can't be handed to the kernel
	kindStatic              // a file with fixed text (CACHEDIR.TAG)
	kindCtlDir              // .modelfs and the directories in it
	kindCtlFile             // a file in .modelfs, made anew for each open
)

func (k kind) isDir() bool { return k == kindRoot || k == kindDir || k == kindCtlDir }

// A node is what one node id means to the kernel. All but the fields under
// mu are fixed when it is made.
type node struct {
	id    uint64
	kind  kind
	ino   uint64
	key   nodeKey // how the table finds it again
	path  string  // of directories: the path in the mount, "" for the root
	older bool    // an earlier server has made it
	moved string  // what that one's relay said
	text  string  // of an alias its target, of a static file its content, of a control file what it shows

	lookups   uint64 // guarded by nodeTable.mu: what the kernel will FORGET
	inherited uint64 // guarded by nodeTable.mu: the part of lookups that an earlier server promised

	mu      sync.Mutex // guards what follows; a leaf, never held across I/O
	size    int64
	modTime time.Time
	role    role          // of a directory
	bound   bound         // of a file: what the last lookup found
	names   []nameIn      // of a cold file: the entries to forget when its state changes
	backing backingRef    // of a passthrough file: what is registered
	opening chan struct{} // not nil while a registration is on its way
	relay   Relay         // of a file of a share that this process serves: set by the first open
	told    bool          // the ledger says that relay has moved
	corrupt bool          // of a cold file: its download turned out so, and the ledger says it
}

// role is what a directory is at the moment; a namespace can become a model.
type role struct {
	model string // the path of the model that it is or lies in; "" for a namespace
	sub   string // the path inside the model; "" for the model's own directory
	all   bool   // it lies in .modelfs/all
}

// bound is what opening a file needs to know.
type bound struct {
	view *model.View
	file *model.File
	path string // of the model in the mount; "" for a loose file, or after a restart
}

// nameIn is one entry of a directory.
type nameIn struct {
	parent uint64
	name   string
}

// maxNames bounds how many names of one cold file are remembered for
// notification; further ones wait for their entry timeout (1 s).
const maxNames = 64

// nodeKey is the identity of a node (docs/architecture.md, three paths): of a
// directory, an alias or a control file its path; of a file in place its device
// and inode, and where this process serves it its size and time too; of a file
// that is fetched its key, source, state and attempt, and the attributes that
// must not change.
type nodeKey struct {
	kind     kind
	path     string // or the content's key
	source   string
	dev, ino uint64
	size     int64
	modTime  int64 // ns
	// attempt tells apart nodes of one content whose pages in the kernel may
	// differ, so that none is opened on another's pages: of what is fetched the
	// downloads, counted over all servers (rawFS.attempt); of a share's file
	// that this process serves how often it has moved to another source (settle).
	attempt uint32
}

// nodeTable is every node that the kernel knows. What the kernel is told is in
// the ledger before the reply is sent.
type nodeTable struct {
	ledger *ledger

	mu    sync.Mutex // guards what follows and node.lookups; a leaf but for the ledger's
	byID  map[uint64]*node
	byKey map[nodeKey]*node
}

func newNodeTable(l *ledger) *nodeTable {
	root := &node{id: fuse.FUSE_ROOT_ID, kind: kindRoot, ino: inoOf("dir", ""), lookups: 1}
	return &nodeTable{ledger: l, byID: map[uint64]*node{root.id: root}, byKey: map[nodeKey]*node{}}
}

// get returns the node with the id, or nil if the kernel was never told of
// it or has forgotten it.
func (t *nodeTable) get(id uint64) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// lookup returns the node for proto's key, proto itself if it is new, and
// raises its lookup count.
func (t *nodeTable) lookup(proto *node) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byKey[proto.key]; n != nil {
		n.lookups++
		t.ledger.add(n.recordID(), 1)
		return n
	}
	proto.id = t.ledger.nextNode()
	proto.lookups = 1
	t.insertLocked(proto)
	t.saveLocked(proto)
	return proto
}

func (t *nodeTable) insertLocked(n *node) {
	t.byID[n.id] = n
	t.byKey[n.key] = n
}

// settle makes proto's key one whose node, if there is one, can be opened
// anew. A file of a share that is read from elsewhere can't: its pages are of
// both.
func (t *nodeTable) settle(proto *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := t.byKey[proto.key]; n != nil && n.hasMoved(); n = t.byKey[proto.key] {
		proto.key.attempt++
	}
}

// saveLocked writes a node to the ledger. One that does not fit is unknown to
// the next server, which answers ESTALE, and is looked up again.
func (t *nodeTable) saveLocked(n *node) {
	if err := t.ledger.put(n.recordID(), n.lookups, 0, n.marshal()); err != nil {
		t.ledger.remove(n.recordID())
	}
}

// save writes a node again after what it says of itself has changed.
func (t *nodeTable) save(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID[n.id] == n {
		t.saveLocked(n)
	}
}

// forget lowers a lookup count and drops the node with the last one.
func (t *nodeTable) forget(id, count uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byID[id]; n != nil && id != fuse.FUSE_ROOT_ID {
		t.lowerLocked(n, count)
	}
}

func (t *nodeTable) lowerLocked(n *node, count uint64) {
	if n.lookups > count {
		n.lookups -= count
		t.ledger.add(n.recordID(), -count)
		return
	}
	n.lookups = 0
	delete(t.byID, n.id)
	delete(t.byKey, n.key)
	t.ledger.remove(n.recordID())
}

func (t *nodeTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}

// coldNodes returns the nodes of a key that is being fetched.
func (t *nodeTable) coldNodes(key model.Key, source string) []*node {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []*node
	for k, n := range t.byKey {
		if k.kind == kindCold && k.path == string(key) && k.source == source {
			found = append(found, n)
		}
	}
	return found
}

// remember notes a name of a cold file.
func (n *node) remember(name nameIn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, have := range n.names {
		if have == name {
			return
		}
	}
	if len(n.names) < maxNames {
		n.names = append(n.names, name)
	}
}

// take makes n what a new lookup found: proto is that, made as if it were the
// first one. It reports whether something changed that the ledger says.
func (n *node) take(proto *node) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bound = proto.bound
	changed := n.role != proto.role
	n.role = proto.role
	if n.kind == kindInPlace || n.kind.isDir() && !proto.modTime.IsZero() {
		changed = changed || n.size != proto.size || !n.modTime.Equal(proto.modTime)
		n.size, n.modTime = proto.size, proto.modTime
	}
	return changed
}

// attempt is the download that a cold node of key is made for when its content
// has that state: the content counts its own, from 0 on, and goes on from those
// of earlier servers.
func (r *rawFS) attempt(key nodeKey, st model.FileState) uint32 {
	return r.attempts[contentID{model.Key(key.path), key.source}] + st.Attempt
}

// failed reports whether the download that a cold node was made for turned out
// corrupt: the kernel may have pages of it.
func (n *node) failed(r *rawFS) bool {
	b := n.getBound()
	return n.kind == kindCold && b.file != nil && n.key.attempt < r.attempt(n.key, r.cfg.Content.State(b.view.Model, b.file))
}

func (n *node) hasMoved() bool {
	relay := n.getRelay()
	return n.moved != "" || relay != nil && relay.Moved() != ""
}

// tellMoved writes down that a file has left its share. It is called before
// the kernel has a byte of the other source, by each read until one is through.
func (t *nodeTable) tellMoved(n *node) {
	n.mu.Lock()
	due := !n.told && n.relay != nil && n.relay.Moved() != ""
	n.mu.Unlock()
	if !due {
		return
	}
	t.save(n)
	n.mu.Lock()
	n.told = true
	n.mu.Unlock()
}

// tellFailed writes down that a node's download turned out corrupt.
func (t *nodeTable) tellFailed(n *node) {
	n.mu.Lock()
	told := n.corrupt
	n.corrupt = true
	n.mu.Unlock()
	if !told {
		t.save(n)
	}
}

func (n *node) getRelay() Relay {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.relay
}

func (n *node) getRole() role {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.role
}

func (n *node) getBound() bound {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.bound
}

// inoOf is the inode number of what parts identify: the same in every
// process, so that a restart changes nothing. 0 and 1 mean other things.
func inoOf(parts ...any) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		fmt.Fprintf(h, "%v\x00", p)
	}
	if sum := h.Sum64(); sum > 1 {
		return sum
	}
	return 2
}
