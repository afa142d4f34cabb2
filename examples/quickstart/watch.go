// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// rotate replaces the credentials of the DataPlane while an informer watches the target cluster.
func (q *quickstart) rotate(ctx context.Context) error {
	arrived, stop, err := watchConfigMaps(q.target)
	if err != nil {
		return err
	}
	defer stop()
	if err := waitFor(ctx, arrived, "greeting"); err != nil {
		return err
	}

	const successor = "openchoreo-successor"
	credentials, err := q.Targets[0].Credentials(ctx, successor, mayDeploy()...)
	if err != nil {
		return err
	}
	if _, err := q.Rotate(ctx, dataPlaneName, credentials); err != nil {
		return err
	}
	dp, err := q.waitForCache(ctx, func(dp *openchoreov1alpha1.DataPlane) bool {
		return dp.Spec.KubernetesCluster.Credentials == credentials
	})
	if err != nil {
		return err
	}
	// A remote.Cache does this itself when the informer sees new credentials.
	if err := q.cluster.Update(dp); err != nil {
		return err
	}

	user, err := userOf(ctx, q.target)
	if err != nil {
		return err
	}
	if user != successor {
		return fmt.Errorf("the target cluster sees user %q after the rotation, not %q", user, successor)
	}
	line("the same client is user %q now", user)
	if _, err := q.target.CoreV1().ConfigMaps(workloads).Apply(ctx,
		applycorev1.ConfigMap("farewell", workloads), metav1.ApplyOptions{FieldManager: fieldManager}); err != nil {
		return err
	}
	if err := waitFor(ctx, arrived, "farewell"); err != nil {
		return err
	}
	line("the same informer, which listed once, has seen ConfigMap %s/farewell", workloads)
	return nil
}

// watchConfigMaps sends the names of config maps that an informer sees, until stop is called.
func watchConfigMaps(client kubernetes.Interface) (_ <-chan string, stop func(), err error) {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(workloads))
	arrived := make(chan string, 10) // more than enough
	if _, err := factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { arrived <- obj.(*corev1.ConfigMap).Name },
	}); err != nil {
		return nil, nil, err
	}
	ended := make(chan struct{})
	factory.Start(ended)
	return arrived, func() { close(ended); factory.Shutdown() }, nil
}

// waitFor waits until a name arrives.
func waitFor(ctx context.Context, arrived <-chan string, name string) error {
	for {
		select {
		case got := <-arrived:
			if got == name {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("waiting for the informer to see %s: %w", name, ctx.Err())
		}
	}
}

// useGateway watches the target cluster as a data plane of OpenChoreo v1: a ClusterDataPlane, which
// holds no credentials, and an agent that is connected to the cluster gateway.
func (q *quickstart) useGateway(ctx context.Context) error {
	if q.Plane != nil { // the management cluster isn't the user's
		if err := q.Plane.InstallCRDs(ctx, crds.ClusterDataPlane()); err != nil {
			return err
		}
	}
	name := q.Namespace // which is unique
	stored, err := q.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Create(ctx, dataplanetest.ClusterDataPlane(name), metav1.CreateOptions{})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		line("left out, since your cluster serves no ClusterDataPlanes, or you may not create one: %v", err)
		return nil
	case err != nil:
		return err
	}
	q.clusterWide = true
	line("created ClusterDataPlane %s, plane ID %s", stored.Name, stored.Spec.PlaneID)

	// In your program, the configuration is the URL and certificates of the gateway: see docs/connecting.md.
	gateway := dataplanetest.NewGateway()
	defer gateway.Close()
	agent, err := q.Targets[0].AddUser("openchoreo-agent", "system:masters")
	if err != nil {
		return err
	}
	gateway.Connect(stored.Spec.PlaneID, dataplanetest.Agent(agent.Config()))
	return q.watchThrough(ctx, stored.AsDataPlane(), remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
}

func (q *quickstart) watchThrough(ctx context.Context, dp *openchoreov1alpha1.DataPlane, options remote.Options) error {
	cluster, err := remote.NewCluster(dp, options)
	if err != nil {
		return err
	}
	defer cluster.Close()
	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	if err != nil {
		return err
	}
	user, err := userOf(ctx, client)
	if err != nil {
		return err
	}
	line("connected through a stand-in for the cluster gateway; the target cluster sees the agent, %q", user)

	arrived, stop, err := watchConfigMaps(client)
	if err != nil {
		return err
	}
	defer stop()
	if err := waitFor(ctx, arrived, "greeting"); err != nil {
		return err
	}
	line("the informer has listed the config maps; its watch is a request of 5 s at a time")
	// This write doesn't pass the gateway.
	if _, err := q.target.CoreV1().ConfigMaps(workloads).Apply(ctx,
		applycorev1.ConfigMap("news", workloads), metav1.ApplyOptions{FieldManager: fieldManager}); err != nil {
		return err
	}
	written := time.Now()
	if err := waitFor(ctx, arrived, "news"); err != nil {
		return err
	}
	line("the informer has seen ConfigMap %s/news, %s after it was written", workloads, time.Since(written).Round(100*time.Millisecond))
	return nil
}
