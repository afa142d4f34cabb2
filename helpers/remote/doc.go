// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package remote connects to the clusters that DataPlanes describe, and keeps the
// connections while credentials are rotated.
//
// A [Cache] keeps one client for each data plane:
//
//	clients := remote.NewCache(
//		remote.FromLister(factory.OpenChoreo().V1alpha1().DataPlanes().Lister()),
//		func(c *remote.Cluster) (kubernetes.Interface, error) {
//			return kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
//		}, remote.Options{})
//	defer clients.Close()
//	informer.AddEventHandler(clients.Handler())
//	client, err := clients.Get(types.NamespacedName{Namespace: "default", Name: "production"})
//
// A [Cluster] is a single connection. When the credentials of its DataPlane change,
// [Cluster.Update] puts the new ones in their place: clients and informers that were made
// of the Cluster go on, and their watches resume where they were, without a new list.
//
// [Cluster.Probe] asks the API server whether it is ready, and [Classify] says what the
// error of any request tells about the way to it.
//
// The package starts no goroutine and makes no request of its own.
package remote
