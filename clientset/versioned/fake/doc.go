// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fake has a clientset for tests. It stores objects as they are written:
// helpers/dataplanetest has one that sets generations, separates spec from status, and
// conflicts, as an API server does.
package fake
