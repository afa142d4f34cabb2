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

// The words of this package:
//
//	session      the connections for one set of credentials. A Cluster has one for new
//	             requests, and older ones until the last of their requests
//	retired      of a session that takes no new requests: it handed over to the next one, or
//	             was shut down, since the Cluster is closed or has no credentials to use
//	unary, watch, stream: a request with one answer; one that informers resume; any other that lasts
//	unsent       of a request that waits for a connection
//	cut          of a request that this side ended, and not the server
//	finished     of a request that is over, whoever ended it
//	ask          call ConfigFor again for the same DataPlane
//	transport    the http.Transport of a session
//
// Its files, each above what it calls:
//
//	cache.go                         one client for each data plane
//	cluster.go, probe.go             one data plane; is its API server ready?
//	roundtrip.go, refresh.go         the way of a request; when to ask ConfigFor again
//	session.go, rotation.go          connections; how a session ends, and its requests with it
//	request.go, gate.go, stream.go   from its start to the end of its response; may it be sent now? without HTTP
//	limits.go, initialevents.go      how long a response may take
//	answer.go, limiter.go            which answers are refused; who waits before a request
//	config.go, options.go            which configurations are accepted, and are two the same?
//	reachability.go, errors.go       what an error says
