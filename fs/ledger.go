package fs

import (
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// A ledger is a memory file of small records that outlive the process that
// writes them: what the kernel was told, so that the next server of the same
// connection knows it too. It never goes to disk and lives as long as somebody
// holds its file.
//
// The file has two halves. Records are appended to the active one; when it is
// full, the living ones are copied to the other, which then becomes the active
// one. A record counts once the half's end has moved past it, so a writer that
// dies in the middle leaves nothing half-written behind.
type ledger struct {
	mem []byte

	mu    sync.Mutex           // guards the file's content and index; taken under nodeTable.mu or handleTable.mu, nothing is taken under it
	index map[recordID]uintptr // offset of each living record
	dead  uintptr              // bytes of records in the active half that don't live
}

// recordID names a record. A second record of one id replaces the first.
type recordID struct {
	kind uint32
	id   uint64
}

// record is what a ledger gives back.
type record struct {
	recordID
	count, aux uint64
	payload    []byte
}

const (
	ledgerMagic   = 0x6c65646765723031 // also the version of the layout
	ledgerHeader  = 4096
	ledgerHalf    = 64 << 20 // about 250,000 nodes; untouched pages cost nothing
	ledgerSize    = ledgerHeader + 2*ledgerHalf
	recordHeader  = 40
	maxPayload    = 1 << 16
	worthCopying  = 64 << 10 // dead bytes below which the living ones are not copied
	halfEndOffset = 0        // a half begins with its end
	halfFirst     = 8        // and its first record
)

// headerWords is the beginning of the file, ledgerRecord that of a record.
type headerWords struct {
	magic, active        uint64
	nextNode, nextHandle uint64 // numbers that were never given out
}

type ledgerRecord struct {
	size    uint32 // of the whole record, a multiple of 8
	payload uint32 // bytes used of what follows the header
	kind    uint32
	dead    uint32
	id      uint64
	count   uint64
	aux     uint64
}

// newLedgerFile makes the memory file of an empty ledger. The caller closes it.
func newLedgerFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("modelfs-ledger", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "modelfs-ledger")
	if err := f.Truncate(ledgerSize); err != nil {
		return nil, firstError(err, f.Close())
	}
	return f, nil
}

// openLedger maps a ledger's file and reads it. A file that makes no sense is
// emptied and reported: its nodes are then stale, and are looked up again.
func openLedger(f *os.File) (*ledger, []record, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, ledgerSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, os.NewSyscallError("mapping the ledger", err)
	}
	l := &ledger{mem: mem}
	h := l.header()
	if h.magic == 0 { // new
		l.empty()
		return l, nil, nil
	}
	records, err := l.read()
	if err != nil {
		next := [2]uint64{h.nextNode, h.nextHandle}
		l.empty()
		h.nextNode, h.nextHandle = max(h.nextNode, next[0]), max(h.nextHandle, next[1])
	}
	return l, records, err
}

func (l *ledger) close() error { return unix.Munmap(l.mem) }

func (l *ledger) empty() {
	h := l.header()
	*h = headerWords{magic: ledgerMagic, nextNode: fuse.FUSE_ROOT_ID + 1, nextHandle: 1}
	atomic.StoreUint64(l.end(0), halfFirst)
	l.index, l.dead = make(map[recordID]uintptr), 0
}

func (l *ledger) header() *headerWords { return (*headerWords)(unsafe.Pointer(&l.mem[0])) }

// half is the memory of one half.
func (l *ledger) half(i uint64) []byte {
	from := ledgerHeader + i*ledgerHalf
	return l.mem[from : from+ledgerHalf]
}

func (l *ledger) end(i uint64) *uint64 {
	return (*uint64)(unsafe.Pointer(&l.half(i)[halfEndOffset]))
}

func (l *ledger) active() uint64 { return atomic.LoadUint64(&l.header().active) }

func at(half []byte, off uintptr) *ledgerRecord {
	return (*ledgerRecord)(unsafe.Pointer(&half[off]))
}

