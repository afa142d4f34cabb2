// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
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
