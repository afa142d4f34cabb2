// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package remote connects to the clusters that DataPlanes describe, and keeps the
// connections while credentials are rotated.
//
// A [Cache] keeps one client for each data plane:
//
//	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
//	clients := remote.NewCache(
//		remote.FromLister(dataPlanes.Lister()),
//		func(c *remote.Cluster) (kubernetes.Interface, error) {
//			return kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
//		}, remote.Options{})
//	defer clients.Close()
//	if _, err := dataPlanes.Informer().AddEventHandler(clients.Handler()); err != nil {
//		return err
//	}
//	factory.StartWithContext(ctx)
//	factory.WaitForCacheSyncWithContext(ctx)
//	client, err := clients.Get(types.NamespacedName{Namespace: "default", Name: "production"})
//
// A [Cluster] is a single connection. When the credentials of its DataPlane change,
// [Cluster.Update] replaces them: clients and informers made from the Cluster keep working,
// and their watches resume where they were, without a new list.
//
// [Cluster.Probe] asks the API server whether it is ready, and [Classify] says what the
// error of any request tells about the connection.
//
// The package starts no background goroutine, and makes no request except in Probe.
//
// Rotation, time limits, proxies and threat model: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/connecting.md
package remote
