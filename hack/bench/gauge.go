// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// benchTime is how long a call that takes nanoseconds is repeated.
func benchTime(quick bool) string {
	if quick {
		return "100ms"
	}
	return "200ms"
}

var perCall = []metric{{Name: "time", Unit: seconds}, {Name: "allocs", Unit: count}, {Name: "allocated", Unit: bytesUnit}}

// perCallOf returns what a call of f takes.
func perCallOf(f func() error) (values, error) { return perCallIn("", f) }

func perCallIn(prefix string, f func() error) (values, error) {
	var failed error
	return benchmarked(prefix, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := f(); err != nil {
				failed = err
				b.FailNow()
			}
		}
	}, &failed)
}

// perCallOfMany is perCallOf with callers at once; the time is that of all divided by the
// number of calls.
func perCallOfMany(callers int, f func() error) (values, error) {
	var failed error
	var once sync.Once
	return benchmarked("", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := f(); err != nil {
					once.Do(func() { failed = err })
					b.Fail()
					return
				}
			}
		})
	}, &failed)
}

func benchmarked(prefix string, f func(b *testing.B), failed *error) (values, error) {
	r := testing.Benchmark(f)
	if *failed != nil {
		return nil, *failed
	}
	if r.N == 0 {
		return nil, errors.New("the benchmark has not run")
	}
	return values{
		prefix + "time": r.T.Seconds() / float64(r.N),
		// Whole numbers, without the few that the measurement itself makes.
		prefix + "allocs":    float64(r.AllocsPerOp()),
		prefix + "allocated": float64(r.AllocedBytesPerOp()),
	}, nil
}

// liveHeap is what the heap holds after collections. The second frees what is in pools.
func liveHeap() float64 {
	var stats runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// watchHeap samples the heap until stop, which returns the most that it has held, objects
// that wait for the collector included.
func watchHeap() (stop func() float64) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	var peak uint64
	read := func() {
		metrics.Read(sample)
		peak = max(peak, sample[0].Value.Uint64())
	}
	read()
	ctx, cancel := context.WithCancel(context.Background())
	var sampling sync.WaitGroup
	sampling.Go(func() {
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				read()
			}
		}
	})
	return func() float64 {
		cancel()
		sampling.Wait()
		read()
		return float64(peak)
	}
}

// peakMemory is the most physical memory that the process has used; 0 where the system does
// not tell. (Linux also tells it by getrusage, but that includes the parent's.)
func peakMemory() float64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		var kilobytes float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kilobytes); err == nil {
			return kilobytes * 1024
		}
	}
	return 0
}

// cpuTime is that of this process and of those that it has started and that have ended.
func cpuTime() float64 {
	var total float64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if err := syscall.Getrusage(who, &usage); err != nil {
			continue
		}
		total += time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	}
	return total
}

// openSockets counts the descriptors of the process, so it is for differences.
func openSockets() (float64, error) {
	entries, err := os.ReadDir("/dev/fd")
	return float64(len(entries)), err
}

// meter counts what comes in by its connections, TLS and headers included.
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
