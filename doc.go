// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dataplanesdk documents the DataPlane SDK: clients for DataPlane and ClusterDataPlane,
// the resources in which OpenChoreo (openchoreo.dev/v1alpha1) describes the clusters that run
// workloads, and helpers that connect to these clusters. The package itself is empty.
//
// A program that does something in every data plane, for as long as it exists, is this:
//
//	client, err := openchoreoclient.NewForConfig(config) // clientset/versioned
//	factory := openchoreoinformers.NewSharedInformerFactory(client, 0) // informers/externalversions
//	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
//	f := fleet.New(func(ctx context.Context, cluster *remote.Cluster) error {
//		return watchWorkloads(ctx, cluster) // until ctx ends, through rotations of credentials
//	}, fleet.Options{Remote: remote.Options{ConfigFor: helpers.ConfigFor(gateway)}}, dataPlanes)
//	factory.Start(ctx.Done())
//	err = f.Run(ctx)
//
// ConfigFor connects with the credentials in a DataPlane, as OpenChoreo v0.3 stores them, or through
// OpenChoreo's cluster gateway, as v1 wants it. The example below keeps a client for each data plane
// in a remote.Cache instead. The README lists what else there is, and helpers is the package to
// read first.
//
// Know first:
//
//   - OpenChoreo itself never writes the condition Ready: pass helpers.Stock() to helpers.IsReady,
//     unless a controller of yours writes it.
//   - Objects of a lister belong to the cache: copy one with DeepCopy before you change it.
//   - The Go types have the fields of v0.3 and v1. Update erases all others; Apply and patches,
//     such as helpers.PatchConditions, keep them.
//   - A DataPlane of v0.3 contains a client key in plain text. Who may read DataPlanes can act in
//     their clusters. Formatting or logging a DataPlane hides secrets; JSON and YAML show them.
package dataplanesdk
