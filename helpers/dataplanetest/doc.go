// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dataplanetest is for tests of programs that use DataPlanes. It needs no cluster,
// no network beyond loopback, and no test framework.
//
// [DataPlane] returns objects with real certificates and keys, in the states that programs
// must handle:
//
//	dp := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready, dataplanetest.Stale)
//	cdp := dataplanetest.ClusterDataPlane("default", dataplanetest.AgentAway)
//
// [NewClientset] stands in for the management cluster: a fake of the generated clientset that
// stores objects as an API server does, with generations, conflicts, finalizers and a status
// subresource. A [Server] stands in for the cluster that a DataPlane describes: a TLS server that
// identifies users by their client certificates and can fail in the ways that API servers fail. It
// serves [Objects] to informers and other clients. With objects of DataPlanes and [Server.Config],
// it stands in for the management cluster of a whole program that only reads.
//
//	server := dataplanetest.NewServer(nil)
//	defer server.Close()
//	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod", server.As("alice")))
//	reconcile(ctx, client, types.NamespacedName{Namespace: "default", Name: "prod"})
//
//	server.SetHandler(dataplanetest.Status(http.StatusServiceUnavailable))
//	reconcile(ctx, client, types.NamespacedName{Namespace: "default", Name: "prod"})
//
// # Differences from an API server
//
// A [Clientset] leaves out parts of an API server:
//
//   - It validates metadata, options and the types of values. It ignores all other rules of a CRD,
//     such as required fields and unique conditions, and sets no defaults.
//   - Conditions of several managers merge by type. In OpenChoreo's own CRD of DataPlane, the list
//     of conditions is atomic and has one manager.
//   - A DataPlane may have fields of both shapes. API servers drop fields that their CRD lacks.
//   - It has no admission: a namespace need not exist, and every request is authorized.
//   - It collects no garbage: a deletion with the policy Foreground or Orphan waits until the test
//     removes the finalizer.
//   - It lists without pages, and always the current objects: it validates resourceVersion and
//     resourceVersionMatch, but otherwise ignores them.
//   - A watch forgets no event, has no timeout, and sends no bookmark except the one after the
//     initial events.
//   - Only Watch observes its context.
//   - It has no warnings, no limits of size or rate, and no discovery beyond the Resources of the
//     embedded Fake.
//   - The field validation Strict finds unknown fields, but no duplicate fields. A malformed patch
//     gets the same code with every field validation.
//   - The messages of errors differ.
//
// Functions of this package panic where a test can't continue, such as when no port is free.
//
// Which of them to use for which test: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/testing.md
package dataplanetest
