// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

// ErrStop is for the tests, which can't be in this package: demotest imports it.
var ErrStop = errStop
