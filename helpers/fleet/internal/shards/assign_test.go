// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package shards_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/shards"
)

// Whatever the Leases contain, each shard goes to one replica, the shares are even, and a replica
// keeps the shards that it leads, up to its share.
func TestAssignOfAnyHolders(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		var replicas []string
		for range random.IntN(6) {
			replicas = append(replicas, []string{"", "a", "b", "c", "d"}[random.IntN(5)]) // perhaps the same one several times
		}
		holders := make([]string, random.IntN(20))
		for shard := range holders {
			holders[shard] = []string{"", "", "a", "b", "c", "d", "unknown"}[random.IntN(7)]
		}
		about := fmt.Sprintf("%q of %q", holders, replicas)
		assigned := shards.Assign(slices.Clone(holders), slices.Clone(replicas))

		slices.Sort(replicas)
		replicas = slices.Compact(replicas)
		if len(replicas) == 0 {
			require.Empty(t, assigned, about)
			continue
		}
		var all []int
		least, most := len(holders)/len(replicas), (len(holders)+len(replicas)-1)/len(replicas)
		for replica, share := range assigned {
			require.Contains(t, replicas, replica, about)
			require.True(t, slices.IsSorted(share), about)
			all = append(all, share...)
		}
		for _, replica := range replicas {
			share, led := assigned[replica], []int(nil)
			require.GreaterOrEqual(t, len(share), least, about)
			require.LessOrEqual(t, len(share), most, about)
			for shard, holder := range holders {
				if holder == replica {
					led = append(led, shard)
				}
			}
			kept := led[:min(len(led), len(share))]
			require.Subset(t, share, kept, "%s: %s", about, replica)
		}
		slices.Sort(all)
		for shard := range holders {
			require.Equal(t, shard, all[shard], about)
		}
		require.Len(t, all, len(holders), about)
	}
}

// A key belongs to the same shard in every release: replicas of two releases run side by side
// during a rolling update.
func TestTheShardOfAKeyNeverChanges(t *testing.T) {
	for key, want := range map[string][3]int{ // of 3, 16 and 1000 shards
		"default/prod":     {1, 4, 164},
		"default/staging":  {0, 8, 424},
		"team-a/eu-west-1": {0, 13, 349},
		"org/dp-0":         {2, 1, 241},
		"prod":             {1, 14, 134}, // a ClusterDataPlane
		"eu-west-1":        {2, 2, 978},
	} {
		assert.Equal(t, want, [3]int{shards.Of(key, 3), shards.Of(key, 16), shards.Of(key, 1000)}, key)
		assert.Zero(t, shards.Of(key, 1), key)
	}
}
