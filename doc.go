// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dataplanesdk documents the DataPlane SDK: clients for DataPlane and ClusterDataPlane,
// the resources in which OpenChoreo (openchoreo.dev/v1alpha1) describes the clusters that run
// workloads, and helpers that connect to these clusters. The package itself is empty.
//
// This code runs a function for each data plane, for as long as the data plane exists:
//
//	client, err := openchoreoclient.NewForConfig(config) // clientset/versioned
//	factory := openchoreoinformers.NewSharedInformerFactory(client, 0) // informers/externalversions
//	openchoreo := factory.OpenChoreo().V1alpha1()
//	f := fleet.New(func(ctx context.Context, cluster *remote.Cluster) error {
//		return watchWorkloads(ctx, cluster) // until ctx ends, through rotations of credentials
//	}, fleet.Options{Remote: remote.Options{ConfigFor: helpers.ConfigFor(gateway)}},
//		openchoreo.DataPlanes().Informer(), openchoreo.ClusterDataPlanes().Informer())
//	factory.Start(ctx.Done())
//	err = f.Run(ctx)
//
// ConfigFor connects with the credentials in a DataPlane (OpenChoreo v0.3), or through OpenChoreo's
// cluster gateway (v1). The example below instead keeps a client for each data plane, in a
// remote.Cache. Read package helpers first; the README lists the other packages.
//
// Before you start:
//
//   - OpenChoreo itself never writes the condition Ready: pass helpers.Stock() to helpers.IsReady,
//     unless your own controller writes Ready.
//   - Objects from a lister belong to the cache: copy them with DeepCopy before you change them.
//   - The Go types have the fields of v0.3 and v1. Update erases all others; Apply and patches,
//     such as helpers.PatchConditions, keep them.
//   - A DataPlane of v0.3 contains an unencrypted client key: everyone who can read the DataPlane
//     can act in its cluster. Formatting or logging hides secrets; JSON and YAML show them.
package dataplanesdk
