// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/metrics"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// transportCacheEntries holds the size of client-go's process-wide cache of transports.
type transportCacheEntries struct{ atomic.Int64 }

func (m *transportCacheEntries) Observe(value int) { m.Store(int64(value)) }

// Watches are open all the time: each is opened again when a rotation has ended it.
func TestRotatingManyTimesLeavesNothing(t *testing.T) {
	rotations := 10_000
	if testing.Short() {
		rotations = 2_000
	}
	entries, before := &transportCacheEntries{}, metrics.TransportCacheEntries
	metrics.TransportCacheEntries = entries
	t.Cleanup(func() { metrics.TransportCacheEntries = before })
	server := testserver.New(t, streams)
	for range 2 { // the second reports the first
		plain, err := helpers.RESTConfigFor(server.DataPlane("plain", "alice"))
		require.NoError(t, err)
		_, err = rest.HTTPClientFor(plain)
		require.NoError(t, err)
	}
	cached := entries.Load()
	require.Positive(t, cached, "a plain configuration is cached, and counted")

	planes := []*v1alpha1.DataPlane{server.DataPlane("prod", "user-0"), server.DataPlane("prod", "user-1")}
	// The ping timer of HTTP/2 keeps a part of a closed connection in memory until it fires, by
	// default after 30 s.
	c := newCluster(t, planes[0], remote.Options{Grace: 200 * time.Millisecond}.WithTimes(time.Second, 0))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	const watchers = 4
	var running sync.WaitGroup
	var opened atomic.Int64
	for range watchers {
		running.Add(1)
		go func() {
			defer running.Done()
			for ctx.Err() == nil {
				resp, err := open(ctx, c, "/api/v1/configmaps?watch=true")
				if err != nil {
					assert.ErrorIs(t, err, context.Canceled)
					return
				}
				opened.Add(1)
				if _, err = io.Copy(io.Discard, resp.Body); err != nil {
					assert.ErrorIs(t, err, context.Canceled, "a rotation ends a watch by io.EOF")
				}
				_ = resp.Body.Close()
			}
		}()
	}
	rotate := func(times int) {
		for i := range times {
			require.NoError(t, c.Update(planes[(i+1)%2]))
			if i%100 == 0 {
				user, err := get(t.Context(), c, "/")
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("user-%d", (i+1)%2), user)
			}
		}
	}
	heap := func() int64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	// settled waits until limit is met: a rotation ends some things a moment later.
	settled := func(limit func() bool) bool {
		for deadline := time.Now().Add(10 * time.Second); !limit() && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
		return limit()
	}
	onlyWatches := func() bool { return server.Open() <= watchers }
	for opened.Load() < 3*watchers {
		rotate(10)
	}
	require.True(t, settled(onlyWatches))
	goroutines, start := runtime.NumGoroutine(), heap()
	rotate(rotations)
	assert.True(t, settled(onlyWatches), "%d connections are open", server.Open())
	assert.True(t, settled(func() bool { return runtime.NumGoroutine() <= goroutines+10 }), "goroutines are left")
	const slack = 4 << 20 // sessions that were kept would be 10 KB each, 20 MB in a short run
	assert.True(t, settled(func() bool { return heap()-start <= slack }), "the heap has grown by %d B", heap()-start)
	assert.LessOrEqual(t, entries.Load(), cached, "client-go's own cache is not used") // 0.36 and later collect
	t.Logf("%d rotations have ended and opened %d watches", rotations, opened.Load())

	stop()
	running.Wait()
	c.Close()
	server.RequireNoConnections()
}
