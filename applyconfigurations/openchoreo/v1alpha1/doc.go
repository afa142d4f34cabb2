// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 has the apply configurations of DataPlane and ClusterDataPlane: objects in
// which every field may be absent, which is what server-side apply takes.
//
//	prod := openchoreoapply.DataPlane("prod", "default").
//		WithSpec(openchoreoapply.DataPlaneSpec().
//			WithRegistry(openchoreoapply.Registry().WithSecretRef("registry-credentials")))
//	applied, err := client.OpenChoreoV1alpha1().DataPlanes("default").Apply(ctx, prod,
//		metav1.ApplyOptions{FieldManager: "my-program"})
//
// An apply removes the fields that the same field manager applied before and no longer
// names. To change one of them, start from what ExtractDataPlane returns.
//
// Loggers (slog, logr, klog) show only name and namespace of a DataPlaneApplyConfiguration. JSON
// is the wire format: it holds the client key and the observer's password. So does the log of a
// program that logs a part of an apply configuration, such as its Spec, or a slice or struct that
// holds one.
package v1alpha1
