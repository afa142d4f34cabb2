// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package schema has the structured-merge-diff schema of DataPlane and ClusterDataPlane: their
// fields, and how lists merge. Apply configurations extract fields with it, helpers/fieldset
// compares them with it.
package schema

import (
	"sigs.k8s.io/structured-merge-diff/v4/typed"
)

const api = "com.github.openchoreo.dataplane-sdk-go.apis.openchoreo.v1alpha1."

// DataPlane returns the type of a DataPlane. The schema is parsed on first use.
func DataPlane() typed.ParseableType {
	return Parser().Type(api + "DataPlane")
}

// ClusterDataPlane returns the type of a ClusterDataPlane. The schema is parsed on first use.
func ClusterDataPlane() typed.ParseableType {
	return Parser().Type(api + "ClusterDataPlane")
}
