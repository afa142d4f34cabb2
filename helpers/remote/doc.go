// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package remote connects to the clusters that DataPlanes describe, and keeps the
// connections while credentials are rotated.
//
// A [Cache] keeps one client for each data plane, here for each DataPlane of OpenChoreo v0.3; for
// v1, see Options.ConfigFor and [FromListers]:
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
// [Cluster.Probe] asks the API server whether it is ready, and [Classify] turns the error
// of any request into a [Reachability]. [Cache.Status] shows the last success and the last
// error of each data plane, and when its certificate expires.
//
// A data plane that doesn't answer costs little: after a slow failure to connect (a second
// or more), most requests fail at once. See the page below.
//
// The package starts no background goroutine, and makes no request except in Probe.
//
// Rotation, time limits, servers that don't answer, proxies and threat model: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/connecting.md
package remote

// The words of this package:
//
//	session     the connections for one set of credentials. A Cluster has one for new requests,
//	            and keeps older ones until their last request ends
//	retired     of a session: it takes no new requests. It handed over to the next session, or
//	            was shut down because the Cluster is closed or has no usable credentials
//	unary       of a request: it has one answer. A watch lasts and can be resumed; a stream lasts
//	            and can't
//	unsent      of a request: it waits for a connection
//	silent      of a server: the last attempt to connect took a second or more and failed. A few
//	            requests still try to connect; the others fail at once
//	cut         of a request: this side ended it
//	ask         call ConfigFor again for the same DataPlane
//	transport   the http.Transport of a session
//	outcome     the success or failure of a request, for Status
//
// A request goes through limiter.go, roundtrip.go, the wrappers of its session and the gate. From
// then on, request.go follows it until its response has ended, with limits.go, initialevents.go,
// answer.go, and stream.go for connections that leave HTTP. silence.go decides whether it may make
// a connection, rotation.go cuts it when its session is retired, and status.go keeps its outcome.
