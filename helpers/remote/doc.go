// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package remote connects to the clusters that DataPlanes describe, and keeps the
// connections while credentials are rotated.
//
// A [Cache] keeps one client for each data plane:
//
//	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
//	clients := remote.NewCache(
//		remote.FromListers(dataPlanes.Lister(), nil),
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
// error of any request tells about the connection. [Cache.Status] shows what the last requests
// to each data plane have met, and when its certificate expires.
//
// A data plane that doesn't answer costs little: after an attempt to connect that took a second or
// more and failed, requests don't wait for the next one. See the page below.
//
// The package starts no background goroutine, and makes no request except in Probe.
//
// Rotation, time limits, servers that don't answer, proxies and threat model: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/connecting.md
package remote

// The words of this package:
//
//	session     the connections for one set of credentials; a Cluster has one for new
//	            requests, and older ones until their last request is finished
//	retired     says that a session takes no new requests: it handed over to the next one, or
//	            was shut down, since the Cluster is closed or has no credentials to use
//	unary       a request with one answer; a watch can be resumed, a stream lasts and can't
//	unsent      says that a request waits for a connection
//	silent      says that the last attempt to connect took a second or more and failed: a few requests
//	            still try to connect, and the others fail at once
//	cut         says that this side ended a request
//	ask         call ConfigFor again for the same DataPlane
//	transport   the http.Transport of a session
//	outcome     what a request has shown of the data plane, for Status
//
// A request goes through limiter.go, roundtrip.go, the wrappers of its session and the gate. From
// then on, request.go follows it until its response has ended, with limits.go, initialevents.go,
// answer.go, and stream.go for connections that leave HTTP. rotation.go ends it with its session.
// silence.go decides whether it may make a connection, and status.go keeps its outcome.
