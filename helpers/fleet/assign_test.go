// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// Whatever the Leases say, each shard falls to one replica, the shares are even, and who leads
// a shard keeps it, up to its share.
func TestAssignOfAnyHolders(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var replicas []string
		for range random.IntN(6) {
			replicas = append(replicas, []string{"", "a", "b", "c", "d"}[random.IntN(5)]) // the same one several times, too
		}
		holders := make([]string, random.IntN(20))
		for shard := range holders {
			holders[shard] = []string{"", "", "a", "b", "c", "d", "unknown"}[random.IntN(7)]
		}
		about := fmt.Sprintf("%q of %q", holders, replicas)
		assigned := fleet.Assign(slices.Clone(holders), slices.Clone(replicas))

		slices.Sort(replicas)
		replicas = slices.Compact(replicas)
		if len(replicas) == 0 {
			require.Empty(t, assigned, about)
			continue
		}
		var all []int
		least, most := len(holders)/len(replicas), (len(holders)+len(replicas)-1)/len(replicas)
		for replica, shards := range assigned {
			require.Contains(t, replicas, replica, about)
			require.True(t, slices.IsSorted(shards), about)
			all = append(all, shards...)
		}
		for _, replica := range replicas {
			shards, led := assigned[replica], []int(nil)
			require.GreaterOrEqual(t, len(shards), least, about)
			require.LessOrEqual(t, len(shards), most, about)
			for shard, holder := range holders {
				if holder == replica {
					led = append(led, shard)
				}
			}
			kept := led[:min(len(led), len(shards))]
			require.Subset(t, shards, kept, "%s: %s", about, replica)
		}
		slices.Sort(all)
		for shard := range holders {
			require.Equal(t, shard, all[shard], about)
		}
		require.Len(t, all, len(holders), about)
	}
}
