// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// What the API server has to do with shards is tested on one, in hack/integration.

func TestShardsConfigIsChecked(t *testing.T) {
	leases := fake.NewClientset().CoordinationV1()
	good := ShardsConfig{Leases: leases, Namespace: "default", Name: "test", Identity: "pod-1", Count: 3}
	for want, edit := range map[string]func(*ShardsConfig){
		"shards: Leases: required":                                           func(c *ShardsConfig) { c.Leases = nil },
		"shards: Count: must be at least 1, is 0":                            func(c *ShardsConfig) { c.Count = 0 },
		"shards: LeaseDuration: must be whole seconds, 2s at least, is 1s":   func(c *ShardsConfig) { c.LeaseDuration = time.Second },
		"shards: LeaseDuration: must be whole seconds, 2s at least, is 2.5s": func(c *ShardsConfig) { c.LeaseDuration = 2500 * time.Millisecond },
		`shards: Namespace: "": a lowercase RFC 1123 label must consist of`:  func(c *ShardsConfig) { c.Namespace = "" },
		`shards: Name: "Test": a lowercase RFC 1123 label must consist of`:   func(c *ShardsConfig) { c.Name = "Test" },
		`shards: Identity: "": must make "test-member-" a name of a Lease`:   func(c *ShardsConfig) { c.Identity = "" },
		`shards: Identity: "Pod": must make "test-member-Pod" a name`:        func(c *ShardsConfig) { c.Identity = "Pod" },
	} {
		config := good
		edit(&config)
		err := RunShards(t.Context(), config, func(context.Context, Shard) error { return nil })
		require.ErrorContains(t, err, want)
	}
	completed, err := good.complete()
	require.NoError(t, err)
	assert.Equal(t, 15*time.Second, completed.LeaseDuration)
	assert.Less(t, completed.tenure()+completed.grace(), completed.LeaseDuration)
	good.Identity = "pod-1.example.com"
	_, err = good.complete()
	require.NoError(t, err)
}

func TestShardsOwnEachDataPlaneOnce(t *testing.T) {
	const count, planes = 7, 7000
	perShard := make([]int, count)
	for i := range planes {
		key := types.NamespacedName{Namespace: fmt.Sprint("ns-", i%13), Name: fmt.Sprint("dp-", i)}
		owners := 0
		for index := range count {
			if (Shard{Index: index, Count: count}).Owns(key) {
				owners++
				perShard[index]++
			}
		}
		require.Equal(t, 1, owners, "%s", key)
	}
	for index, n := range perShard {
		assert.InDelta(t, planes/count, n, planes/count/5, "shard %d", index)
	}
	// Replicas of different releases must agree: this never changes.
	assert.True(t, Shard{Index: 10, Count: 16}.Owns(types.NamespacedName{Namespace: "default", Name: "prod"}))
	assert.Equal(t, "shard 2 of 16", Shard{Index: 2, Count: 16}.String())
}

func TestShardRestrictsAFleet(t *testing.T) {
	shard := Shard{Index: 1, Count: 2, grace: 3 * time.Second}
	o := shard.Restrict(Options{})
	assert.Equal(t, 3*time.Second, o.StopGrace, "no run goes on when another replica may lead")
	assert.Equal(t, time.Second, shard.Restrict(Options{StopGrace: time.Second}).StopGrace)
	assert.Negative(t, shard.Restrict(Options{StopGrace: -1}).StopGrace)
	assert.Equal(t, 10*time.Second, Shard{grace: time.Minute}.Restrict(Options{}).StopGrace)
	none := shard.Restrict(Options{Filter: func(*v1alpha1.DataPlane, bool) bool { return false }})
	selected := 0
	for i := range 100 {
		dp := &v1alpha1.DataPlane{}
		dp.Name = fmt.Sprint("dp-", i)
		assert.False(t, none.Filter(dp, true))
		if o.Filter(dp, false) {
			selected++
			assert.True(t, shard.Owns(types.NamespacedName{Name: dp.Name}))
		}
	}
	assert.InDelta(t, 50, selected, 20)
}
