// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build controller_runtime_v0.21

package main

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// apply does the same as in apply.go. Clients of controller-runtime v0.21 have no method Apply,
// but can patch. configuration is a pointer to an apply configuration.
func apply(ctx context.Context, c client.Client, configuration any) error {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(configuration)
	if err != nil {
		return err
	}
	return c.Patch(ctx, &unstructured.Unstructured{Object: object}, client.Apply, fieldOwner, client.ForceOwnership)
}
