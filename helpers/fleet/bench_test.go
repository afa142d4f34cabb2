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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

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

	for _, bench := range []struct {
		name string
		run  runAll
	}{
		{"floor", withoutFleet(all, remote.Options{CloseGrace: -1})},
		{"sdk", withFleet(s, fleet.Options{})},
		{"sdk-50-start-at-once", withFleet(s, fleet.Options{StartLimit: 50, StartTimeout: time.Second})},
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

// BenchmarkFleetHeap of five thousand data planes that connect to nothing, as connections
// take more than a Fleet, and not always the same. It must run alone (-bench FleetHeap): what
// other benchmarks leave on the heap falsifies it.
func BenchmarkFleetHeap(b *testing.B) {
	const planes = 5000
	s := newSource(b)
	all := make([]*v1alpha1.DataPlane, planes)
	for i := range all {
		all[i] = &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("dp-", i)}}
		s.Add(all[i])
	}
	require.Eventually(b, func() bool { return len(s.informer.GetStore().ListKeys()) == planes }, time.Minute, time.Millisecond)
	opts := remote.Options{CloseGrace: -1, ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
		return &rest.Config{Host: "https://127.0.0.1:1", BearerToken: "token"}, nil
	}}
	for _, bench := range []struct {
		name string
		run  runAll
	}{
		{"floor", withoutFleet(all, opts)},
		{"sdk", withFleet(s, fleet.Options{Remote: opts})},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var rounds, heap float64
			for b.Loop() {
				before, goroutinesBefore := heapInUse(), runtime.NumGoroutine()
				ctx, stop := context.WithCancel(b.Context())
				var called sync.WaitGroup
				called.Add(planes)
				result := make(chan error, 1)
				go func() {
					result <- bench.run(ctx, func(ctx context.Context, _ *remote.Cluster) error {
						called.Done()
						<-ctx.Done()
						return ctx.Err()
					})
				}()
				called.Wait()
				time.Sleep(time.Second) // what belongs to the start is gone then
				heap += heapInUse() - before
				rounds++
				stop()
				require.NoError(b, <-result)
				testserver.RequireGoroutines(b, goroutinesBefore)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(heap/rounds/planes, "heap-B/plane")
		})
	}
}

type work func(ctx context.Context, c *remote.Cluster) error

// runAll calls a function for all data planes until ctx ends.
type runAll func(ctx context.Context, work work) error

func withFleet(s *source, opts fleet.Options) runAll {
	return func(ctx context.Context, work work) error { return fleet.New(s.informer, work, opts).Run(ctx) }
}

func withoutFleet(all []*v1alpha1.DataPlane, opts remote.Options) runAll {
	return func(ctx context.Context, work work) error {
		var running sync.WaitGroup
		defer running.Wait()
		for _, dp := range all {
			running.Add(1)
			go func() {
				defer running.Done()
				c, err := remote.NewCluster(dp, opts)
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
