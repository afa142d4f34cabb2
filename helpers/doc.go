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
// [Evaluate], [IsReady] and the other readers of conditions say True only of an
// observation of the present generation of the object. A condition that is absent,
// out of date or malformed is Unknown, and the [Code] of its [Verdict] says which.
//
// Nothing in this package changes or keeps a DataPlane that is passed in, logs,
// prints, or panics on what it is given. No error contains a credential, whole or
// in part.
package helpers