// read walks the active half.
func (l *ledger) read() ([]record, error) {
	l.index, l.dead = make(map[recordID]uintptr), 0
	if l.header().magic != ledgerMagic || l.active() > 1 {
		return nil, model.Errorf(model.Invalid, "the ledger has another layout")
	}
	half, end := l.half(l.active()), uintptr(atomic.LoadUint64(l.end(l.active())))
	if end < halfFirst || end > ledgerHalf {
		return nil, model.Errorf(model.Invalid, "the ledger's end is at %d", end)
	}
	for off := uintptr(halfFirst); off < end; off += uintptr(at(half, off).size) {
		r := at(half, off)
		if r.size < recordHeader || r.size%8 != 0 || off+uintptr(r.size) > end || r.payload > r.size-recordHeader {
			return nil, model.Errorf(model.Invalid, "the ledger's record at %d is broken", off)
		}
		if r.dead != 0 {
			l.dead += uintptr(r.size)
			continue
		}
		l.index[recordID{r.kind, r.id}] = off
	}
	records := make([]record, 0, len(l.index))
	for id, off := range l.index {
		r := at(half, off)
		from := off + recordHeader
		records = append(records, record{id, r.count, r.aux, append([]byte(nil), half[from:from+uintptr(r.payload)]...)})
	}
	return records, nil
}

// put writes a record. It fails only when the ledger is full of living ones, or
// so nearly that making room would copy all of them for a few.
func (l *ledger) put(id recordID, count, aux uint64, payload []byte) error {
	if len(payload) > maxPayload {
		return model.Errorf(model.NoSpace, "a record of %d bytes is too large for the ledger", len(payload))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	size := uintptr(recordHeader+len(payload)+7) &^ 7
	if over := uintptr(*l.end(l.active())) + size; over > ledgerHalf {
		if over-l.dead > ledgerHalf || l.dead < worthCopying {
			return model.Errorf(model.NoSpace, "the ledger is full")
		}
		l.compactLocked()
	}
	half, end := l.half(l.active()), l.end(l.active())
	off := uintptr(*end)
	*at(half, off) = ledgerRecord{size: uint32(size), payload: uint32(len(payload)), kind: id.kind, id: id.id, count: count, aux: aux}
	copy(half[off+recordHeader:], payload)
	atomic.StoreUint64(end, uint64(off+size))
	l.buryLocked(id)
	l.index[id] = off
	return nil
}

// add changes a record's count; a record that is not there stays away.
func (l *ledger) add(id recordID, delta uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if off, ok := l.index[id]; ok {
		atomic.AddUint64(&at(l.half(l.active()), off).count, delta)
	}
}

func (l *ledger) remove(id recordID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buryLocked(id)
	delete(l.index, id)
}

// buryLocked marks the record that the index has of an id as dead.
func (l *ledger) buryLocked(id recordID) {
	if off, ok := l.index[id]; ok {
		r := at(l.half(l.active()), off)
		atomic.StoreUint32(&r.dead, 1)
		l.dead += uintptr(r.size)
	}
}

// compactLocked copies the living records to the other half and makes it the
// active one with a single store.
func (l *ledger) compactLocked() {
	from, to := l.half(l.active()), l.half(1-l.active())
	index := make(map[recordID]uintptr, len(l.index))
	next := uintptr(halfFirst)
	for id, off := range l.index {
		size := uintptr(at(from, off).size)
		copy(to[next:], from[off:off+size])
		index[id] = next
		next += size
	}
	atomic.StoreUint64(l.end(1-l.active()), uint64(next))
	atomic.StoreUint64(&l.header().active, 1-l.active())
	l.index, l.dead = index, 0
}

// nextNode gives out a node id; none is ever given out twice.
func (l *ledger) nextNode() uint64 { return atomic.AddUint64(&l.header().nextNode, 1) - 1 }

// nextHandle gives out a handle's number; none is ever given out twice.
func (l *ledger) nextHandle() uint64 { return atomic.AddUint64(&l.header().nextHandle, 1) - 1 }
