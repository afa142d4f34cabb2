// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestShardingIsEven(t *testing.T) {
	bubble(t, 8, 20, func(_ *testing.T, p *program) {
		a, b, c := p.start("a"), p.start("b"), p.start("c")
		time.Sleep(moment)
		p.requireShared(20, a, b, c)

		d := p.start("d")
		time.Sleep(moment)
		p.requireShared(20, a, b, c, d)

		// In order: the others take its shards at once.
		p.stop(b)
		time.Sleep(moment)
		p.requireShared(20, a, c, d)

		// Killed: after the Lease has expired.
		c.kill()
		time.Sleep(leaseDuration + moment)
		p.requireShared(20, a, d)
		p.end(a, d)
	})
}

// A data plane belongs to the same shard in every release.
func TestShardingHash(t *testing.T) {
	bubble(t, 16, 0, func(t *testing.T, p *program) {
		replicas := []*replica{p.start("a"), p.start("b"), p.start("c"), p.start("d")}
		time.Sleep(moment)
		shards := map[types.NamespacedName]int{
			{Namespace: "default", Name: "prod"}: 4, {Namespace: "default", Name: "staging"}: 8,
			{Namespace: "team-a", Name: "eu-west-1"}: 13, {Namespace: "org", Name: "dp-0"}: 1,
		}
		for key := range shards {
			dp := &v1alpha1.DataPlane{}
			dp.Namespace, dp.Name = key.Namespace, key.Name
			p.source.Add(dp)
		}
		synctest.Wait()
		current, leads := p.current(), leaders(replicas)
		for key, shard := range shards {
			require.NotNil(t, current[key])
			assert.Equal(t, leads[shard].name, current[key].name, key)
		}
		p.end(replicas...)
	})
}

// A run may take StopGrace when its shard is handed over, and is not run twice.
func TestShardingHandsOverInOrder(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		const drain = leaseDuration * 3 / 2
		slow := func(o *fleet.Options) { o.StopGrace = 2 * leaseDuration }
		a := p.startWith("a", func(ctx context.Context, _ *remote.Cluster) error {
			<-ctx.Done()
			time.Sleep(drain)
			return ctx.Err()
		}, slow)
		time.Sleep(moment)
		b := p.start("b")
		time.Sleep(moment)
		assert.Len(t, a.sharding().Leads, 4)
		assert.Len(t, b.sharding().Waiting, 2)
		assert.Equal(t, a.sharding().Identity, b.sharding().Waiting[0].Holder)
		time.Sleep(drain)
		p.requireShared(12, a, b)
		p.requireNoOverlap(0)
		for _, runs := range p.runs {
			if len(runs) > 1 {
				require.ErrorIs(t, runs[0].err, fleet.ErrShardLost)
				require.NotErrorIs(t, runs[0].err, fleet.ErrOverdue)
			}
		}
		p.end(b, a)
	})
}

// A run that clings to its data plane is cut off before another replica runs, whatever StopGrace is.
func TestShardingCutsRunsOffWhenALeaseIsLost(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		heedless := func(_ context.Context, cluster *remote.Cluster) error {
			<-cluster.Done()
			return nil
		}
		a := p.startWith("a", heedless, func(o *fleet.Options) { o.StopGrace = time.Hour })
		time.Sleep(moment)
		b := p.start("b")
		time.Sleep(moment)
		assert.Len(t, b.sharding().Waiting, 2)
		a.client.setFault(cutOff)
		time.Sleep(leaseDuration + moment)
		assert.Len(t, b.sharding().Leads, 4)
		assert.Len(t, p.current(), 12)
		p.requireNoOverlap(0)
		p.stop(a)
		p.end(b)
	})
}

