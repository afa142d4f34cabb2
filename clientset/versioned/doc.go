// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package versioned has the typed clients for DataPlanes and ClusterDataPlanes.
//
//	client, err := versioned.NewForConfig(config)
//	if err != nil {
//		return err
//	}
//	prod, err := client.OpenChoreoV1alpha1().DataPlanes("default").Get(ctx, "prod", metav1.GetOptions{})
//
// For tests, see helpers/dataplanetest.
package versioned
