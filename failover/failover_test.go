package failover

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"modelfs/internal/leaktest"
	"modelfs/internal/model"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A nas is a share's file, which can be told how to answer.
type nas struct {
	data  []byte
	state atomic.Int32 // answers, hangs, fails
	reads atomic.Int32
	ino   uint64
}

const (
	answers int32 = iota
	hangs
	fails
)

var errHung = &model.Error{Kind: model.Unavailable, Err: left{}}

func (s *nas) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	switch s.state.Load() {
	case hangs:
		<-ctx.Done()
		return 0, model.Errorf(model.Unavailable, "%w", ctx.Err())
	case fails:
		return 0, syscall.EIO
	}
	s.reads.Add(1)
	return copy(p, s.data[min(off, int64(len(s.data))):]), nil
}

func (s *nas) Size() int64    { return int64(len(s.data)) }
func (s *nas) File() *os.File { return nil }
func (s *nas) Close() error   { return nil }

// It is its own place.
func (s *nas) Path() string                                       { return "/nas/f" }
func (s *nas) Open(context.Context) (*os.File, model.Stat, error) { return nil, model.Stat{}, errHung }
func (s *nas) Stat(context.Context) (model.Stat, error)           { return s.stat(), nil }
func (s *nas) Head(context.Context, int64) ([]byte, error)        { return nil, errHung }
func (s *nas) stat() model.Stat                                   { return model.Stat{Ino: s.ino, Size: int64(len(s.data))} }
func (s *nas) Reader(context.Context) (model.Reader, model.Stat, error) {
	if s.state.Load() == hangs {
		return nil, model.Stat{}, errHung
	}
	return s, s.stat(), nil
}

// A hub is another source of the same name, and what has its bytes.
type hub struct {
	views []*model.View
	from  time.Time         // before, it does not answer
	data  map[string][]byte // by source
	asked atomic.Int32
	reads atomic.Int32
	whole map[string]bool // sha256 of what is complete in the backing dir
}

func (h *hub) Others(context.Context, *model.Model) ([]*model.View, []error) {
	h.asked.Add(1)
	if time.Now().Before(h.from) {
		return nil, nil
	}
	return h.views, nil
}

func (h *hub) State(_ *model.Model, f *model.File) model.FileState {
	return model.FileState{Complete: h.whole[f.SHA256]}
}

func (h *hub) Open(_ context.Context, v *model.View, _ *model.File) (model.Reader, error) {
	return &fetched{h, h.data[v.Source]}, nil
}

type fetched struct {
	h    *hub
	data []byte
}

func (r *fetched) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	r.h.reads.Add(1)
	return copy(p, r.data[min(off, int64(len(r.data))):]), nil
}
func (r *fetched) Size() int64    { return int64(len(r.data)) }
func (r *fetched) File() *os.File { return nil }
func (r *fetched) Close() error   { return nil }

func view(source string, f model.File) *model.View {
	f.Path = "f"
	return &model.View{Model: &model.Model{Name: "org/m", Source: source, Kind: model.Hub, Files: []model.File{f}}}
}

func shared(f model.File) *model.View {
	v := view("shared:/nas", f)
	v.Kind = model.Shared
	return v
}

func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * i >> 3)
	}
	return b
}

func sumOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func changed(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// What is the same content, and what is not known to be.
func TestWhoHasTheSameContent(t *testing.T) {
	data := content(1000)
	sum, other, size := sumOf(data), sumOf(nil), int64(len(data))
	for _, c := range []struct {
		name  string
		share model.File // what the share states
		hub   model.File // what the Hub states, and has
		has   []byte
		older bool
		moves bool
		most  int32 // reads of the Hub before it is decided
		says  string
	}{
		{"both state the hash", model.File{SHA256: sum}, model.File{SHA256: sum, Size: size}, data, false, true, 0, "by the hash"},
		{"both state the hash, after a restart", model.File{SHA256: sum}, model.File{SHA256: sum, Size: size}, data, true, true, 0, "by the hash"},
		{"both state git's", model.File{GitSHA1: "a"}, model.File{GitSHA1: "a", Size: size}, data, false, true, 0, "by the hash"},
		{"other hashes", model.File{SHA256: sum}, model.File{SHA256: other, Size: size}, data, false, false, 0, "states another hash"},
		{"hashes of two kinds", model.File{SHA256: sum}, model.File{GitSHA1: "a", Size: size}, data, false, false, 0, "no hash of the kind"},
		{"only the share states it", model.File{SHA256: sum}, model.File{Size: size}, data, false, false, 0, "no hash of the kind"},
		{"only the Hub states it", model.File{}, model.File{SHA256: sum, Size: size}, data, false, true, 2, "all that was read before"},
		{"the Hub has other bytes", model.File{}, model.File{SHA256: other, Size: size}, changed(data, 150), false, false, 2, "other bytes at 100"},
		{"the Hub has another size", model.File{}, model.File{SHA256: other, Size: size + 1}, append(data, 0), false, false, 0, "1001 bytes instead of 1000"},
		{"the Hub has another size than it states", model.File{}, model.File{SHA256: other, Size: size}, append(data, 0), false, false, 0, "1001 bytes instead of 1000"},
		{"nobody states it", model.File{}, model.File{Size: size}, data, false, false, 0, "states no hash"},
		{"an earlier server has served some", model.File{}, model.File{SHA256: sum, Size: size}, data, true, false, 0, "an earlier server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &nas{data: data}
				h := &hub{views: []*model.View{view("hub", c.hub)}, data: map[string][]byte{"hub": c.has}}
				f := New(Config{Names: h, Content: h, ReadTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
				defer f.Close()
				c.share.Path = "f"
				v := shared(c.share)
				x := f.File(v, &v.Files[0], s.stat(), c.older, "")
				r := x.Reader(s)
				defer r.Close()
				for _, at := range []int64{100, 700} {
					b := make([]byte, 100)
					if n, err := r.ReadAt(context.Background(), b, at); n != 100 || err != nil || !bytes.Equal(b, data[at:at+100]) {
						t.Fatalf("from the share: %d, %v", n, err)
					}
				}
				s.state.Store(hangs)
				b := make([]byte, 200)
				n, err := r.ReadAt(context.Background(), b, 800)
				if !c.moves {
					if !model.IsKind(err, model.Timeout) {
						t.Errorf("%d bytes, %v", n, err)
					}
				} else if err != nil || !bytes.Equal(b, data[800:]) {
					t.Errorf("%d bytes, %v", n, err)
				}
				if (x.Moved() != "") != c.moves {
					t.Errorf("moved: %q", x.Moved())
				}
				if text := strings.Join(f.Events("org/m"), "\n"); !strings.Contains(text, c.says) {
					t.Errorf("it says %q, want %q", text, c.says)
				}
				s.state.Store(answers)
				before, fetched := s.reads.Load(), h.reads.Load()
				if n, err := r.ReadAt(context.Background(), b, 0); err != nil && !model.IsKind(err, model.Timeout) || err == nil && !bytes.Equal(b[:n], data[:200]) {
					t.Errorf("afterwards: %d, %v", n, err)
				}
				if back := s.reads.Load() > before; back == c.moves {
					t.Errorf("the share is read again: %v", back)
				}
				if !c.moves && (fetched > 2*c.most*20 || h.reads.Load() != fetched) {
					t.Errorf("%d reads of a source that is not the same", fetched)
				}
			})
		})
	}
}

