// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http/httptest"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Each benchmark comes with what it is to be compared with, so that a figure is the
// ratio of two in one run:
//
//	go test ./helpers -run '^$' -bench . -benchmem -count 6

// BenchmarkClientCacheGet of an unchanged data plane, one of a thousand, with realistic
// credentials, against a lookup of the same key in a map with a lock. Objects from an informer
// have the strings of the cache's own; decoded marks objects that were decoded anew, whose
// strings have to be read.
func BenchmarkClientCacheGet(b *testing.B) {
	c := newRemoteCache(b)
	var mu sync.RWMutex
	bare := map[types.NamespacedName]*Remote{}
	template := newDataPlane(b)
	creds := &template.Spec.KubernetesCluster.Credentials
	for _, value := range []*string{&creds.CACert, &creds.ClientCert, &creds.ClientKey} {
		// As long as with RSA keys.
		*value = encode(append(decode(*value), []byte(longText(2000-len(decode(*value))))...))
	}
	planes := make([]*v1alpha1.DataPlane, 1000)
	decoded := make([]*v1alpha1.DataPlane, len(planes))
	for i := range planes {
		planes[i] = template.DeepCopy()
		planes[i].Name = fmt.Sprint("dp-", i)
		decoded[i] = planes[i].DeepCopy()
		creds := &decoded[i].Spec.KubernetesCluster.Credentials
		for _, value := range []*string{&creds.APIServerURL, &creds.CACert, &creds.ClientCert, &creds.ClientKey} {
			*value = string([]byte(*value))
		}
		bare[keyOf(planes[i])] = mustGet(b, c, planes[i])
	}
	get := func(planes []*v1alpha1.DataPlane) func(int) bool {
		return func(i int) bool {
			r, err := c.Get(planes[i%len(planes)])
			return err == nil && r != nil
		}
	}
	lookUp := func(i int) bool {
		mu.RLock()
		defer mu.RUnlock()
		return bare[keyOf(planes[i%len(planes)])] != nil
	}
	for _, bench := range []struct {
		name string
		do   func(int) bool
	}{{"floor", lookUp}, {"sdk", get(planes)}, {"sdk-decoded", get(decoded)}} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if !bench.do(i) {
					b.Fatal()
				}
				i++
			}
		})
		b.Run(bench.name+"-8-callers", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism((8 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if !bench.do(i) {
						b.Fail()
					}
				}
			})
		})
	}
}

// BenchmarkThousandRemotes makes a thousand and closes them, and reports what one takes.
func BenchmarkThousandRemotes(b *testing.B) {
	const count = 1000
	dp := newDataPlane(b)
	remotes := make([]*Remote, count)
	var bytes float64
	var goroutines int
	for b.Loop() {
		b.StopTimer()
		before, running := heapInUse(), runtime.NumGoroutine()
		b.StartTimer()
		for i := range remotes {
			var err error
			remotes[i], err = NewRemote(dp)
			require.NoError(b, err)
		}
		b.StopTimer()
		bytes = (heapInUse() - before) / count
		goroutines = max(goroutines, runtime.NumGoroutine()-running)
		for _, r := range remotes {
			r.Close()
		}
		clear(remotes)
		goroutines = max(goroutines, runtime.NumGoroutine()-running)
		b.StartTimer()
	}
	b.ReportMetric(bytes, "heap-bytes/remote")
	b.ReportMetric(float64(goroutines), "goroutines")
}

// BenchmarkFleet of a thousand data planes on ten servers, from Run until every run has had
// an answer, and from the end of its context until Run has returned, against a goroutine
// for each data plane that makes the same request and holds its connection. The heap is
// that of both ends, as the servers are in this process; of the goroutines, what is theirs
// is told apart.
func BenchmarkFleet(b *testing.B) {
	const planes = 1000
	s := newSource(b)
	servers := make([]*apiServer, 10)
	for i := range servers {
		servers[i] = newAPIServer(b, whoAmI, withECDSA(b))
	}
	all := make([]*v1alpha1.DataPlane, planes)
	for i := range all {
		all[i] = servers[i%len(servers)].dataPlane(fmt.Sprint("dp-", i), "user")
		s.Add(all[i])
	}
	require.Eventually(b, func() bool { return len(s.informer.GetStore().ListKeys()) == planes }, time.Minute, time.Millisecond)

	type work func(ctx context.Context, r *Remote) error
	withFleet := func(opts ...FleetOption) func(ctx context.Context, work work) error {
		return func(ctx context.Context, work work) error { return NewFleet(s.informer, work, opts...).Run(ctx) }
	}
	withoutFleet := func(ctx context.Context, work work) error {
		var running sync.WaitGroup
		defer running.Wait()
		for _, dp := range all {
			running.Add(1)
			go func() {
				defer running.Done()
				r, err := NewRemote(dp)
				if err != nil {
					return
				}
				defer r.cut()
				_ = work(ctx, r)
			}()
		}
		return nil
	}
	for _, bench := range []struct {
		name string
		run  func(ctx context.Context, work work) error
	}{
		{"floor", withoutFleet},
		{"sdk", withFleet()},
		{"sdk-50-start-at-once", withFleet(WithStartLimit(50, time.Second))},
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
					result <- bench.run(ctx, func(ctx context.Context, r *Remote) error {
						if _, _, err := r.get(ctx, "/"); err != nil {
							return err
						}
						MarkStarted(ctx)
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
				requireGoroutines(b, goroutinesBefore)
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

// withECDSA gives a server a certificate with which handshakes take less than with RSA.
func withECDSA(t testing.TB) func(*httptest.Server) {
	t.Helper()
	a, key := newAuthority(t), newECDSAKey(t)
	cert := a.issue(key, func(template *x509.Certificate) {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	return func(s *httptest.Server) {
		s.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}
	}
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
