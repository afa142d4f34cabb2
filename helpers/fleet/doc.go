// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet runs a function for each of many data planes, for as long as they exist:
//
//	f := fleet.New(informer, func(ctx context.Context, cluster *remote.Cluster) error {
//		client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
//		if err != nil {
//			return err // the Fleet tries again later
//		}
//		return watchWorkloads(ctx, cluster.Key(), client) // returns when ctx ends
//	}, fleet.Options{})
//	err := f.Run(ctx)
//
// While the API server that has the DataPlanes is down, runs go on. Options.Sharding divides
// the data planes among the replicas of a program; see [Sharding] for what happens when one
// of them, or the API server, fails. [Fleet.Status] says what the Fleet does for each data
// plane, and [Hooks] feed metrics and logs. The package logs nothing itself; client-go logs
// elections.
//
// What 100,000 data planes take: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/scale.md
package fleet
