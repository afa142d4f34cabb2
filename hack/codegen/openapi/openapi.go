// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openapi stands for the package that openapi-gen makes of the API types. It is large
// and used once, so hack/update-codegen.sh makes it in a temporary directory, and builds with
// it in place of this one.
package openapi

import "k8s.io/kube-openapi/pkg/common"

// GetOpenAPIDefinitions returns the definitions of the API types by their Go names.
func GetOpenAPIDefinitions(common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	panic("not generated: run hack/update-codegen.sh")
}
