package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"modelfs/internal/model"
)

// A Client asks the owner of a backing dir. It is safe for concurrent use.
type Client struct {
	path string // of the socket, for people
	dir  *os.File
	http *http.Client
}

// Dial finds the owner of a backing dir. The error is of kind NotFound where
// nobody listens there, Denied where this user may not ask. The caller closes
// the Client.
func Dial(ctx context.Context, dir string) (*Client, error) {
	path := filepath.Join(dir, socketFile)
	d, err := openDir(dir)
	if err != nil {
		return nil, dialError(path, err)
	}
	c := &Client{path: path, dir: d}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableCompression: true,
	}}
	conn, err := c.dial(ctx) // the first request's may be too late to say that nobody is there
	if err != nil {
		return nil, errors.Join(dialError(path, err), d.Close())
	}
	return c, conn.Close()
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", address(c.dir))
}

func dialError(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOTDIR):
		return model.Errorf(model.NotFound, "no daemon answers on %s", path)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return model.Errorf(model.Denied, "%s: only the daemon's own user and root may ask it: %w", path, err)
	}
	return model.Errorf(model.Unavailable, "asking the daemon on %s: %w", path, err)
}

// Close closes idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return c.dir.Close()
}

// Pull is Puller's. When ctx ends the owner is told to stop, and what was
// received is kept.
func (c *Client) Pull(ctx context.Context, req PullRequest, report func(Event)) error {
	resp, err := c.send(ctx, http.MethodPost, "/pull", req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for lines := json.NewDecoder(resp.Body); ; {
		var l line
		switch err := lines.Decode(&l); {
		case ctx.Err() != nil:
			return model.Errorf(model.Interrupted, "pulling %s: %w", req.Name, ctx.Err())
		case err != nil:
			return c.lost(err)
		case l.End:
			return l.Fail.err()
		case l.Event != nil:
			report(*l.Event)
		}
	}
}

// Pin is Keeper's.
func (c *Client) Pin(ctx context.Context, name string) (k Kept, err error) {
	err = c.ask(ctx, http.MethodPost, "/pin", name, &k)
	return k, err
}

// Unpin is Keeper's.
func (c *Client) Unpin(ctx context.Context, name string) (k Kept, err error) {
	err = c.ask(ctx, http.MethodPost, "/unpin", name, &k)
	return k, err
}

// Remove is Keeper's.
func (c *Client) Remove(ctx context.Context, name string) (k Kept, err error) {
	err = c.ask(ctx, http.MethodPost, "/remove", name, &k)
	return k, err
}

// List is Lister's.
func (c *Client) List(ctx context.Context, pattern string) (list []Model, err error) {
	err = c.ask(ctx, http.MethodGet, "/models?pattern="+url.QueryEscape(pattern), nil, &list)
	return list, err
}

// Status decodes the owner's status into v.
func (c *Client) Status(ctx context.Context, v any) error {
	return c.ask(ctx, http.MethodGet, "/status", nil, v)
}

// ask makes a request and decodes its answer into v, also where it is an
// error.
func (c *Client) ask(ctx context.Context, method, path string, body, v any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := reply{Value: v}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return c.lost(err)
	}
	return answer.Fail.err()
}

func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://modelfs"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, model.Errorf(model.Interrupted, "asking the daemon on %s: %w", c.path, ctx.Err())
		}
		return nil, c.lost(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return nil, model.Errorf(model.Internal, "the daemon on %s answered %s: %s; is it of another version?", c.path, resp.Status, bytes.TrimSpace(text))
	}
	return resp, nil
}

// lost is a conversation that ended early.
func (c *Client) lost(cause error) error {
	return model.Errorf(model.Unavailable, "the daemon on %s went away: %w", c.path, fmt.Errorf("no answer: %w", cause))
}
