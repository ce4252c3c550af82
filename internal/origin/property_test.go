package origin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"modelfs/internal/model"
)

// A faultyCDN takes the next fault of a list at each request, and is honest
// when the list is at its end.
type faultyCDN struct {
	t      *testing.T
	data   []byte
	mu     sync.Mutex // guards faults
	faults []int
}

const (
	honest = iota
	stallAtOnce
	stallLater
	cutLater
	refuse
	serverError
	wrongStart
	shorter
	numFaults
)

func (c *faultyCDN) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	fault := honest
	if len(c.faults) > 0 {
		fault, c.faults = c.faults[0], c.faults[1:]
	}
	c.mu.Unlock()
	from, to := span(c.t, r)
	half := c.data[from : from+(to-from+1)/2]
	switch fault {
	case stallAtOnce:
		hang(w, r)
	case stallLater, cutLater:
		part(c.t, w, r, c.data)
		_, _ = w.Write(half)
		_ = http.NewResponseController(w).Flush()
		if fault == stallLater {
			hang(w, r)
		}
		panic(http.ErrAbortHandler)
	case refuse:
		w.WriteHeader(http.StatusForbidden)
	case serverError:
		w.WriteHeader(http.StatusBadGateway)
	case wrongStart:
		partOf(w, c.data, 0, len(c.data)-1, len(c.data))
	case shorter:
		partOf(w, c.data, int(from), int(from), len(c.data))
	default:
		_, _ = w.Write(part(c.t, w, r, c.data))
	}
}

// Whatever a CDN does, a stream delivers a prefix of what was asked for, and
// all of it unless it says why not; it ends in bounded time, and faults that
// are few are not noticed.
func TestStreamProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := content(rapid.IntRange(1, 5000).Draw(rt, "size"))
		off := rapid.IntRange(0, len(data)-1).Draw(rt, "off")
		n := rapid.IntRange(1, len(data)-off).Draw(rt, "n")
		faults := rapid.SliceOfN(rapid.IntRange(honest, numFaults-1), 0, 12).Draw(rt, "faults")
		buf := make([]byte, rapid.IntRange(1, 3000).Draw(rt, "buffer"))
		var problem string
		synctest.Test(t, func(t *testing.T) {
			_, d, o := hubFile(t, len(data), (&faultyCDN{t: t, data: data, faults: faults}).ServeHTTP)
			begin := time.Now()
			got, err := readWith(t.Context(), o, int64(off), int64(n), buf)
			switch {
			case !bytes.HasPrefix(data[off:off+n], got):
				problem = "other bytes than the file's"
			case err == nil && len(got) != n:
				problem = fmt.Sprintf("%d bytes without an error", len(got))
			case err != nil && len(faults) < 2:
				problem = fmt.Sprintf("one fault was noticed: %v", err)
			case err != nil && !model.IsKind(err, model.Unavailable) && !model.IsKind(err, model.Denied):
				problem = fmt.Sprintf("kind %v: %v", model.KindOf(err), err)
			case time.Since(begin) > time.Duration(len(faults)+1)*25*time.Second:
				problem = fmt.Sprintf("took %v", time.Since(begin))
			case d.Stats().BytesReceived != int64(len(got)):
				problem = fmt.Sprintf("counted %d bytes of %d", d.Stats().BytesReceived, len(got))
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

func readWith(ctx context.Context, o *Object, off, n int64, buf []byte) ([]byte, error) {
	s, err := o.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var got []byte
	for {
		k, err := s.Read(buf)
		got = append(got, buf[:k]...)
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}
