// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin

package controlplane

import "errors"

// volume is one file system.
type volume struct {
	id   uint64
	free uint64
}

// freeSpace returns errors.ErrUnsupported: a build then finds out by itself.
func freeSpace(string) (volume, error) {
	return volume{}, errors.ErrUnsupported
}
