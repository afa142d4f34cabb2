// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package blackhole_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane/blackhole"
)

func TestAProxySwallowsAndForwards(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer echo.Close()
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	proxy, err := blackhole.New(echo.Addr().String())
	check(t, err)
	defer func() { check(t, proxy.Close()) }()
	dial := func(limit time.Duration) (net.Conn, error) { return net.DialTimeout("tcp", proxy.Addr(), limit) }
	first, err := dial(time.Minute)
	check(t, err)
	echoes := func(conn net.Conn) {
		t.Helper()
		_, err := io.WriteString(conn, "x")
		check(t, err)
		check(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = io.ReadFull(conn, make([]byte, 1))
		check(t, err)
	}
	echoes(first)
	for range 2 {
		check(t, proxy.Swallow())
		if _, err := dial(200 * time.Millisecond); !isTimeout(err) {
			t.Fatalf("a dial returns %v", err)
		}
		_, err = io.WriteString(first, "y")
		check(t, err)
		check(t, first.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		if _, err := first.Read(make([]byte, 1)); !isTimeout(err) {
			t.Fatalf("a read returns %v", err)
		}
		check(t, proxy.Forward())
		check(t, first.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = io.ReadFull(first, make([]byte, 1))
		check(t, err)
		second, err := dial(time.Minute)
		check(t, err)
		echoes(second)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
