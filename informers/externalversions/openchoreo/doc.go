// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openchoreo has the informers of the API group openchoreo.dev. Programs get them
// from a factory of package externalversions.
package openchoreo
