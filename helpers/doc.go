// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package helpers turns a DataPlane into a connection to the cluster that it
// describes, and answers whether the data plane is ready.
//
//	config, err := helpers.RESTConfigFor(dataPlane)
//	if err != nil {
//		return err // names the fields at fault, shows no value of any
//	}
//	target, err := kubernetes.NewForConfig(config)
//
// [RESTConfigFor] accepts what the OpenChoreo controller can use too, and nothing
// that would make client-go fall back to something weaker in silence: plain HTTP,
// the certificate authorities of the machine, or an anonymous user.
//
// A [Remote] is a connection that can be closed, and a [ClientCache] keeps one for each
// of many data planes, and replaces it when the credentials change. A [Fleet] runs a
// function in each data plane for as long as it exists with the same credentials, and
// [RunShards] divides data planes among replicas of a program.
//
// [Evaluate], [IsReady] and the other readers of conditions never say True of what was
// observed at another generation of the object. A condition that is absent, out of date
// or malformed is Unknown, and the [Code] of its [Verdict] says which. [WaitFor] waits for
// them, and says what is wrong when it has waited in vain; [PatchConditions] writes them
// beside those of others.
//
// But for [SetCondition] and the transforms of an informer, whose task it is, nothing in
// this package changes a DataPlane that is passed in. Nothing logs, prints, or panics on
// what it is given. No error contains a credential, whole or in part.
package helpers
