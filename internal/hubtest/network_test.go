package hubtest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestNetworkIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork()
		h := newStage(t, On(n))
		r := NewRouter(t, RouterConfig{Open: true}, On(n))
		c := clientOn(t, n)
		for _, u := range []string{h.URL() + "/api/models", r.URL() + "/api/models"} {
			if resp, _ := c.get(u, nil); resp.StatusCode != 200 {
				t.Errorf("%s: %s", u, resp.Status)
			}
		}
		if h.URL() == r.URL() || h.CDN() == h.URL() {
			t.Errorf("addresses %s, %s, %s", h.URL(), h.CDN(), r.URL())
		}
	})
}

func TestNetworkRefuses(t *testing.T) {
	n := NewNetwork()
	if _, err := n.Dial(context.Background(), "tcp", "127.0.0.1:1"); err == nil {
		t.Error("nobody listens, but Dial connects")
	}
	l, err := n.listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := n.Dial(ctx, "tcp", l.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody accepts: %v", err)
	}
	_ = l.Close()
	_ = l.Close() // once more is nothing
	if _, err := n.Dial(context.Background(), "tcp", l.Addr().String()); err == nil {
		t.Error("closed, but Dial connects")
	}
}

func TestRefuseInMemory(t *testing.T) {
	bubble(t, func(t *testing.T, h *Hub, c *client, u string) {
		h.Refuse(AtCDN)
		if _, err := c.Client.Get(u); err == nil {
			t.Error("no error while refusing")
		}
		if err := h.Accept(AtCDN); err != nil {
			t.Fatal(err)
		}
		if resp, _ := c.get(u, nil); resp.StatusCode != 200 {
			t.Errorf("after Accept: %s", resp.Status)
		}
	})
}
