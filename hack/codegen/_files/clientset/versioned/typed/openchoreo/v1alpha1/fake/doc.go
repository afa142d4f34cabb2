// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Code generated from hack/codegen/_files. DO NOT EDIT.

// Package fake has the typed clients of a fake clientset.
package fake
