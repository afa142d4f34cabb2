// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package shards divides numbered shards among the replicas of a program. A replica leads a shard
// while it holds the shard's Lease. The package knows no DataPlanes: a [Term] runs the shard.
//
//   - A replica is a process with a unique identity. It joins by its member Lease, which shows it
//     to the others, and leaves when it gives that Lease up.
//   - A replica stands for a shard of its share, and leads it once it has won the Lease. It yields
//     a shard (ends the runs, then releases the Lease) or loses it (ends the runs at once, because
//     another replica may lead it).
//   - A foreign Lease is one whose holder is no replica of this program. It is never changed.
package shards

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Of returns the shard of a key: its hash modulo the number of shards. Of never changes, because
// replicas of different releases must agree.
func Of(key string, shards int) int {
	return int(hash(key) % uint64(shards)) //nolint:gosec // shards is positive
}

// hash returns the first 8 bytes of the SHA-256 of a text.
func hash(text string) uint64 {
	sum := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint64(sum[:])
}

// Assign divides the shards among replicas. holders has the holder of each shard, or "". Each
// replica keeps shards that it holds, in ascending order, up to its share. Each other shard goes to
// the replica with the highest hash for it, of those with less than their share. In this way, few
// shards move, and all replicas that see the same Leases agree.
func Assign(holders, replicas []string) map[string][]int {
	assigned, held := map[string][]int{}, map[string]int{}
	for _, replica := range replicas {
		assigned[replica] = nil
	}
	if len(assigned) == 0 {
		return assigned
	}
	for _, holder := range holders {
		held[holder]++
	}
	// If the shards don't divide evenly, the replicas that hold the most get one more.
	least, more := len(holders)/len(assigned), len(holders)%len(assigned)
	replicas = slices.SortedFunc(maps.Keys(assigned), func(a, b string) int {
		return cmp.Or(cmp.Compare(min(held[b], least+1), min(held[a], least+1)), cmp.Compare(a, b))
	})
	room := map[string]int{}
	for i, replica := range replicas {
		room[replica] = least
		if i < more {
			room[replica]++
		}
	}
	give := func(shard int, replica string) {
		room[replica]--
		assigned[replica] = append(assigned[replica], shard)
	}
	var left []int
	for shard, holder := range holders {
		if room[holder] > 0 {
			give(shard, holder)
		} else {
			left = append(left, shard)
		}
	}
	for _, shard := range left { // as many as there is room for
		replicas = slices.DeleteFunc(replicas, func(replica string) bool { return room[replica] == 0 })
		give(shard, slices.MaxFunc(replicas, func(a, b string) int {
			return cmp.Compare(hash(fmt.Sprintf("%s/%d", a, shard)), hash(fmt.Sprintf("%s/%d", b, shard)))
		}))
	}
	for _, shards := range assigned {
		slices.Sort(shards)
	}
	return assigned
}
