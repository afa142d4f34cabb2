// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dataplane has what errors of many packages say of a DataPlane.
package dataplane

import "errors"

// ErrNil reports a nil DataPlane.
var ErrNil = errors.New("nil data plane")

// Name returns namespace/name of a DataPlane, and the name alone of a ClusterDataPlane.
func Name(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}
