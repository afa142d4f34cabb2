// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !controller_runtime_v0.21

package main

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// apply applies configuration and takes the ownership of its fields from other managers. It
// may overwrite configuration with the object on the API server, secrets included.
func apply(ctx context.Context, c client.Client, configuration runtime.ApplyConfiguration) error {
	return c.Apply(ctx, configuration, fieldOwner, client.ForceOwnership)
}
