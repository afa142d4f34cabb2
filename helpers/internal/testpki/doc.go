// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package testpki makes certificates, DataPlanes that hold them, and TLS servers that
// accept them, for the tests of the helpers. Only tests import it.
package testpki
