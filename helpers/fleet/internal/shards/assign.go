// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package shards divides numbered shards among the replicas of a program, each of which a replica
// leads while it holds a Lease. It knows no DataPlanes: a [Term] stands for what is led.
//
//   - A replica is a process, by its identity. Its member Lease shows it to the others: with that
//     it has joined, without it has left.
//   - A replica is a candidate for a shard that falls to it, leads the shard when it has won the
//     Lease, yields it (ends the runs, then releases the Lease), or loses it (ends the runs at once,
//     because another may lead).
//   - A foreign Lease is one whose holder is no replica of this program; it is left alone.
package shards

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Of returns the shard of a key, of so many: its hash, modulo their number. Replicas of
// different releases must agree: this never changes.
func Of(key string, shards int) int {
	return int(hash(key) % uint64(shards)) //nolint:gosec // shards is positive
}

// hash returns the first 8 bytes of the SHA-256 of a text.
func hash(text string) uint64 {
	sum := sha256.Sum256([]byte(text))
	return binary.BigEndian.Uint64(sum[:])
}

// Assign divides shards, of which each has a holder or not, among replicas. Each replica keeps
// what it holds, in ascending order, up to its share. What is left goes to those with less than
// their share, to the one with the highest hash for the shard. So few shards move, and all
// replicas that see the same agree.
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
	// If the shards do not divide evenly, the replicas that hold most get one more than the others.
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
