// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

// BenchmarkCacheGet gets the clients of a thousand unchanged data planes, beside what one
// writes by hand: a lister, and a map with a mutex that has the client for a resource
// version.
func BenchmarkCacheGet(b *testing.B) {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	lister := listerOf(indexer)
	template := dataplanetest.DataPlane("default", "production-dataplane")
	keys := make([]types.NamespacedName, 1000)
	for i := range keys {
		keys[i] = keyOf(i)
		dp := template.DeepCopy()
		dp.Name, dp.ResourceVersion = keys[i].Name, "1"
		require.NoError(b, indexer.Add(dp))
	}
	clients := remote.NewCache(remote.FromLister(lister), func(c *remote.Cluster) (*client, error) { return &client{c}, nil }, remote.Options{})
	b.Cleanup(clients.Close)

	type entry struct {
		client          *client
		resourceVersion string
	}
	var mu sync.Mutex
	byHand := map[types.NamespacedName]*entry{}
	for _, key := range keys {
		c, err := clients.Get(key)
		require.NoError(b, err)
		byHand[key] = &entry{c, "1"}
	}
	for _, bench := range []struct {
		name string
		get  func(types.NamespacedName) bool
	}{
		{"floor", func(key types.NamespacedName) bool {
			dp, err := lister.DataPlanes(key.Namespace).Get(key.Name)
			if err != nil {
				return false
			}
			mu.Lock()
			defer mu.Unlock()
			e := byHand[key]
			return e != nil && e.resourceVersion == dp.ResourceVersion && e.client != nil
		}},
		{"sdk", func(key types.NamespacedName) bool {
			c, err := clients.Get(key)
			return err == nil && c != nil
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !bench.get(keys[i%len(keys)]) {
					b.Fatal()
				}
			}
		})
		b.Run(bench.name+"-8-callers", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism((8 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if !bench.get(keys[i%len(keys)]) {
						b.Fail()
					}
				}
			})
		})
	}
}

// listerOf hides the type from the compiler, as a factory of informers does: calls of a known
// type make no allocation.
//
//go:noinline
func listerOf(indexer cache.Indexer) listers.DataPlaneLister {
	return listers.NewDataPlaneLister(indexer)
}

// BenchmarkThousandClusters makes a thousand and closes them, and reports what one takes.
func BenchmarkThousandClusters(b *testing.B) {
	const count = 1000
	heap := func() float64 {
		var stats runtime.MemStats
		for range 3 { // without what is in pools, which the second collection frees
			runtime.GC()
		}
		runtime.ReadMemStats(&stats)
		return float64(stats.HeapAlloc)
	}
	dp := dataplanetest.DataPlane("default", "production-dataplane")
	clusters := make([]*remote.Cluster, count)
	var bytes float64
	var goroutines int
	for b.Loop() {
		b.StopTimer()
		before, running := heap(), runtime.NumGoroutine()
		b.StartTimer()
		for i := range clusters {
			var err error
			clusters[i], err = remote.NewCluster(dp, remote.Options{})
			require.NoError(b, err)
		}
		b.StopTimer()
		bytes = (heap() - before) / count
		goroutines = max(goroutines, runtime.NumGoroutine()-running)
		for _, c := range clusters {
			c.Close()
		}
		clear(clusters)
		b.StartTimer()
	}
	b.ReportMetric(bytes, "heap-bytes/cluster")
	b.ReportMetric(float64(goroutines), "goroutines")
}
