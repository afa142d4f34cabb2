// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dataplanetest is for tests of programs that use DataPlanes. It needs no cluster,
// no network beyond loopback, and no test framework.
//
// [DataPlane] makes objects with real certificates and keys, in the states that programs
// must handle:
//
//	dp := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready, dataplanetest.Stale)
//
// [NewClientset] is the management cluster: a fake of the generated clientset that keeps
// objects as an API server does, with generations, conflicts, finalizers and a status of
// its own. A [Server] is the cluster that a DataPlane describes: a TLS server that knows
// its users by their client certificates and can fail in the ways that API servers fail.
//
//	server := dataplanetest.NewServer(nil)
//	defer server.Close()
//	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod", server.As("alice")))
//	reconcile(ctx, client, types.NamespacedName{Namespace: "default", Name: "prod"})
//
//	server.SetHandler(dataplanetest.Status(http.StatusServiceUnavailable))
//	reconcile(ctx, client, types.NamespacedName{Namespace: "default", Name: "prod"})
//
// # What differs from an API server
//
// A [Clientset] is not a whole API server. On purpose,
//
//   - it validates metadata, options, and the types of values, but nothing else that the definition
//     of a kind says, such as required fields and unique conditions, and it has no defaults;
//   - conditions of several managers merge by type; in OpenChoreo's own definitions of DataPlane,
//     they are one value with one manager;
//   - a DataPlane may have fields of both shapes, where API servers drop those that their definition
//     lacks;
//   - it has no admission: a namespace need not exist, and everybody may do everything;
//   - it collects no garbage: a deletion with the policy Foreground or Orphan waits until the test
//     removes the finalizer;
//   - it lists without pages, and always what is there now: it checks resourceVersion and
//     resourceVersionMatch, but doesn't follow them;
//   - a watch forgets no event, has no timeout, and sends no bookmark but the one after the initial
//     events;
//   - only Watch observes its context;
//   - there are no warnings, no limits of size or rate, and no discovery beyond the Resources of the
//     embedded Fake;
//   - the field validation Strict finds unknown fields, but no duplicate ones, and a malformed patch
//     gets the same code with every field validation;
//   - messages of errors have other words.
//
// Functions of this package panic where a test can't go on, such as when there is no port
// to listen on.
//
// What to test with which of them: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/testing.md
package dataplanetest
