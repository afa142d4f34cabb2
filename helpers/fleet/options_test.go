// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestRunRefusesInvalidOptions(t *testing.T) {
	for want, options := range map[string]fleet.Options{
		"fleet: Backoff.Initial: must not be negative, is -1ns":            {Backoff: fleet.Backoff{Initial: -1}},
		"fleet: Backoff.Limit: must not be less than Initial, 1s, is -1ns": {Backoff: fleet.Backoff{Limit: -1}},
		"fleet: Backoff.ResetAfter: must not be negative, is -1ns":         {Backoff: fleet.Backoff{ResetAfter: -1}},
		"fleet: StartLimit: must not be negative, is -1":                   {StartLimit: -1},
	} {
		f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, options, newSource(t).informer)
		require.EqualError(t, f.Run(t.Context()), want)
	}
}

func TestRunRefusesInvalidSharding(t *testing.T) {
	client := func(qps float32) *kubernetes.Clientset {
		c, err := kubernetes.NewForConfig(&rest.Config{Host: "https://127.0.0.1:1", QPS: qps, Burst: 10})
		require.NoError(t, err)
		return c
	}
	for _, test := range []struct {
		want string
		edit func(*fleet.Sharding)
	}{
		{"Sharding.Leases: is required", func(s *fleet.Sharding) { s.Leases = nil }},
		{"Sharding.Namespace: [a lowercase RFC 1123 label", func(s *fleet.Sharding) { s.Namespace = "A" }},
		{"Sharding.Name: [a lowercase RFC 1123 label", func(s *fleet.Sharding) { s.Name = "" }},
		{"Sharding.Identity: is required", func(s *fleet.Sharding) { s.Identity = "" }},
		{"Sharding.Shards: must be at least 1, is -3", func(s *fleet.Sharding) { s.Shards = -3 }},
		{"Sharding.LeaseDuration: must be whole seconds, is 1.5s", func(s *fleet.Sharding) { s.LeaseDuration = 1500 * time.Millisecond }},
		{"Sharding.LeaseDuration: must be whole seconds, is -1s", func(s *fleet.Sharding) { s.LeaseDuration = -time.Second }},
		// Every 2 s: a renewal for each of 8 shards, a list, and a renewal of the member Lease. These
		// are 5 requests a second; twice as many leaves room for retries.
		{
			"Sharding.Leases: renewals of 8 shards could be late with a QPS of 5; set QPS in the rest.Config to 10 or more, or to -1",
			func(s *fleet.Sharding) { s.Leases = client(0).CoordinationV1() },
		},
	} {
		s := &fleet.Sharding{Leases: client(10).CoordinationV1(), Namespace: "system", Name: "test", Identity: "a", Shards: 8}
		test.edit(s)
		f := fleet.New(func(context.Context, *remote.Cluster) error { return nil }, fleet.Options{Sharding: s}, newSource(t).informer)
		require.ErrorContains(t, f.Run(t.Context()), test.want)
	}
}

// client-go's limiter that never waits returns a QPS of 1.
func TestShardingTakesAClientThatNeverWaits(t *testing.T) {
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: "https://127.0.0.1:1", RateLimiter: flowcontrol.NewFakeAlwaysRateLimiter(),
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, fleet.New(untilEnd, fleet.Options{Sharding: &fleet.Sharding{
		Leases: client.CoordinationV1(), Namespace: "system", Name: "test", Identity: "a", Shards: 8,
	}}, newSource(t).informer).Run(ctx))
}
