// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package informer_test

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

func ExampleHandler() {
	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod", dataplanetest.V1))
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
	defer factory.Shutdown()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	changes := make(chan string)
	if _, err := factory.OpenChoreo().V1alpha1().DataPlanes().Informer().AddEventHandler(informer.Handler(informer.Funcs{
		OnReady:    func(dp *v1alpha1.DataPlane) { changes <- dp.Name + " is ready" },
		OnNotReady: func(dp *v1alpha1.DataPlane) { changes <- dp.Name + " isn't ready" },
	}, helpers.Stock())); err != nil { // OpenChoreo itself never reports Ready
		fmt.Println(err)
		return
	}
	factory.StartWithContext(ctx)
	fmt.Println(<-changes)

	prod, err := dataPlanes.Get(ctx, "prod", metav1.GetOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	dataplanetest.AgentAway(prod)
	if _, err := dataPlanes.UpdateStatus(ctx, prod, metav1.UpdateOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-changes)
	// Output:
	// prod is ready
	// prod isn't ready
}

// A program that doesn't connect to data planes keeps no credentials in memory.
func ExampleDropSecrets() {
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(
		dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod", dataplanetest.Ready)), 0,
		openchoreoinformers.WithTransform(informer.DropSecrets))
	defer factory.Shutdown()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes().Lister()
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx)

	prod, err := dataPlanes.DataPlanes("default").Get("prod")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ready:", helpers.IsReady(prod))
	fmt.Println("key:", prod.Spec.KubernetesCluster.Credentials.ClientKey)
	_, err = helpers.RESTConfigFor(prod)
	fmt.Println("can't connect:", errors.Is(err, helpers.ErrSecretsDropped))
	// Output:
	// ready: true
	// key: REDACTED
	// can't connect: true
}

// A program that connects to data planes can save memory, too.
func ExampleStripManagedFields() {
	prod := dataplanetest.DataPlane("default", "prod", func(dp *v1alpha1.DataPlane) {
		dp.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	})
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(dataplanetest.NewClientset(prod), 0,
		openchoreoinformers.WithTransform(informer.StripManagedFields))
	defer factory.Shutdown()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes().Lister()
	factory.StartWithContext(ctx)
	factory.WaitForCacheSyncWithContext(ctx)

	cached, err := dataPlanes.DataPlanes("default").Get("prod")
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = helpers.RESTConfigFor(cached)
	fmt.Println(len(cached.ManagedFields), err)
	// Output: 0 <nil>
}
