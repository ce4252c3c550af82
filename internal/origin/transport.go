package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"modelfs/internal/model"
)

const (
	dialTimeout = 10 * time.Second // a connection that is not made by then is tried again
	idleTimeout = 90 * time.Second // below what common servers and balancers keep an idle connection for
	idlePerHost = 256              // more than are ever open to one host at once: none is closed for want of a place
)

func (d *Door) transports(c Config) error {
	roots, err := rootsWith(c.CAFile)
	if err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	checked := dialer
	checked.Control = control
	d.named, d.guarded = d.transport(roots, dialer.DialContext), d.transport(roots, checked.DialContext)
	if c.Dial != nil {
		d.named, d.guarded = d.transport(roots, c.Dial), d.transport(roots, c.Dial)
	}
	d.named.Proxy = func(r *http.Request) (u *url.URL, err error) { return d.proxy(r) }
	return nil
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// transport speaks HTTP/1.1 only: over HTTP/2 all streams to a host would
// share one TCP connection. There is no limit on the time of an answer; watch
// limits the time without a byte.
func (d *Door) transport(roots *x509.CertPool, dial dialFunc) *http.Transport {
	t := &http.Transport{
		DialContext:         d.untilClose(dial),
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: dialTimeout,
		DisableCompression:  true,
		MaxIdleConnsPerHost: idlePerHost,
		IdleConnTimeout:     idleTimeout,
		Protocols:           new(http.Protocols),
		// A signed URL with its policy has 2 KiB.
		MaxResponseHeaderBytes: 256 << 10,
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// untilClose makes dialling end with the Door. The transport goes on dialling
// for a request that was given up, in case the next one can use it.
func (d *Door) untilClose(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(d.owner, cancel)()
		return dial(ctx, network, addr)
	}
}

// rootsWith is the system's pool and the certificates of file; nil, which
// means the system's pool, without a file.
func rootsWith(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "reading the CA file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, model.Errorf(model.Invalid, "the CA file %s has no certificate in PEM form", file)
	}
	return pool, nil
}
