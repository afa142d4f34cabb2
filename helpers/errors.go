// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import "errors"

var (
	// ErrDeleted reports that a DataPlane was deleted or is being deleted.
	ErrDeleted = errors.New("data plane was deleted")
	// ErrReplaced reports that a DataPlane was deleted and another was created under its
	// name.
	ErrReplaced = errors.New("data plane was replaced by another of the same name")
	// ErrSecretsDropped reports that a DataPlane can't be written or connected to, because
	// its secrets were replaced by the marker REDACTED.
	ErrSecretsDropped = errors.New("the secrets of the data plane were dropped")
)
