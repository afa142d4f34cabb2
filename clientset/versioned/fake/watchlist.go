// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fake

// IsWatchListSemanticsUnSupported makes reflectors of client-go 0.35 and later list and then
// watch, since the object tracker can't stream a list.
func (c *Clientset) IsWatchListSemanticsUnSupported() bool {
	return true
}
