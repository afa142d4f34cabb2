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
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var perCallMetrics = []metric{{Name: "time", Unit: "s"}, {Name: "allocs"}, {Name: "allocated", Unit: "B"}}

// perCall returns the cost of one call of f, with the given number of callers at once.
func perCall(callers int, f func() error) (values, error) {
	var once sync.Once
	var failed error
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
		call := func(next func() bool) {
			for next() {
				if err := f(); err != nil {
					once.Do(func() { failed = err })
					b.Fail()
					return
				}
			}
		}
		if callers == 1 {
			call(b.Loop)
			return
		}
		b.RunParallel(func(pb *testing.PB) { call(pb.Next) })
	})
	if failed != nil {
		return nil, failed
	}
	// Whole numbers, without the few allocations of the measurement itself.
	return values{"time": r.T.Seconds() / float64(r.N), "allocs": float64(r.AllocsPerOp()), "allocated": float64(r.AllocedBytesPerOp())}, nil
}

// liveHeap returns the size of the heap after garbage collections. The second one frees pools.
func liveHeap() float64 {
	var stats runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// watchHeap samples the size of the heap, garbage included. stop returns the highest value.
func watchHeap() (stop func() float64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	var peak uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for ticks := time.Tick(2 * time.Millisecond); ; {
			metrics.Read(sample)
			peak = max(peak, sample[0].Value.Uint64())
			select {
			case <-done:
				return
			case <-ticks:
			}
		}
	}()
	return func() float64 {
		close(done)
		<-ended
		return float64(peak)
	}
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

// stock is the heap, sockets and goroutines of a process.
type stock struct{ heap, sockets, goroutines float64 }

func takeStock() stock {
	heap := liveHeap()
	descriptors, _ := os.ReadDir("/dev/fd")
	return stock{heap, float64(len(descriptors)), float64(runtime.NumGoroutine())}
}

func stockMetrics(suffix string) []metric {
	return []metric{{Name: "heap" + suffix, Unit: "B"}, {Name: "sockets" + suffix}, {Name: "goroutines" + suffix}}
}

// addStock waits a second, so that the goroutines of closed connections can end, and adds the
// process's stock beyond before.
func (v values) addStock(suffix string, before stock) {
	time.Sleep(time.Second)
	now := takeStock()
	v["heap"+suffix] = now.heap - before.heap
	v["sockets"+suffix] = now.sockets - before.sockets
	v["goroutines"+suffix] = now.goroutines - before.goroutines
}

// meter counts the bytes that its connections receive, TLS included.
type meter struct {
	net.Dialer
	received atomic.Int64
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