// A read waits for the share, no longer than the read timeout, and the next
// one fails at once; when the share is back, it is read.
func TestAReadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := &nas{data: content(100)}, &hub{}
		var said bytes.Buffer // the search that writes it has ended when a read gives up
		f := New(Config{Names: h, Content: h, ReadTimeout: time.Minute, Log: slog.New(slog.NewTextHandler(&said, nil))})
		defer f.Close()
		v := shared(model.File{})
		x := f.File(v, &v.Files[0], s.stat(), false, "")
		r := x.Reader(s)
		s.state.Store(hangs)
		read := func() (time.Duration, error) {
			start := time.Now()
			_, err := r.ReadAt(context.Background(), make([]byte, 10), 0)
			return time.Since(start), err
		}
		if took, err := read(); !model.IsKind(err, model.Timeout) || took < time.Minute || took > time.Minute+patience {
			t.Errorf("%v after %v", err, took)
		}
		if took, err := read(); !model.IsKind(err, model.Timeout) || took > patience {
			t.Errorf("the kernel's second try: %v after %v", err, took)
		}
		if n := h.asked.Load(); n > int32(time.Minute/searchAgain)+1 {
			t.Errorf("%d searches in a minute", n)
		}
		synctest.Wait()
		if n := strings.Count(said.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings of one outage:\n%s", n, said.String())
		}
		time.AfterFunc(30*time.Second, func() { s.state.Store(answers) })
		<-time.After(failedFor)
		if took, err := read(); err != nil || took > 30*time.Second {
			t.Errorf("the share is back: %v after %v", err, took)
		}
		s.state.Store(hangs)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := r.ReadAt(ctx, make([]byte, 10), 0); !model.IsKind(err, model.Interrupted) {
			t.Errorf("the caller left: %v", err)
		}
		if _, err := read(); !model.IsKind(err, model.Timeout) {
			t.Errorf("the share is down again: %v", err)
		}
		synctest.Wait()
		if n := strings.Count(said.String(), "level=WARN"); n != 2 {
			t.Errorf("%d warnings of two outages:\n%s", n, said.String())
		}
	})
}

// A share that is slow and busy is not one that hangs.
func TestASlowShareIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := &nas{data: content(100)}, &hub{}
		f := New(Config{Names: h, Content: h, ReadTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		defer f.Close()
		v := shared(model.File{})
		busy, other := f.File(v, &v.Files[0], s.stat(), false, "").Reader(&nas{data: s.data}), f.File(v, &v.Files[0], s.stat(), false, "").Reader(s)
		s.state.Store(hangs)
		stop := make(chan struct{})
		go func() {
			for tick := time.NewTicker(time.Second); ; {
				select {
				case <-tick.C:
					_, _ = busy.ReadAt(context.Background(), make([]byte, 10), 0)
				case <-stop:
					return
				}
			}
		}()
		time.AfterFunc(20*time.Second, func() { s.state.Store(answers) })
		if _, err := other.ReadAt(context.Background(), make([]byte, 10), 0); err != nil {
			t.Error(err)
		}
		if h.asked.Load() != 0 {
			t.Error("somebody else was looked for")
		}
		close(stop)
	})
}

