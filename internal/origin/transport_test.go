package origin

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"modelfs/internal/model"
)

const token = "hf_averysecrettoken"

func tokenFor(base string) []Credential {
	return []Credential{{base, func() (string, error) { return " " + token + "\n", nil }}}
}

// listenOn starts a server on another loopback address than httptest's.
func listenOn(t *testing.T, addr string, h http.Handler) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(h)
	_ = srv.Listener.Close() // replaced
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// A spy records the credentials that reach a server.
type spy struct {
	mu   sync.Mutex // guards seen
	seen []string
	next string // where it redirects to; "" for an answer
}

func (s *spy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r.Header.Get("Authorization"))
	s.mu.Unlock()
	if s.next != "" && r.URL.Path == "/f" {
		http.Redirect(w, r, s.next, http.StatusFound)
		return
	}
	file{content(10), ""}.ServeHTTP(w, r)
}

func (s *spy) only(t *testing.T, who, want string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) == 0 {
		t.Errorf("%s was not asked", who)
	}
	for _, got := range s.seen {
		if got != want {
			t.Errorf("%s saw the credential %q, want %q", who, got, want)
		}
	}
	s.seen = nil
}

// The token reaches the very scheme, host and port that it is for: not
// another address, another port, or a subdomain, whoever asks.
func TestCredentialStaysHome(t *testing.T) {
	home, other := &spy{}, &spy{}
	hub := listenOn(t, "127.0.0.1", home)
	samePort := func(base, host string) string {
		u, _ := url.Parse(base)
		return "http://" + net.JoinHostPort(host, u.Port())
	}
	for name, elsewhere := range map[string]*httptest.Server{
		"another address": listenOn(t, "127.0.0.2", other),
		"another port":    listenOn(t, "127.0.0.1", other),
	} {
		home.next = elsewhere.URL + "/g?sig=1"
		d := openDoor(t, Config{Endpoints: []string{hub.URL}, Allow: []string{elsewhere.URL + "/*"}, Credentials: tokenFor(hub.URL + "/path")})
		if _, err := d.Get(t.Context(), hub.URL+"/f", GetOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		home.only(t, "the hub", "Bearer "+token)
		other.only(t, name, "")
		if got, err := readRange(t.Context(), d.Object(hub.URL+"/f", Want{Size: 10}), 2, 8); err != nil || len(got) != 8 {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		home.only(t, "the hub", "Bearer "+token)
		other.only(t, name, "")
		if _, err := d.Get(t.Context(), elsewhere.URL+"/g", GetOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		other.only(t, name, "")
		if _, err := d.Get(t.Context(), hub.URL+"/g", GetOptions{Anonymous: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		home.only(t, "the hub, asked anonymously", "")
		d.Close()
	}
	// A subdomain: names have to be made up, and the port is the same.
	d := openDoor(t, Config{Endpoints: []string{samePort(hub.URL, "hub.test")}, Allow: []string{samePort(hub.URL, "us.hub.test") + "/*"}, Credentials: tokenFor(samePort(hub.URL, "hub.test")),
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(hub.URL, "http://"))
		}})
	for host, want := range map[string]string{"hub.test": "Bearer " + token, "us.hub.test": "", "HUB.test": "Bearer " + token} {
		home.next = ""
		if _, err := d.Get(t.Context(), samePort(hub.URL, host)+"/g", GetOptions{}); err != nil {
			t.Fatal(err)
		}
		home.only(t, host, want)
	}
}

// A credential that can't be had or can't be sent is an error that does not
// repeat it.
func TestBadCredential(t *testing.T) {
	for name, c := range map[string]struct {
		token string
		err   error
		kind  model.Kind
	}{
		"can't be read": {"", errors.New("open /run/token: no such file"), model.Unavailable},
		"two lines":     {token + "\r\nX-Evil: 1", nil, model.Denied},
		"not ASCII":     {token + "\u00e9", nil, model.Denied},
	} {
		s := &spy{}
		srv := listenOn(t, "127.0.0.1", s)
		d := openDoor(t, Config{Endpoints: []string{srv.URL}, Credentials: []Credential{{srv.URL, func() (string, error) { return c.token, c.err }}}})
		_, err := d.Get(t.Context(), srv.URL, GetOptions{})
		if !model.IsKind(err, c.kind) || strings.Contains(err.Error(), token) || len(s.seen) != 0 {
			t.Errorf("%s: %v, %d requests", name, err, len(s.seen))
		}
	}
}

// Neither a token nor a signature gets into the log, whatever goes wrong.
func TestNothingSecretIsLogged(t *testing.T) {
	var log bytes.Buffer
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/f":
			http.Redirect(w, r, "/g?sig=secret", http.StatusFound)
		case r.Header.Get("Authorization") != "":
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodHead:
			w.Header().Set("Content-Length", "10")
		default:
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer srv.Close()
	d := openDoor(t, Config{Endpoints: []string{srv.URL}, Credentials: tokenFor(srv.URL), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	ctx, cancel := context.WithTimeout(t.Context(), 1) // the deadline is over before a pause would be sat out
	defer cancel()
	_, _ = d.Get(ctx, srv.URL+"/f?sig=secret", GetOptions{})
	o := d.Object(srv.URL+"/f?sig=secret", Want{Size: 10})
	if _, err := o.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.pause(pauseKey{site: site{"http", "127.0.0.1", "1"}, class: "range"}, http.Header{})
	d.Close()
	if s := log.String(); strings.Contains(s, "secret") || !strings.Contains(s, "credential is refused") || !strings.Contains(s, "asked too often") {
		t.Errorf("log:\n%s", s)
	}
}

func TestConfig(t *testing.T) {
	pemless := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(pemless, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]Config{
		"pattern":            {Allow: []string{"ftp://x"}},
		"endpoint":           {Endpoints: []string{"huggingface.co"}},
		"endpoint, parse":    {Endpoints: []string{"https://x/%zz?key=secret"}},
		"endpoint, user":     {Endpoints: []string{"https://user:secret@x/"}},
		"credential":         {Credentials: tokenFor("huggingface.co")},
		"CA file is missing": {CAFile: "/nonexistent/ca.pem"},
		"CA file is empty":   {CAFile: pemless},
	} {
		_, err := New(c)
		if !model.IsKind(err, model.Invalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := openDoor(t, Config{Endpoints: []string{"https://huggingface.co"}})
	u, _ := url.Parse("https://us.aws.cdn.hf.co/x")
	if _, err := d.allow.check(nil, u); err != nil {
		t.Errorf("the default list: %v", err)
	}
	d.Close() // and again by openDoor
}

// A certificate of the CA file's is trusted, others are not; HTTP/2 is not
// spoken even where the server offers it.
func TestCAFile(t *testing.T) {
	var proto string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { proto = r.Proto }))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.StartTLS()
	defer srv.Close()
	d := openDoor(t, Config{Endpoints: []string{srv.URL}, CAFile: caOf(t, srv)})
	if _, err := d.Get(t.Context(), srv.URL, GetOptions{}); err != nil || proto != "HTTP/1.1" {
		t.Errorf("over %s: %v", proto, err)
	}
	_, err := openDoor(t, Config{Endpoints: []string{srv.URL}}).Get(t.Context(), srv.URL, GetOptions{})
	wantKind(t, err, model.Unavailable)
}

// caOf writes a server's certificate to a file.
func caOf(t *testing.T, srv *httptest.Server) string {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return ca
}

// proxyServer is a forward proxy for plain http that knows only fake hosts.
func proxyServer(t *testing.T, asked *[]string) *url.URL {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.RequestURI)
		_, _ = io.WriteString(w, "through the proxy")
	}))
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// The proxy may be anywhere, on loopback for one; what is behind it is
// checked by its name.
func TestProxy(t *testing.T) {
	var asked []string
	proxy := proxyServer(t, &asked)
	for rawURL, want := range map[string]bool{
		"http://models.example.com/x":       true,
		"http://inside.example.com/x":       true,
		"http://10.0.0.1/x":                 false,
		"http://[::1]/x":                    false,
		"http://localhost/x":                false,
		"http://metadata.google.internal/x": false,
		"http://10.9.9.9/x":                 true, // an exact pattern names it
	} {
		asked = nil
		d := openDoor(t, Config{Allow: []string{"http://*/*", "http://10.9.9.9/*", "http://inside.example.com/*"}})
		d.proxy = func(*http.Request) (*url.URL, error) { return proxy, nil }
		a, err := d.Get(t.Context(), rawURL, GetOptions{})
		switch {
		case want && (err != nil || string(a.Body) != "through the proxy" || len(asked) != 1 || asked[0] != rawURL):
			t.Errorf("%s: %+v, %v, the proxy saw %q", rawURL, a, err, asked)
		case !want && (!model.IsKind(err, model.Denied) || len(asked) != 0):
			t.Errorf("%s: %v, the proxy saw %q", rawURL, err, asked)
		}
		d.Close()
	}
	d := openDoor(t, Config{Allow: []string{"http://*/*"}})
	d.proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("http://user:secret@proxy") }
	_, err := d.Get(t.Context(), "http://x.example.com/", GetOptions{})
	wantKind(t, err, model.Unavailable)
	if strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// Connections stay open for the next request, as many as are used.
func TestConnectionsAreKept(t *testing.T) {
	var mu sync.Mutex
	made := 0
	srv := httptest.NewUnstartedServer(file{content(1 << 20), "x"})
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			mu.Lock()
			made++
			mu.Unlock()
		}
	}
	srv.Start()
	defer srv.Close()
	d := openDoor(t, Config{Endpoints: []string{srv.URL}})
	o := d.Object(srv.URL+"/f", Want{Size: 1 << 20})
	const parallel = 20
	streams := make([]io.ReadCloser, parallel)
	for range 3 {
		for i := range streams {
			s, err := o.Range(t.Context(), int64(i)<<10, 1<<10)
			if err != nil {
				t.Fatal(err)
			}
			streams[i] = s
		}
		for _, s := range streams {
			if n, err := io.Copy(io.Discard, s); err != nil || n != 1<<10 {
				t.Fatalf("%d bytes, %v", n, err)
			}
			_ = s.Close()
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if made > parallel {
		t.Errorf("%d connections for %d streams at a time", made, parallel)
	}
}

// A refusal says whether a credential was sent: that is what to look at next.
func TestRefusalNamesCause(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Error-Code", "GatedRepo")
		w.Header().Set("X-Error-Message", "Access to model X is restricted.\u009b31m"+strings.Repeat("x", 1000))
		w.WriteHeader(http.StatusForbidden)
	}))
	defer srv.Close()
	for want, cr := range map[string][]Credential{"does not give access": tokenFor(srv.URL), "no credential was sent": nil} {
		d := openDoor(t, Config{Endpoints: []string{srv.URL}, Credentials: cr})
		_, err := d.Object(srv.URL+"/f", Want{Size: -1}).Resolve(t.Context())
		wantKind(t, err, model.Denied)
		if s := err.Error(); !strings.Contains(s, want) || !strings.Contains(s, "Access to model X") || strings.Contains(s, "\u009b") || len(s) > 400 || strings.Contains(s, token) {
			t.Errorf("%s", s)
		}
	}
}
