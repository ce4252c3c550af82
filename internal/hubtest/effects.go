package hubtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// An Effect is what a fault does to an answer. The functions below make them.
type Effect func(*plan)

// Status answers with the code, these headers and this body instead.
func Status(code int, header http.Header, body string) Effect {
	return func(p *plan) {
		p.answer = func(w http.ResponseWriter, _ *http.Request) {
			for k, v := range header {
				w.Header()[http.CanonicalHeaderKey(k)] = v
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
}

// HTML answers with the code and a page for people, as a proxy in between does.
func HTML(code int) Effect {
	return Status(code, http.Header{"Content-Type": {"text/html"}},
		fmt.Sprintf("<html><head><title>%d %s</title></head><body><h1>%[2]s</h1></body></html>\n", code, http.StatusText(code)))
}

// Delay answers d later.
func Delay(d time.Duration) Effect { return func(p *plan) { p.delay += d } }

// Hang gives no answer until the fault is released; then the usual one.
func Hang() Effect { return func(p *plan) { p.hang = append(p.hang, p.released) } }

// Do calls f when the request has arrived, before it is answered.
func Do(f func()) Effect { return func(p *plan) { p.do = append(p.do, f) } }

// StallAt sends n bytes of the body, then nothing until the fault is released.
func StallAt(n int64) Effect {
	return func(p *plan) { p.stops = append(p.stops, stop{at: n, released: p.released}) }
}

// StallFrom sends what lies before off in the file, whatever range was asked
// for, then nothing until the fault is released.
func StallFrom(off int64) Effect {
	return func(p *plan) { p.stops = append(p.stops, stop{at: off, inFile: true, released: p.released}) }
}

// A Cut is how CutAt ends a connection.
type Cut func(net.Conn)

// Reset ends a connection with a reset (in memory: a plain end).
func Reset(c net.Conn) { reset(c) }

// CleanClose ends a connection as if the answer were complete.
func CleanClose(c net.Conn) { _ = c.Close() }

// CutAt sends n bytes of the body, then ends the connection.
func CutAt(n int64, how Cut) Effect {
	return func(p *plan) { p.stops = append(p.stops, stop{at: n, cut: how}) }
}

// Drop ends the connection instead of an answer.
func Drop(how Cut) Effect {
	return func(p *plan) {
		p.answer = func(w http.ResponseWriter, _ *http.Request) {
			how(w.(*response).conn().Conn)
			abort()
		}
	}
}

// DripRate sends the body at n bytes a second, whatever the host's limit.
func DripRate(n int64) Effect { return func(p *plan) { p.drip = n } }

// ShortBody leaves out the last n bytes of the body, and states the length of
// what is sent; a Content-Range still promises them.
func ShortBody(n int64) Effect { return func(p *plan) { p.short += n } }

// CorruptByte flips the byte at that offset of the file, in each answer that
// has it.
func CorruptByte(at int64) Effect { return func(p *plan) { p.corrupt = append(p.corrupt, at) } }

// IgnoreRange answers 200 and the whole file to any range.
func IgnoreRange() Effect { return func(p *plan) { p.ignoreRange = true } }

// NoLength sends the body chunked, without a Content-Length.
func NoLength() Effect { return func(p *plan) { p.noLength = true } }

// Gzip compresses the body, though nobody asked for it. A range is ignored, as
// caches in between do.
func Gzip() Effect { return func(p *plan) { p.gzip, p.ignoreRange = true, true } }

// WrongContentRange states this Content-Range on a 206.
func WrongContentRange(value string) Effect {
	return onHeader(func(_ *http.Request, status int, h http.Header) {
		if status == http.StatusPartialContent {
			h.Set("Content-Range", value)
		}
	})
}

// FlipETag states another entity tag than the content's: ETag, and
// X-Linked-Etag where there is one.
func FlipETag() Effect {
	return onHeader(func(_ *http.Request, _ int, h http.Header) {
		for _, k := range []string{"Etag", "X-Linked-Etag"} {
			if v := h.Get(k); v != "" {
				v = strings.Trim(v, `"`)
				h.Set(k, `"f11bbed`+v[min(7, len(v)):]+`"`)
			}
		}
	})
}

// SetHeader states this header; "" removes it.
func SetHeader(key, value string) Effect {
	return onHeader(func(_ *http.Request, _ int, h http.Header) {
		h.Del(key)
		if value != "" {
			h.Set(key, value)
		}
	})
}

// NoLocation leaves out a redirect's Location.
func NoLocation() Effect { return SetHeader("Location", "") }

// MirrorLinks makes the next page's address one at https://huggingface.co, as
// mirrors do that pass on what they read.
func MirrorLinks() Effect {
	return onHeader(func(_ *http.Request, _ int, h http.Header) {
		if _, rest, ok := strings.Cut(h.Get("Link"), "://"); ok {
			_, path, _ := strings.Cut(rest, "/")
			h.Set("Link", "<https://huggingface.co/"+path)
		}
	})
}

func onHeader(edit func(*http.Request, int, http.Header)) Effect {
	return func(p *plan) { p.headers = append(p.headers, edit) }
}

// Redirect answers 302 with this Location instead.
func Redirect(to string) Effect {
	return func(p *plan) {
		p.answer = func(w http.ResponseWriter, _ *http.Request) {
			redirect(w, http.StatusFound, to)
		}
	}
}

// RedirectLoop redirects each request to itself.
func RedirectLoop() Effect {
	return func(p *plan) {
		p.answer = func(w http.ResponseWriter, r *http.Request) {
			redirect(w, http.StatusTemporaryRedirect, r.URL.RequestURI())
		}
	}
}

// EndlessPages answers each page of a list with the first one, and with the
// address of another next one.
func EndlessPages() Effect {
	n := new(atomic.Int64)
	return func(p *plan) {
		p.dropCursor = true
		p.headers = append(p.headers, func(r *http.Request, status int, h http.Header) {
			if status == http.StatusOK {
				h.Set("Link", nextLink("http://"+r.Host, r.URL, fmt.Sprintf("endless-%d", n.Add(1))))
			}
		})
	}
}

// HugeJSON makes a JSON answer at least n bytes longer, and still well formed:
// an object gets one more member, a list more elements.
func HugeJSON(n int64) Effect {
	return onPage(func(body []byte, send func([]byte) error) error {
		open, item, rest := `{"pad":"`, "x", `",`
		if body[0] == '[' {
			item = `{"type":"file","path":"pad","size":1,"oid":"0000000000000000000000000000000000000000"},`
			open, rest = "[", ""
		}
		piece := []byte(strings.Repeat(item, 64<<10/len(item)))
		if err := send([]byte(open)); err != nil {
			return err
		}
		for sent := int64(0); sent < n; sent += int64(len(piece)) {
			if err := send(piece); err != nil {
				return err
			}
		}
		tail := bytes.TrimSpace(body[1:])
		if len(tail) == 1 { // nothing but the closing bracket: give the comma something to divide
			rest = strings.TrimSuffix(rest, ",")
			if body[0] == '[' {
				rest = "null"
			}
		}
		return send(append([]byte(rest), tail...))
	})
}

// WrongTypes keeps the shape of a JSON answer and changes the type of each
// value in it: strings become numbers, numbers strings, the rest objects.
func WrongTypes() Effect {
	return onPage(func(body []byte, send func([]byte) error) error {
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			return err
		}
		out, err := json.Marshal(wrongType(v))
		if err != nil {
			return err
		}
		return send(out)
	})
}

func wrongType(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = wrongType(v[k])
		}
		return v
	case []any:
		for i := range v {
			v[i] = wrongType(v[i])
		}
		return v
	case string:
		return 42
	case float64:
		return "many"
	}
	return map[string]any{}
}

func onPage(rewrite func([]byte, func([]byte) error) error) Effect {
	return func(p *plan) { p.page = rewrite }
}

// A LimitForm is how a 429 says how long to wait.
type LimitForm int

// The documented forms.
const (
	LimitHeader   LimitForm = iota // RateLimit: "api";r=0;t=<seconds>
	RetryAfter                     // Retry-After: <seconds>
	LimitUnstated                  // neither
)

// RateLimited answers 429. wait is rounded down to seconds.
func RateLimited(form LimitForm, wait time.Duration) Effect {
	header := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	seconds := int(wait / time.Second)
	switch form {
	case LimitHeader:
		header.Set("RateLimit", fmt.Sprintf(`"api";r=0;t=%d`, seconds))
		header.Set("RateLimit-Policy", `"fixed window";"api";q=500;w=300`)
	case RetryAfter:
		header.Set("Retry-After", strconv.Itoa(seconds))
	}
	return Status(http.StatusTooManyRequests, header, `{"error":"Too Many Requests"}`)
}