// An error of the share is nobody's wait: somebody else has the bytes, or the
// reader gets it.
func TestAnErrorOfTheShare(t *testing.T) {
	data := content(100)
	for _, known := range []bool{true, false} {
		s := &nas{data: data}
		h := &hub{data: map[string][]byte{"hub": data}}
		if known {
			h.views = []*model.View{view("hub", model.File{Size: 100, SHA256: sumOf(data)})}
		}
		f := New(Config{Names: h, Content: h, ReadTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		v := shared(model.File{})
		s.state.Store(fails)
		_, err := f.File(v, &v.Files[0], s.stat(), false, "").Reader(s).ReadAt(context.Background(), make([]byte, 10), 0)
		if known && err != nil || !known && !errors.Is(err, syscall.EIO) {
			t.Errorf("known %v: %v", known, err)
		}
		f.Close()
	}
}

// A process that comes after the one in which a file moved does not read the
// share, whose file may be another one behind what was compared.
func TestAFileThatHadMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := content(100)
		s := &nas{data: changed(data, 50)}
		h := &hub{data: map[string][]byte{"hub": data}, views: []*model.View{view("hub", model.File{Size: 100, SHA256: sumOf(data)})},
			from: time.Now().Add(20 * time.Second)}
		f := New(Config{Names: h, Content: h, ReadTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
		defer f.Close()
		v := shared(model.File{Place: s})
		x := f.File(v, &v.Files[0], s.stat(), true, bySHA256+sumOf(data))
		r := x.Reader(nil)
		if x.Moved() == "" {
			t.Error("it has not moved")
		}
		b := make([]byte, 100)
		if _, err := r.ReadAt(context.Background(), b, 0); err != nil || !bytes.Equal(b, data) || s.reads.Load() != 0 {
			t.Errorf("%v, %d reads of the share", err, s.reads.Load())
		}
	})
}

// A file that is opened while the share hangs is opened when it is back, if it
// is still the same.
func TestOpenedLater(t *testing.T) {
	for _, same := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s, h := &nas{data: content(100), ino: 7}, &hub{}
			f := New(Config{Names: h, Content: h, ReadTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
			defer f.Close()
			v := shared(model.File{Place: s})
			r := f.File(v, &v.Files[0], s.stat(), true, "").Reader(nil)
			s.state.Store(hangs)
			time.AfterFunc(10*time.Second, func() {
				if !same {
					s.ino++
				}
				s.state.Store(answers)
			})
			_, err := r.ReadAt(context.Background(), make([]byte, 10), 0)
			if same && err != nil || !same && !model.IsKind(err, model.Stale) {
				t.Errorf("same %v: %v", same, err)
			}
		})
	}
}

// What has the hash that the share states is found without a name: in the
// backing dir, and in other stores.
func TestByHash(t *testing.T) {
	data := content(100)
	sum := sumOf(data)
	for _, where := range []string{"the backing dir", "/store/f"} {
		s, h := &nas{data: data}, &hub{data: map[string][]byte{"shared:/nas": data}, whole: map[string]bool{sum: where == "the backing dir"}}
		c := Config{Names: h, Content: h, ReadTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)}
		if where == "/store/f" {
			c.Elsewhere = func(string, int64) []model.Place { return []model.Place{s, store{&nas{data: data}}} } // the first one is the file itself
		}
		f := New(c)
		v := shared(model.File{SHA256: sum, Place: s})
		x := f.File(v, &v.Files[0], s.stat(), false, "")
		s.state.Store(fails)
		b := make([]byte, 100)
		if _, err := x.Reader(s).ReadAt(context.Background(), b, 0); err != nil || !bytes.Equal(b, data) {
			t.Errorf("%s: %v", where, err)
		}
		if text := strings.Join(f.Events("org/m"), "\n"); !strings.Contains(text, where) {
			t.Errorf("%s: %s", where, text)
		}
		f.Close()
	}
}

type store struct{ *nas }

func (store) Path() string { return "/store/f" }

// What was read is remembered within bounds; beyond them nothing is proven.
func TestTooMuchWasRead(t *testing.T) {
	data := content(100)
	s, h := &nas{data: data}, &hub{views: []*model.View{view("hub", model.File{Size: 100, SHA256: sumOf(data)})}, data: map[string][]byte{"hub": data}}
	f := New(Config{Names: h, Content: h, ReadTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
	defer f.Close()
	v := shared(model.File{})
	x := f.File(v, &v.Files[0], s.stat(), false, "")
	f.pieces.Store(maxAllPieces)
	r := x.Reader(s)
	if _, err := r.ReadAt(context.Background(), make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	if n := f.pieces.Load(); n != maxAllPieces {
		t.Errorf("%d pieces", n)
	}
	s.state.Store(fails)
	if _, err := r.ReadAt(context.Background(), make([]byte, 10), 0); !errors.Is(err, syscall.EIO) || x.Moved() != "" {
		t.Errorf("moved to %q: %v", x.Moved(), err)
	}
}
