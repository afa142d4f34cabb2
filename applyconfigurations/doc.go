// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package applyconfigurations has what fake clientsets need to apply objects. The apply
// configurations themselves are in openchoreo/v1alpha1.
package applyconfigurations
