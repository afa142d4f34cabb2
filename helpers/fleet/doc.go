// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fleet runs a function for each of many data planes, for as long as they exist:
//
//	f := fleet.New(func(ctx context.Context, cluster *remote.Cluster) error {
//		client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
//		if err != nil {
//			return err // the Fleet tries again later
//		}
//		return watchWorkloads(ctx, cluster.Key(), client) // returns when ctx ends
//	}, fleet.Options{}, dataPlanes, clusterDataPlanes)
//	err := f.Run(ctx)
//
// While the API server that has the DataPlanes is down, runs go on. Options.Sharding divides
// the data planes among the replicas of a program; see [Sharding] for what happens when one
// of them, or the API server, fails. [Fleet.Status] says what the Fleet does for each data
// plane, and [Hooks] feed metrics and logs. The package logs nothing itself; client-go logs
// elections.
//
// The words of this package:
//
//   - A data plane is an object of an informer, a DataPlane or a ClusterDataPlane.
//   - A run is one call of the function for a data plane, from when it is due. It is starting
//     until its [remote.Cluster] is made, and then running.
//   - A run that returns an error is retried, after a pause; one that returns nil is done.
//   - A run is canceled when its context ends, and abandoned when it doesn't return then: its
//     Cluster is closed, and nobody waits for it. Until it has returned, it is overdue.
//   - A shard is a part of the data planes. A replica, which is one process of a program, leads a
//     shard while it holds its Lease.
//
// What 100,000 data planes take: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/scale.md
package fleet
