// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openapi is a placeholder for the output of openapi-gen. That is large and used once, so
// hack/update-codegen.sh generates it in a temporary directory, and builds with it in place of this
// package.
package openapi

import "k8s.io/kube-openapi/pkg/common"

// GetOpenAPIDefinitions returns the definitions of the API types by their Go names, once generated.
func GetOpenAPIDefinitions(common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	panic("not generated: run hack/update-codegen.sh")
}
