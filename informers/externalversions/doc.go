// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package externalversions makes informers, which keep DataPlanes and ClusterDataPlanes in
// memory and up to date by a watch.
//
//	factory := externalversions.NewSharedInformerFactory(client, 0)
//	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes().Lister()
//	factory.StartWithContext(ctx)
//	if err := factory.WaitForCacheSyncWithContext(ctx).AsError(); err != nil {
//		return err
//	}
//	prod, err := dataPlanes.DataPlanes("default").Get("prod")
//
// StartWithContext starts the informers for which Lister or Informer was called before. They stop
// when the context ends. Package helpers/informer has event handlers and transforms.
package externalversions
