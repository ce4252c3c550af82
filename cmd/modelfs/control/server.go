package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxRequest bounds a request's body: it holds one name.
const maxRequest = 64 << 10

// Work is what a server's clients may ask for.
type Work struct {
	Puller Puller
	Keeper Keeper
	Lister Lister
	Status func() any // rendered as JSON; safe for concurrent use
}

// A Server listens in a backing dir.
type Server struct {
	work   Work
	log    *slog.Logger
	path   string
	http   *http.Server
	cancel context.CancelFunc // ends all requests
	served sync.WaitGroup     // Serve and the connections
}

// Listen serves a backing dir's socket, whose lock the caller holds. The
// caller closes the Server before it gives the lock up.
func Listen(dir string, work Work, log *slog.Logger) (*Server, error) {
	l, err := listen(dir)
	if err != nil {
		return nil, fmt.Errorf("serving commands on %s: %w", filepath.Join(dir, socketFile), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{work: work, log: log, path: filepath.Join(dir, socketFile), cancel: cancel}
	s.http = &http.Server{
		Handler:           s.routes(),
		ConnState:         s.connState,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.served.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("commands are not served any more", "socket", s.path, "cause", err)
		}
	})
	return s, nil
}

func listen(dir string) (net.Listener, error) {
	d, err := openDir(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	addr := address(d)
	if err := os.Remove(addr); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		// The kernel makes the file with the mode of the unbound socket.
		ctlErr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(ctlErr, err)
	}}
	l, err := cfg.Listen(context.Background(), "unix", addr)
	if err != nil {
		return nil, err
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the address is good no longer than d: Close removes the file
	}
	return l, nil
}

// Close ends all requests, waits for them and removes the socket.
func (s *Server) Close() error {
	s.cancel()
	err := s.http.Close()
	s.served.Wait()
	if rmErr := os.Remove(s.path); !errors.Is(rmErr, os.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}

// connState counts connections: a new one while Serve runs, so that Close
// can't miss it, a closed one when its requests have ended.
func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.served.Add(1)
	case http.StateClosed:
		s.served.Done()
	case http.StateActive, http.StateIdle, http.StateHijacked:
	}
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /pull", s.pull)
	for path, keep := range map[string]func(context.Context, string) (Kept, error){
		"/pin": s.work.Keeper.Pin, "/unpin": s.work.Keeper.Unpin, "/remove": s.work.Keeper.Remove,
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			var name string
			if s.read(w, r, &name) {
				kept, err := keep(r.Context(), name)
				s.answer(w, kept, err)
			}
		})
	}
	mux.HandleFunc("GET /models", func(w http.ResponseWriter, r *http.Request) {
		list, err := s.work.Lister.List(r.Context(), r.URL.Query().Get("pattern"))
		s.answer(w, list, err)
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, s.work.Status(), nil) })
	return mux
}

// read decodes a request's body and reports whether it could.
func (s *Server) read(w http.ResponseWriter, r *http.Request, v any) bool {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	// To its end: only then does the server notice that the client leaves.
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxRequest))
	return true
}

// reply is the answer to everything but a pull.
type reply struct {
	Value any      `json:"value"`
	Fail  *failure `json:"fail,omitempty"`
}

func (s *Server) answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(reply{v, failureOf(err)}); err != nil {
		s.log.Debug("a command left before its answer", "cause", err)
	}
}

// pull answers with a line for each event and one for the end.
func (s *Server) pull(w http.ResponseWriter, r *http.Request) {
	var req PullRequest
	if !s.read(w, r, &req) {
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	say := func(l line) {
		// A client that is gone ends the request's context, and thereby Pull.
		if err := errors.Join(out.Encode(l), flush.Flush()); err != nil {
			s.log.Debug("a pull's progress was not read", "cause", err)
		}
	}
	err := s.work.Puller.Pull(r.Context(), req, func(e Event) { say(line{Event: &e}) })
	say(line{End: true, Fail: failureOf(err)})
}
