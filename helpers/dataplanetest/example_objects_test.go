// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// An informer sees the namespaces of a data plane, and their changes.
func ExampleNewObjects() {
	objects := dataplanetest.NewObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps"}})
	server := dataplanetest.NewServer(objects)
	defer server.Close()
	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	if err != nil {
		fmt.Println(err)
		return
	}

	factory := informers.NewSharedInformerFactory(client, 0)
	seen := make(chan string)
	_, err = factory.Core().V1().Namespaces().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { seen <- "added " + obj.(*corev1.Namespace).Name },
		DeleteFunc: func(obj any) { seen <- "deleted " + obj.(*corev1.Namespace).Name },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	factory.Start(cluster.Done())

	fmt.Println(<-seen)
	objects.Set(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tools"}})
	fmt.Println(<-seen)
	objects.Delete(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps"}})
	fmt.Println(<-seen)
	// Output:
	// added apps
	// added tools
	// deleted apps
}

// A Server stands in for the management cluster of a program that watches data planes.
func ExampleServer_Config() {
	objects := dataplanetest.NewObjects(dataplanetest.ClusterDataPlane("default"))
	management := dataplanetest.NewServer(objects)
	defer management.Close()
	client, err := openchoreoclient.NewForConfig(management.Config("my-program"))
	if err != nil {
		fmt.Println(err)
		return
	}

	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
	defer factory.Shutdown()
	seen := make(chan string, 2)
	report := func(what string, obj any) {
		cdp := obj.(*v1alpha1.ClusterDataPlane)
		seen <- fmt.Sprint(what, " ", cdp.Name, ", ready: ", helpers.IsReady(cdp.AsDataPlane(), helpers.Stock()))
	}
	_, err = factory.OpenChoreo().V1alpha1().ClusterDataPlanes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { report("added", obj) },
		UpdateFunc: func(_, obj any) { report("updated", obj) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	factory.StartWithContext(ctx)

	fmt.Println(<-seen)
	objects.Set(dataplanetest.ClusterDataPlane("default", dataplanetest.AgentAway))
	fmt.Println(<-seen)
	// Output:
	// added default, ready: true
	// updated default, ready: false
}
