package hubtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// A Network joins servers and clients in memory, with net.Pipe connections. In
// a synctest bubble all its waits are durable. Hub and Router may share one.
type Network struct {
	mu        sync.Mutex // guards all below; leaf
	port      int
	listeners map[string]*memListener
}

// NewNetwork makes an empty network.
func NewNetwork() *Network {
	return &Network{port: 8000, listeners: map[string]*memListener{}}
}

// Dial connects to a server of the network. An address where no server listens
// refuses at once.
func (n *Network) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: connection refused", addr)
	}
	client, server := net.Pipe()
	select {
	case l.pending <- server:
		return client, nil
	case <-l.closed:
		return nil, errors.Join(fmt.Errorf("dial %s: connection refused", addr), client.Close())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), client.Close())
	}
}

// listen works on a nil Network too: that is the loopback interface.
func (n *Network) listen(addr string) (net.Listener, error) {
	if n == nil {
		return new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	}
	ip, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == "0" {
		n.port++
		addr = fmt.Sprintf("%s:%d", ip, n.port)
	}
	l := &memListener{network: n, addr: addr, pending: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

type memListener struct {
	network *Network
	addr    string
	pending chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.pending:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		delete(l.network.listeners, l.addr)
		l.network.mu.Unlock()
		close(l.closed)
	})
	return nil
}

func (l *memListener) Addr() net.Addr { return memAddr(l.addr) }

type memAddr string

func (a memAddr) Network() string { return "mem" }
func (a memAddr) String() string  { return string(a) }
