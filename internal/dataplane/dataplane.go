// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dataplane helps other packages report errors about a DataPlane.
package dataplane

import "errors"

// ErrNil reports a nil DataPlane.
var ErrNil = errors.New("nil data plane")

// Name returns namespace/name, or only the name for a ClusterDataPlane, which has no namespace.
func Name(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}
