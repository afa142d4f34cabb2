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
//	}, fleet.Options{Remote: remote.Options{ConfigFor: helpers.ConfigFor(gateway)}},
//		dataPlanes, clusterDataPlanes)
//	err := f.Run(ctx)
//
// Runs continue while the API server of the DataPlanes is down, unless Options.Sharding divides
// the data planes among the replicas of a program; [Sharding] describes what happens when a
// replica or the API server fails. [Fleet.Status] shows what the Fleet does for each data plane,
// and [Hooks] feed metrics and logs. The package logs nothing itself; client-go logs elections
// and the errors of informers.
//
// The words of this package:
//
//   - A data plane is an object of an informer, a DataPlane or a ClusterDataPlane.
//   - A run is one call of the function for a data plane. When it is due, it is starting; once
//     its [remote.Cluster] is made, it is running.
//   - After a run that returns an error, the data plane is retried after a pause. After one that
//     returns nil, it is done.
//   - A run is canceled when its context ends. If it doesn't return in time, it is abandoned: the
//     Fleet closes its Cluster and no longer waits. Until it returns, it is overdue.
//   - A shard is a part of the data planes. A replica, one process of the program, leads a shard
//     while it holds the shard's Lease.
//
// Figures for 100,000 data planes: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/scale.md
package fleet
