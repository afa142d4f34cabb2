// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// A benchmark comes with what it is to be compared with, in the same run:
//
//	go test ./helpers/fleet -run '^$' -bench . -count 6

// BenchmarkFleet of a thousand data planes on ten servers, from Run until every run has had
// an answer, and from the end of its context until Run has returned, against a goroutine
// for each data plane that makes the same request and holds its connection. The heap is
// that of both ends, as the servers are in this process; of the goroutines, what is theirs
// is told apart.
func BenchmarkFleet(b *testing.B) {
	const planes = 1000
	s := newSource(b)
	servers := make([]*testserver.Server, 10)
	for i := range servers {
		servers[i] = testserver.New(b, testserver.WhoAmI)
	}
	all := make([]*v1alpha1.DataPlane, planes)
	for i := range all {
		all[i] = servers[i%len(servers)].DataPlane(fmt.Sprint("dp-", i), "user")
		s.Add(all[i])
	}
	require.Eventually(b, func() bool { return len(s.informer.GetStore().ListKeys()) == planes }, time.Minute, time.Millisecond)

	type work func(ctx context.Context, c *remote.Cluster) error
	withFleet := func(opts fleet.Options) func(ctx context.Context, work work) error {
		return func(ctx context.Context, work work) error { return fleet.New(s.informer, work, opts).Run(ctx) }
	}
	withoutFleet := func(ctx context.Context, work work) error {
		var running sync.WaitGroup
		defer running.Wait()
		for _, dp := range all {
			running.Add(1)
			go func() {
				defer running.Done()
				c, err := remote.NewCluster(dp, remote.Options{CloseGrace: -1})
				if err != nil {
					return
				}
				defer c.Close()
				for ctx.Err() == nil { // as a Fleet does, if there was no answer in time
					_ = work(ctx, c)
				}
			}()
		}
		return nil
	}
	for _, bench := range []struct {
		name string
		run  func(ctx context.Context, work work) error
	}{
		{"floor", withoutFleet},
		{"sdk", withFleet(fleet.Options{})},
		{"sdk-50-start-at-once", withFleet(fleet.Options{StartLimit: 50, StartTimeout: time.Second})},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var rounds, started, stopped, heap, goroutines, serving float64
			for b.Loop() {
				heapBefore, goroutinesBefore := heapInUse(), runtime.NumGoroutine()
				ctx, stop := context.WithCancel(b.Context())
				var answered sync.WaitGroup
				answered.Add(planes)
				result := make(chan error, 1)
				begun := time.Now()
				go func() {
					result <- bench.run(ctx, func(ctx context.Context, c *remote.Cluster) error {
						if _, err := get(ctx, c, "/"); err != nil {
							return err
						}
						fleet.MarkStarted(ctx)
						answered.Done()
						<-ctx.Done()
						return ctx.Err()
					})
				}()
				answered.Wait()
				started += time.Since(begun).Seconds()
				goroutines += float64(runtime.NumGoroutine() - goroutinesBefore)
				serving += float64(servingGoroutines(b))
				heap += heapInUse() - heapBefore
				begun = time.Now()
				stop()
				require.NoError(b, <-result)
				stopped += time.Since(begun).Seconds()
				rounds++
				testserver.RequireGoroutines(b, goroutinesBefore)
			}
			b.ReportMetric(0, "ns/op") // of all that is between
			b.ReportMetric(1000*started/rounds, "start-ms")
			b.ReportMetric(1000*stopped/rounds, "stop-ms")
			b.ReportMetric(heap/rounds/planes, "heap-B/plane")
			b.ReportMetric((goroutines-serving)/rounds/planes, "goroutines/plane")
			b.ReportMetric(serving/rounds/planes, "server-goroutines/plane")
		})
	}
}

// servingGoroutines counts those of connections of servers.
func servingGoroutines(b *testing.B) (n int) {
	b.Helper()
	var profile strings.Builder
	require.NoError(b, pprof.Lookup("goroutine").WriteTo(&profile, 1))
	for group := range strings.SplitSeq(profile.String(), "\n\n") {
		if !strings.Contains(group, "net/http.(*conn).serve") && !strings.Contains(group, "net/http.(*http2serverConn)") {
			continue
		}
		if header, first, found := strings.Cut(group, "\n"); found && strings.HasPrefix(header, "goroutine profile: ") {
			group = first
		}
		var count int
		_, err := fmt.Sscanf(group, "%d @", &count)
		require.NoError(b, err, "%s", group)
		n += count
	}
	return n
}

// heapInUse is without what is in pools, which the second collection frees.
func heapInUse() float64 {
	var stats runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}
