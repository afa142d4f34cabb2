// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package blackhole is a TCP proxy on loopback that can swallow packets, like a firewall or a machine
// without power.
//
//	proxy, err := blackhole.New("127.0.0.1:6443")
//	proxy.Swallow() // clients get no more answers
//	proxy.Forward() // clients get answers again
package blackhole

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Proxy forwards connections. While it swallows, the kernel completes no new connection, and no data
// arrives on existing ones.
type Proxy struct {
	target   string
	listener *net.TCPListener
	running  sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	swallow bool
	closed  bool
	fillers []net.Conn // fill the listener's queue
	conns   map[net.Conn]struct{}
}

// New returns a proxy in front of an address, which the caller must close.
func New(target string) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, listener: listener.(*net.TCPListener), conns: map[net.Conn]struct{}{}}
	p.changed = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	return p, nil
}

// Addr returns the address of the proxy, host and port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Swallow makes the proxy swallow all packets from when it returns. It needs a kernel that drops new
// connections when a listener's queue is full, as Linux does, and fails on others.
func (p *Proxy) Swallow() error {
	p.set(func() { p.swallow = true })
	if err := errors.Join(p.listener.SetDeadline(time.Unix(1, 0)), p.setQueue(0)); err != nil { // ends Accept
		return err
	}
	for range 10 {
		conn, err := net.DialTimeout("tcp", p.Addr(), 200*time.Millisecond)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			return nil
		case err != nil:
			return err
		}
		p.set(func() { p.fillers = append(p.fillers, conn) })
	}
	return errors.New("the kernel accepts connections beyond the queue")
}

// Cut closes the existing connections.
func (p *Proxy) Cut() {
	p.set(func() {
		for conn := range p.conns {
			_ = conn.Close()
		}
	})
}

// Forward ends Swallow. Swallowed data arrives then, as if TCP had sent it again.
func (p *Proxy) Forward() error {
	p.closeFillers()
	err := errors.Join(p.setQueue(128), p.listener.SetDeadline(time.Time{}))
	p.set(func() { p.swallow = false })
	return err
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() error {
	p.set(func() { p.closed = true })
	p.closeFillers()
	err := p.listener.Close()
	p.Cut()
	p.running.Wait()
	return err
}

func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.changed.Broadcast()
}

func (p *Proxy) closeFillers() {
	p.set(func() {
		for _, conn := range p.fillers {
			_ = conn.Close()
		}
		p.fillers = nil
	})
}

// setQueue sets how many connections the kernel completes before they are accepted.
func (p *Proxy) setQueue(n int) error {
	raw, err := p.listener.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), n) })
	return errors.Join(err, failed)
}

// awaitForward returns false if the proxy is closed.
func (p *Proxy) awaitForward() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.swallow && !p.closed {
		p.changed.Wait()
	}
	return !p.closed
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		switch {
		case !p.awaitForward():
			if err == nil {
				_ = conn.Close()
			}
			return
		case err == nil:
			p.running.Go(func() { p.forward(conn) })
		}
	}
}

func (p *Proxy) forward(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	both := []net.Conn{client, server}
	p.set(func() {
		for _, conn := range both {
			p.conns[conn] = struct{}{}
			if p.closed {
				_ = conn.Close()
			}
		}
	})
	var copying sync.WaitGroup
	for i := range both {
		copying.Go(func() {
			_, _ = io.Copy(&gate{p, both[1-i]}, struct{ io.Reader }{both[i]})
			_, _ = client.Close(), server.Close()
		})
	}
	copying.Wait()
	p.set(func() { delete(p.conns, client); delete(p.conns, server) })
}

// gate is a connection that waits while the proxy swallows.
type gate struct {
	proxy *Proxy
	io.Writer
}

func (g *gate) Write(data []byte) (int, error) {
	if !g.proxy.awaitForward() {
		return 0, net.ErrClosed
	}
	return g.Writer.Write(data)
}
