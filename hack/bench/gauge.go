// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

var perCallMetrics = []metric{{Name: "time", Unit: "s"}, {Name: "allocs"}, {Name: "allocated", Unit: "B"}}

// perCall returns the cost of one call of f, with the given number of callers at once.
func perCall(callers int, f func() error) (values, error) {
	var failed atomic.Pointer[error]
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
		call := func(next func() bool) {
			for next() {
				if err := f(); err != nil {
					failure := err // on the heap, unlike err: else each call would allocate
					failed.Store(&failure)
					return // fails the benchmark
				}
			}
		}
		if callers == 1 {
			call(b.Loop)
			return
		}
		b.RunParallel(func(pb *testing.PB) { call(pb.Next) })
	})
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	// Whole numbers, without the few allocations of the measurement itself.
	return values{"time": r.T.Seconds() / float64(r.N), "allocs": float64(r.AllocsPerOp()), "allocated": float64(r.AllocedBytesPerOp())}, nil
}

// until returns when done returns true, which it checks at an interval.
func until(ctx context.Context, interval time.Duration, done func() bool) error {
	return wait.PollUntilContextCancel(ctx, interval, true, func(context.Context) (bool, error) { return done(), nil })
}

// heapSize returns the size of the heap, garbage included.
func heapSize() float64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return float64(sample[0].Value.Uint64())
}

// liveHeap returns the size of the heap after garbage collections. The second one frees pools.
func liveHeap() float64 {
	for range 3 {
		runtime.GC()
	}
	return heapSize()
}

// cpuTime returns the CPU time of this process and of the children that it has waited for.
func cpuTime() float64 {
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if syscall.Getrusage(who, &usage) == nil {
			total += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		}
	}
	return total.Seconds()
}

func stockMetrics(suffix string) []metric {
	return []metric{{Name: "heap" + suffix, Unit: "B"}, {Name: "sockets" + suffix}, {Name: "goroutines" + suffix}}
}

// takeStock returns what a process holds now.
func takeStock() values {
	heap := liveHeap()
	descriptors, _ := os.ReadDir("/dev/fd")
	return values{"heap": heap, "sockets": float64(len(descriptors)), "goroutines": float64(runtime.NumGoroutine())}
}

// addStock waits a second, so that the goroutines of closed connections can end, and adds the
// process's stock beyond before.
func (v values) addStock(suffix string, before values) {
	time.Sleep(time.Second)
	for name, now := range takeStock() {
		v[name+suffix] = now - before[name]
	}
}

// meter counts the bytes that its connections receive, TLS included, and requests.
type meter struct {
	net.Dialer
	received, requests atomic.Int64
}

func (m *meter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := m.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &meteredConn{conn, m}, nil
}

type meteredConn struct {
	net.Conn
	meter *meter
}

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.meter.received.Add(int64(n))
	return n, err
}

type roundTripper func(req *http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
