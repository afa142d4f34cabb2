// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package testleases

import (
	"maps"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Bubble calls test in a synctest bubble, where time passes as soon as all goroutines wait.
func Bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	// In Go 1.25 and 1.26, the race detector crashes when two threads of a bubble read channels
	// of expired timers at once, because they share its race context.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, func(t *testing.T) {
		test(t)
		time.Sleep(time.Minute) // pending requests end
	})
}

// RequireShared requires that replicas, by name, lead even shares, each shard once, and that they
// run all keys.
func RequireShared[K comparable](t testing.TB, shards, keys int, leads map[string][]int, runs *History[K]) {
	t.Helper()
	var led []int
	for name, of := range leads {
		led = append(led, of...)
		require.GreaterOrEqual(t, len(of), shards/len(leads), name)
		require.LessOrEqual(t, len(of), (shards+len(leads)-1)/len(leads), name)
	}
	want := make([]int, shards)
	for shard := range want {
		want[shard] = shard
	}
	require.ElementsMatch(t, want, led)
	current := runs.Current(t)
	require.Len(t, current, keys)
	require.Subset(t, slices.Collect(maps.Keys(leads)), slices.Collect(maps.Values(current)))
}

// RequireReleased requires that only the Leases of shards are left, and that nobody holds one.
func (s *Server) RequireReleased(t testing.TB, shards int) {
	t.Helper()
	holders := s.Holders()
	require.Len(t, holders, shards, "member Leases are left")
	for lease, holder := range holders {
		require.Empty(t, holder, lease)
	}
}
