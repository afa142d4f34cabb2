// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// An informer of namespaces in each data plane of OpenChoreo v0.3 and v1, of both kinds.
func ExampleNew_informers() {
	server := dataplanetest.NewServer(dataplanetest.NewObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps"}}))
	defer server.Close()
	direct := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	stand := dataplanetest.NewGateway()
	defer stand.Close()
	stand.Connect("default", dataplanetest.Agent(server.Config("agent")))
	gateway := stand.Config()
	management := openchoreoinformers.NewSharedInformerFactory(
		dataplanetest.NewClientset(direct, dataplanetest.ClusterDataPlane("default")), 0)
	defer management.Shutdown()
	dataPlanes := management.OpenChoreo().V1alpha1().DataPlanes().Informer()
	clusterDataPlanes := management.OpenChoreo().V1alpha1().ClusterDataPlanes().Informer()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	seen := make(chan string, 2)

	f := fleet.New(func(ctx context.Context, cluster *remote.Cluster) error {
		client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
		if err != nil {
			return err
		}
		factory := informers.NewSharedInformerFactory(client, 0)
		_, err = factory.Core().V1().Namespaces().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(obj any) { seen <- fmt.Sprint(cluster.Key(), " has ", obj.(*corev1.Namespace).Name) },
		})
		if err != nil {
			return err
		}
		factory.Start(ctx.Done())
		<-ctx.Done()
		return nil
	}, fleet.Options{Remote: remote.Options{ConfigFor: helpers.ConfigFor(gateway)}}, dataPlanes, clusterDataPlanes)

	go func() { // for this example
		fmt.Println(<-seen)
		fmt.Println(<-seen)
		stop()
	}()
	management.StartWithContext(ctx)
	if err := f.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// default/prod has apps
	// /default has apps
}