// StartLimit counts over all shards of a process.
func TestShardingHasOneStartLimit(t *testing.T) {
	bubble(t, 8, 16, func(t *testing.T, p *program) {
		var starting, most atomic.Int64
		a := p.startWith("a", func(ctx context.Context, _ *remote.Cluster) error {
			most.Store(max(most.Load(), starting.Add(1)))
			time.Sleep(time.Second)
			starting.Add(-1)
			fleet.MarkStarted(ctx)
			<-ctx.Done()
			return ctx.Err()
		}, func(o *fleet.Options) { o.StartLimit = 1 })
		time.Sleep(moment + 16*time.Second)
		p.requireShared(16, a)
		assert.EqualValues(t, 1, most.Load())
		p.end(a)
	})
}

// Hooks tell a replica's operator what it leads, and when the metrics of a data plane can go.
func TestShardingCallsHooks(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		var mu sync.Mutex
		leads, running := map[int]bool{}, map[types.NamespacedName]bool{}
		var lost []error
		a := p.start("a", func(o *fleet.Options) {
			onStart := o.Hooks.OnStart
			o.Hooks.OnStart = func(key types.NamespacedName) {
				onStart(key)
				mu.Lock()
				defer mu.Unlock()
				running[key] = true
			}
			o.Hooks.OnRemove = func(key types.NamespacedName) {
				mu.Lock()
				defer mu.Unlock()
				assert.True(t, running[key], "%s had no run", key)
				delete(running, key)
			}
			o.Hooks.OnShardGained = func(shard int) {
				mu.Lock()
				defer mu.Unlock()
				leads[shard] = true
			}
			o.Hooks.OnShardLost = func(shard int, err error) {
				mu.Lock()
				defer mu.Unlock()
				delete(leads, shard)
				lost = append(lost, err)
			}
		})
		requireHooks := func(planes int) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			assert.Len(t, running, planes)
			assert.ElementsMatch(t, a.sharding().Leads, slices.Collect(maps.Keys(leads)))
			assert.Len(t, a.fleet.Status().Planes, planes)
		}
		time.Sleep(moment)
		requireHooks(12)
		b := p.start("b")
		time.Sleep(moment)
		p.requireShared(12, a, b)
		requireHooks(12 - len(b.fleet.Status().Planes))
		require.Len(t, lost, 2)
		require.ErrorIs(t, lost[0], fleet.ErrShardLost)
		for i := range 8 { // some of them in the shards that a has lost
			dp := &v1alpha1.DataPlane{}
			dp.Name = fmt.Sprint("new-", i)
			p.source.Add(dp)
		}
		time.Sleep(moment)
		p.requireShared(20, a, b)
		p.end(a, b)
		require.ErrorIs(t, lost[3], fleet.ErrStopped)
		assert.NotEmpty(t, running, "they aren't removed because the Fleet ends")
	})
}

// Without the data planes, a replica would keep them from those that have them.
func TestShardingNeedsASyncedInformer(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a := p.start("a")
		synced := p.source.informer
		p.source.informer = neverSynced{synced}
		b := p.start("b")
		p.source.informer = synced
		time.Sleep(2 * leaseDuration)
		p.requireShared(12, a)
		assert.False(t, b.fleet.Status().Informers[0].Synced)
		assert.False(t, b.hasJoined())
		p.end(b, a)
	})
}

// Before Run, and while the informer lists, a replica has not joined either.
func TestStatusSaysThatNothingHasBegun(t *testing.T) {
	bubble(t, 4, 0, func(t *testing.T, p *program) {
		synced := p.source.informer
		p.source.informer = neverSynced{synced}
		a := p.start("a")
		p.source.informer = synced
		time.Sleep(moment)
		assert.Equal(t, "waiting until the informers have listed the data planes", a.sharding().LastError)
		p.stop(a)

		f := fleet.New(untilEnd, fleet.Options{Sharding: &fleet.Sharding{}}, synced)
		assert.Equal(t, "Run has not been called", f.Status().Sharding.LastError)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, f.Run(ctx), "the options are wrong")
		assert.NotEmpty(t, f.Status().Sharding.LastError)
	})
}
