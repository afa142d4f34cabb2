// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Code generated from hack/codegen/_files. DO NOT EDIT.

package fake

// IsWatchListSemanticsUnSupported makes reflectors of client-go 0.35 and later list and then
// watch, since the object tracker can't stream a list.
func (c *Clientset) IsWatchListSemanticsUnSupported() bool {
	return true
}
