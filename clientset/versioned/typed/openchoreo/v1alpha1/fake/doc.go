// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fake has the typed clients of a fake clientset.
package fake
