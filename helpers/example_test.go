// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func ExampleEvaluate() {
	dataPlane := &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Generation: 2},
		Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{
			{Type: "Ready", Status: "True", ObservedGeneration: 1, Reason: "AllGood"},
			{Type: "Connected", Status: "True", ObservedGeneration: 2, Reason: "Probed"},
		}},
	}
	for _, verdict := range helpers.Evaluate(dataPlane).Verdicts {
		fmt.Println(verdict.Type, verdict.Status, verdict.Code)
	}
	// Output:
	// Ready Unknown Stale
	// Connected True Current
	// GatewayProvisioned Unknown NotReported
}

func ExampleIsReady() {
	dataPlane := &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{
		Conditions: []metav1.Condition{{Type: "Ready", Status: "True", Reason: "AllGood"}},
	}}
	fmt.Println(helpers.IsReady(dataPlane), helpers.IsConnected(dataPlane))
	// Output: true false
}

func ExampleWaitFor() {
	client := fake.NewClientset(&v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod"},
		Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{
			{Type: "Ready", Status: "True", Reason: "AllGood"},
		}},
	})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")

	dataPlane, err := helpers.WaitFor(ctx, dataPlanes, "prod",
		helpers.UntilTrue(v1alpha1.DataPlaneConditionReady), helpers.Want("Ready"))
	if err != nil {
		fmt.Println(err) // what the conditions were instead, and since when
		return
	}
	fmt.Println(dataPlane.Name, "is ready")

	// What isn't there is an error at once.
	_, err = helpers.WaitFor(ctx, dataPlanes, "stage", helpers.UntilTrue(v1alpha1.DataPlaneConditionReady))
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output:
	// prod is ready
	// false
}

func ExampleSetCondition() {
	dataPlane := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
	changed, err := helpers.SetCondition(dataPlane, metav1.Condition{
		Type: v1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue, Reason: "Probed",
	})
	fmt.Println(changed, err)
	fmt.Println("observed generation", dataPlane.Status.Conditions[0].ObservedGeneration)
	// Output:
	// true <nil>
	// observed generation 3
}

func ExampleNewClientCache() {
	clients := helpers.NewClientCache(func(r *helpers.Remote) (kubernetes.Interface, error) {
		return kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
	}, helpers.WithUserAgent("my-controller/v1.2.3"))
	defer clients.Close()

	reconcile := func(ctx context.Context, dataPlane *v1alpha1.DataPlane) error {
		target, err := clients.Get(dataPlane) // built once, and anew when the credentials change
		if err != nil {
			return err
		}
		_, err = target.AppsV1().Deployments("default").List(ctx, metav1.ListOptions{})
		return err
	}
	fmt.Println(reconcile(context.Background(), &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod"},
	}))
	// Output: data plane default/prod: data plane has no credentials in spec.kubernetesCluster.credentials
}

func ExampleEventHandler() {
	var informer cache.SharedIndexInformer // of a generated informer factory

	register := func() error {
		_, err := informer.AddEventHandler(helpers.EventHandler(helpers.EventHandlerFuncs{
			OnReady:    func(dataPlane *v1alpha1.DataPlane) { fmt.Println(dataPlane.Name, "has become ready") },
			OnNotReady: func(dataPlane *v1alpha1.DataPlane) { fmt.Println(helpers.Evaluate(dataPlane)) },
		}))
		return err
	}
	_ = register
}

func ExampleNewFleet() {
	var informer cache.SharedIndexInformer // of a generated informer factory

	fleet := helpers.NewFleet(informer, func(ctx context.Context, r *helpers.Remote) error {
		client, err := kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
		if err != nil {
			return err
		}
		watcher, err := client.AppsV1().Deployments("").Watch(ctx, metav1.ListOptions{})
		if err != nil {
			return err // there is another run soon
		}
		defer watcher.Stop()
		for event := range watcher.ResultChan() {
			fmt.Println(r.Key(), event.Type)
		}
		return errors.New("the watch has ended")
	}, helpers.OnlyConnected(), helpers.WithBackoff(time.Second, time.Minute, time.Minute))

	run := func(ctx context.Context) {
		go func() {
			<-ctx.Done()
			fmt.Print(fleet.Status().Table(time.Now()))
		}()
		if err := fleet.Run(ctx); err != nil {
			fmt.Println(err)
		}
	}
	_ = run
}

func ExampleRunShards() {
	var (
		config   *rest.Config // of the cluster that holds the DataPlanes and the Leases
		informer cache.SharedIndexInformer
		podName  string
	)
	run := func(ctx context.Context, work func(context.Context, *helpers.Remote) error) error {
		config := rest.CopyConfig(config)
		config.QPS = -1 // or else renewals would wait
		leases, err := coordinationv1client.NewForConfig(config)
		if err != nil {
			return err
		}
		return helpers.RunShards(ctx, helpers.ShardsConfig{
			Leases: leases, Namespace: "my-controller", Name: "my-controller",
			Identity: podName, Count: 16,
		}, func(ctx context.Context, shard helpers.Shard) error {
			return helpers.NewFleet(informer, work, shard.FleetOptions()...).Run(ctx)
		})
	}
	_ = run
}
