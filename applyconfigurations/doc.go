// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Code generated from hack/codegen/_files. DO NOT EDIT.

// Package applyconfigurations has what fake clientsets need to apply objects. The apply
// configurations themselves are in openchoreo/v1alpha1.
package applyconfigurations
