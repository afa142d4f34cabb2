// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !controller_runtime_v0.21

package main

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// apply makes the fields that configuration names what it says, and the controller their
// owner, whoever owned them before. It may change the configuration, to what the API server
// has then, secrets included.
func apply(ctx context.Context, c client.Client, configuration runtime.ApplyConfiguration) error {
	return c.Apply(ctx, configuration, fieldOwner, client.ForceOwnership)
}
