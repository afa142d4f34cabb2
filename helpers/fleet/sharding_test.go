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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/testleases"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestADataPlaneBelongsToTheSameShardInEveryRelease(t *testing.T) {
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
		current := p.runs.Current(t)
		for key, shard := range shards {
			for _, r := range replicas {
				assert.Equal(t, r.name == current[key], slices.Contains(r.sharding().Leads, shard), key)
			}
		}
		p.end(replicas...)
	})
}

// When a shard is handed over, a run may take StopGrace to return, and no data plane has two runs.
func TestAShardIsHandedOverWhenItsRunsHaveReturned(t *testing.T) {
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
		require.Len(t, b.sharding().Waiting, 2)
		for _, wait := range b.sharding().Waiting {
			assert.Equal(t, fleet.ShardWait{Shard: wait.Shard, Lease: fmt.Sprint("test-4-", wait.Shard), Holder: a.sharding().Identity}, wait)
		}
		time.Sleep(drain)
		p.requireShared(12, a, b)
		p.runs.RequireNoOverlap(t)
		for i := range 12 {
			if runs := p.runs.Of(types.NamespacedName{Namespace: "default", Name: fmt.Sprint("dp-", i)}); len(runs) > 1 {
				require.ErrorIs(t, runs[0].Err, fleet.ErrShardLost)
				require.NotErrorIs(t, runs[0].Err, fleet.ErrOverdue)
			}
		}
		p.end(b, a)
	})
}

// A run that doesn't return is abandoned before another replica leads, whatever StopGrace is.
func TestRunsAreAbandonedBeforeAnotherReplicaLeads(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a := p.startWith("a", func(_ context.Context, cluster *remote.Cluster) error {
			<-cluster.Done()
			return nil
		}, func(o *fleet.Options) { o.StopGrace = time.Hour })
		time.Sleep(moment)
		b := p.start("b")
		time.Sleep(moment)
		assert.Len(t, b.sharding().Waiting, 2)
		a.client.SetFault(testleases.CutOff)
		time.Sleep(leaseDuration + moment)
		assert.Contains(t, a.sharding().LastError, "cut off")
		assert.Len(t, b.sharding().Leads, 4)
		assert.Len(t, p.runs.Current(t), 12)
		p.runs.RequireNoOverlap(t)
		p.stop(a)
		p.end(b)
	})
}

// StartLimit counts over all shards of a process.
func TestStartLimitCountsOverAllShards(t *testing.T) {
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

// Hooks show which shards a replica leads, and when to remove the metrics of a data plane.
func TestHooksFollowTheShardsThatAReplicaLeads(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		var mu sync.Mutex
		leads, running := map[int]bool{}, map[types.NamespacedName]bool{}
		var lost []error
		var a *replica
		a = p.start("a", func(o *fleet.Options) {
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
				assert.NotContains(t, a.sharding().Leads, shard)
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
		for i := range 8 { // some are in the shards that a has lost
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

// A replica that doesn't know the data planes would keep them from replicas that do.
func TestAReplicaTakesNoShardBeforeItsInformersHaveSynced(t *testing.T) {
	bubble(t, 4, 12, func(t *testing.T, p *program) {
		a := p.start("a")
		synced := p.source.informer
		p.source.informer = neverSynced{synced}
		b := p.start("b")
		p.source.informer = synced
		time.Sleep(2 * leaseDuration)
		p.requireShared(12, a)
		assert.False(t, b.fleet.Status().Informers[0].Synced)
		assert.Empty(t, b.sharding().Waiting)
		assert.Equal(t, "waiting until the informers have listed the data planes", b.sharding().LastError)
		p.end(b, a)
	})
}

type neverSynced struct{ cache.SharedIndexInformer }

func (neverSynced) HasSynced() bool { return false }

func TestAMissingRightToLeasesEndsRun(t *testing.T) {
	bubble(t, 1, 1, func(t *testing.T, p *program) {
		a := p.start("a")
		time.Sleep(moment)
		p.requireShared(1, a)
		a.client.SetFault(testleases.Failing(apierrors.NewForbidden(testleases.Resource, "", nil), "list"))
		err := <-a.result
		require.ErrorContains(t, err, "fleet: Sharding.Leases: a right is missing: ")
		require.True(t, apierrors.IsForbidden(err))
		assert.Empty(t, p.runs.Current(t))
	})
}
