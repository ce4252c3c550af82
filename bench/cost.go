package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// headOnly counts what is fetched for a reader of the first MiB, including what
// comes within two seconds after it.
func headOnly(ctx context.Context, b *bench) (s sample, err error) {
	if err := b.behave(distant); err != nil {
		return s, err
	}
	m, err := b.fresh(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, m.remove()) }()
	if _, err := (job{Path: m.path(large.name), Way: "pread"}).do(ctx); err != nil {
		return s, err
	}
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return s, ctx.Err()
	}
	sent, err := b.hub.sent()
	return sample{got: float64(sent) / mib, fetched: float64(sent) / mib}, err
}

// gentle is a network that the daemon keeps up with: what the origin has sent
// is then not waiting in a socket when the daemon is killed.
var gentle = order{Do: "behave", Latency: latency, Rate: 40_000_000}

// killServer kills the serving process when half of the file is here; the
// supervisor starts another one, and the reader goes on.
func killServer(ctx context.Context, b *bench) (s sample, err error) {
	if err := b.behave(gentle); err != nil {
		return s, err
	}
	m, err := b.fresh(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, m.remove()) }()
	r, err := b.halfway(ctx, m)
	if err != nil {
		return s, err
	}
	pid, err := m.server()
	if err != nil {
		return s, err
	}
	if err := errors.Join(m.noteMemory(), unix.Kill(pid, unix.SIGKILL)); err != nil {
		return s, err
	}
	if _, err := r.wait(); err != nil {
		return s, err
	}
	return b.again(ctx, m)
}

// killAll kills supervisor and server, and reads on with a new daemon.
func killAll(ctx context.Context, b *bench) (s sample, err error) {
	if err := b.behave(gentle); err != nil {
		return s, err
	}
	first, err := b.fresh(ctx)
	if err != nil {
		return s, err
	}
	defer func() { _ = os.RemoveAll(first.cache) }()
	r, err := b.halfway(ctx, first)
	if err != nil {
		return s, errors.Join(err, first.close())
	}
	if err := first.crash(); err != nil {
		return s, err
	}
	_, _ = r.wait() // its mount is gone
	m, err := b.mountOn(ctx, first.cache)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, m.remove()) }()
	if _, err := (job{Path: m.path(large.name), Way: "read"}).do(ctx); err != nil {
		return s, err
	}
	return b.again(ctx, m)
}

// halfway starts a reader and returns when half of its file has been sent.
func (b *bench) halfway(ctx context.Context, m *mount) (*running, error) {
	r, err := job{Path: m.path(large.name), Way: "read"}.start(ctx)
	if err != nil {
		return nil, err
	}
	_, err = b.hub.ask(order{Do: "await", Bytes: large.size(b.o) / 2})
	return r, err
}

// again is what was sent beyond the size of the file, in MiB.
func (b *bench) again(ctx context.Context, m *mount) (sample, error) {
	if _, err := m.completed(ctx, 1); err != nil {
		return sample{}, err
	}
	sent, err := b.hub.sent()
	size := large.size(b.o)
	return sample{got: float64(sent-size) / mib, fetched: float64(sent) / float64(size)}, err
}

// completion is the time from the last byte that the origin sent until the
// file is complete, verified and durable.
func completion(ctx context.Context, b *bench) (s sample, err error) {
	if err := b.behave(distant); err != nil {
		return s, err
	}
	m, err := b.fresh(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, m.remove()) }()
	r, err := job{Path: m.path(large.name), Way: "read"}.start(ctx)
	if err != nil {
		return s, err
	}
	last, err := b.hub.ask(order{Do: "await", Bytes: large.size(b.o)})
	if err != nil {
		return s, err
	}
	at, err := m.completed(ctx, 1)
	_, waitErr := r.wait()
	return sample{got: float64(at.UnixNano()-last.At) / 1e6}, errors.Join(err, waitErr)
}

// The models that are 1.4 times as large as the cache are a single file and a
// set of shards; the other model is there before them.
const (
	shardSize = 160 << 20
	otherSize = 64 << 20
	readers   = 8
)

// tooLarge has 8 readers read files twice that don't fit, the second time with
// a new daemon and dropped caches, and counts what that fetches. keeps demands
// that the other model stays.
func tooLarge(files func(options) []file, keeps bool) func(context.Context, *bench) (sample, error) {
	return func(ctx context.Context, b *bench) (s sample, err error) {
		if err := b.behave(unlimited); err != nil {
			return s, err
		}
		list := files(b.o)
		var size int64
		for _, f := range list {
			size += f.size(b.o)
		}
		budget := []string{"--cache-size", fmt.Sprint(size * 10 / 14)}
		m, err := b.fresh(ctx, budget...)
		if err != nil {
			return s, err
		}
		defer func() { err = errors.Join(err, m.remove()) }()
		if _, err = (job{Path: m.path("other.gguf"), Way: "read"}).do(ctx); err == nil {
			_, err = m.completed(ctx, 1)
		}
		if err = errors.Join(err, b.readFiles(ctx, m, list)); err != nil {
			return s, err
		}
		next, err := b.remount(ctx, m, budget)
		if err != nil {
			return s, err
		}
		m = next
		before, err := b.hub.sent()
		if err = errors.Join(err, b.readFiles(ctx, m, list)); err != nil {
			return s, err
		}
		after, err := b.hub.sent()
		if keeps {
			err = errors.Join(err, m.holdsOther())
		}
		return sample{float64(after-before) / mib, float64(size) / mib, float64(after-before) / float64(size)}, err
	}
}

// remount is a new daemon on the backing dir of m, with dropped caches.
func (b *bench) remount(ctx context.Context, m *mount, flags []string) (*mount, error) {
	if err := errors.Join(m.close(), os.Remove(m.point), settle(b.dir)); err != nil {
		return m, err
	}
	return b.mountOn(ctx, m.cache, flags...)
}

func oneFile(options) []file { return []file{small} }

func allShards(options) []file {
	var list []file
	for i := range shards {
		list = append(list, file{shardPath(i), func(options) int64 { return shardSize }, shardSeed(i)})
	}
	return list
}

// readFiles has all readers read all files, each beginning with another one,
// and the first of them check the bytes.
func (b *bench) readFiles(ctx context.Context, m *mount, list []file) error {
	errs := make(chan error)
	for i := range readers {
		go func() {
			var all []error
			for k := range list {
				f := list[(i+k)%len(list)]
				j := job{Path: m.path(f.name), Way: "read"}
				if i == 0 {
					j.Way, j.Seed = "verify", f.seed
				}
				_, err := j.do(ctx)
				all = append(all, err)
			}
			errs <- errors.Join(all...)
		}()
	}
	var all []error
	for range readers {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// holdsOther reports whether the model that was there before still is.
func (m *mount) holdsOther() error {
	names, err := filepath.Glob(filepath.Join(m.cache, "blobs", "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if info, err := os.Stat(name); err == nil && info.Size() == otherSize {
			return nil
		}
	}
	return fmt.Errorf("the model that was there before was evicted: %s", m.log.Bytes())
}
