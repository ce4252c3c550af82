package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"modelfs/internal/metrics"
)

// listen serves numbers, health and the status page where the configuration
// says so. Errors of serving are logged; they don't end the mount.
func (d *daemon) listen() error {
	if d.cfg.Listen == "" {
		return nil
	}
	var cfg net.ListenConfig
	l, err := cfg.Listen(context.Background(), "tcp", d.cfg.Listen)
	if err != nil {
		return fmt.Errorf("serving metrics on %s (--listen): %w", d.cfg.Listen, err)
	}
	srv := &http.Server{
		Handler:           d.pages(),
		ReadHeaderTimeout: 5 * time.Second, // nobody may hold connections for nothing
		WriteTimeout:      30 * time.Second,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("metrics, health and the status page are not served any more", "cause", err)
		}
	}()
	d.opened.add(func() error {
		err := srv.Close()
		<-done
		return err
	})
	d.log.Info("serving metrics, health and the status page", "address", l.Addr().String())
	if !loopback(l.Addr()) {
		d.log.Warn("metrics and the status page have no access control, and other machines can reach them: the names of models are no secret there (--listen)",
			"address", l.Addr().String())
	}
	return nil
}

// loopback reports whether only this machine can reach an address.
func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

func (d *daemon) pages() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler(func() metrics.Numbers { return d.status().numbers() }))
	mux.HandleFunc("GET /healthz", d.health)
	mux.HandleFunc("GET /{$}", d.page)
	return mux
}

// health is 200 while the mount is there, else 503. It never touches the
// mount: that could hang where a request of the kernel does.
func (d *daemon) health(w http.ResponseWriter, _ *http.Request) {
	tree := d.mounted.Load()
	if tree == nil {
		http.Error(w, "not mounted yet", http.StatusServiceUnavailable)
		return
	}
	select {
	case <-tree.Done():
		http.Error(w, "not mounted any more", http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ok")
	}
}

// page is the status, for people with a browser.
func (d *daemon) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	if err := out.Encode(d.status()); err != nil {
		d.log.Debug("the status page was not read to its end", "cause", err)
	}
}
