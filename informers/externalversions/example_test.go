// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package externalversions_test

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// Programs that read often read from the cache of an informer.
func ExampleNewSharedInformerFactory() {
	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "eu"), dataplanetest.DataPlane("default", "us"))
	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
	defer factory.Shutdown()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	lister := factory.OpenChoreo().V1alpha1().DataPlanes().Lister() // before StartWithContext, which starts what was asked for
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx)

	eu, err := lister.DataPlanes("default").Get("eu") // belongs to the cache: DeepCopy it to change it
	if err != nil {
		fmt.Println(err)
		return
	}
	all, err := lister.List(labels.Everything())
	fmt.Println(eu.Name, len(all), err)
	// Output: eu 2 <nil>
}
