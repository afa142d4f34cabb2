// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package helpers turns a DataPlane into a connection to its cluster and reports whether it
// is ready. For a ClusterDataPlane, pass its [v1alpha1.ClusterDataPlane.AsDataPlane].
//
//	dataPlane := object.AsDataPlane() // object is a ClusterDataPlane, as in stock v1, or a DataPlane
//	stock := helpers.Stock()          // what OpenChoreo reports, where no controller writes Ready
//	if !helpers.IsReady(dataPlane, stock) {
//		return fmt.Errorf("not ready: %s", helpers.Evaluate(dataPlane, stock))
//	}
//	config, err := helpers.ConfigFor(gateway)(dataPlane)
//	if err != nil {
//		return err // names the fields at fault, never their values
//	}
//	client, err := kubernetes.NewForConfig(config)
//
// How to connect depends on the release of OpenChoreo. In v0.3, DataPlanes hold credentials, see
// [RESTConfigFor]. In v1 they hold none, and requests go through the cluster gateway, see
// [GatewayConfigFor]. [ConfigFor] chooses between the two. Long-running programs use it with
// package remote. OpenChoreo itself never writes the condition Ready, see [Stock].
//
// [RESTConfigFor] returns an ordinary rest.Config that belongs to the caller. It refuses
// credentials with which client-go would silently fall back to something weaker: plain HTTP,
// the system's certificate authorities, or an anonymous user.
//
// [IsReady], [Evaluate] and the other readers of conditions compare generations: a condition
// that is missing, stale or malformed is Unknown, never True, and a [Code] says why.
// [SetCondition] writes a condition in memory, [PatchConditions] on the API server.
//
// The package starts no goroutine, opens no connection, keeps no state, and never logs or
// panics. Only SetCondition modifies its DataPlane. No error contains a credential.
//
// What OpenChoreo writes, and what to do about each code: https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/conditions.md
package helpers
