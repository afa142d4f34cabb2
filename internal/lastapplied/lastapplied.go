// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lastapplied lists the annotations in which tools keep a copy of the whole object.
package lastapplied

// Annotations are the keys: those of kubectl apply, kapp and Rancher.
var Annotations = [...]string{
	"kubectl.kubernetes.io/last-applied-configuration", "kapp.k14s.io/original", "objectset.rio.cattle.io/applied",
}
