package fs

import (
	"os"
	"reflect"
	"sync"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"modelfs/internal/model"
)

// requestSize is what a request of a read-only tree takes at most
// (FUSE_MIN_READ_BUFFER), longer batches of forgets aside: those have no reply.
const requestSize = 8 << 10

// keepRequests makes go-fuse read requests into memory that is there already.
// A request that arrives between the death of this process and the end of its
// threads is still read by one of them. If the kernel has to find a page for
// it then, it gives up, because the thread is being killed, and answers the
// request with EIO; with a page that is there the request is read, and the
// next server gets it again. go-fuse has no option for its buffers, which Go
// takes untouched from the system where they are new: hence the reach into its
// pool. Call it before requests are served.
func keepRequests(server *fuse.Server) error {
	pool, err := readPool(server)
	if err != nil {
		return err
	}
	fresh := pool.New
	pool.New = func() any {
		buf := fresh()
		touch(buf.([]byte)[:requestSize])
		return buf
	}
	return nil
}

func readPool(server *fuse.Server) (*sync.Pool, error) {
	field := reflect.ValueOf(server).Elem().FieldByName("readPool")
	if !field.IsValid() || field.Type() != reflect.TypeFor[sync.Pool]() {
		return nil, model.Errorf(model.Internal, "this version of go-fuse has no pool of read buffers")
	}
	return (*sync.Pool)(unsafe.Pointer(field.UnsafeAddr())), nil
}

// touch makes every page of buf present.
func touch(buf []byte) {
	for i := 0; i < len(buf); i += os.Getpagesize() {
		buf[i] = 0
	}
	buf[len(buf)-1] = 0
}
