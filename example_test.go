// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	// The cluster that kubectl would talk to.
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return err
	}
	client, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return err
	}
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")

	// Server-side apply sets one field and leaves all others alone. It can't create a
	// DataPlane here: the API server rejects one without its required fields.
	applied, err := dataPlanes.Apply(ctx,
		openchoreoapply.DataPlane("production-dataplane", "default").
			WithSpec(openchoreoapply.DataPlaneSpec().
				WithRegistry(openchoreoapply.Registry().WithSecretRef("registry-credentials"))),
		metav1.ApplyOptions{FieldManager: "my-program"})
	if err != nil {
		return err
	}
	fmt.Println("applied: pull secret is", applied.Spec.Registry.SecretRef)

	// OpenChoreo itself writes the condition Created, but no Ready.
	readyFrom := helpers.ReadyFrom(openchoreov1alpha1.DataPlaneConditionCreated)

	// List.
	list, err := dataPlanes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		dp := &list.Items[i]
		fmt.Printf("listed: %s, cluster %s, ready %t\n", dp.Name, dp.Spec.KubernetesCluster.Name, helpers.IsReady(dp, readyFrom))
		if err := countConfigMaps(ctx, dp); err != nil {
			fmt.Println("remote:", err) // names the fields at fault, never a value
		}
	}

	// Watch: an informer keeps a cache up to date until ctx ends.
	show := func(event string, dp *openchoreov1alpha1.DataPlane) {
		ready := helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionReady, readyFrom)
		fmt.Printf("%s: %s, ready %s (%s)\n", event, dp.Name, ready.Status, ready.Code)
	}
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0, openchoreoinformers.WithNamespace("default"))
	if _, err := factory.OpenChoreo().V1alpha1().DataPlanes().Informer().AddEventHandler(informer.Handler(informer.Funcs{
		OnAdd:    func(dp *openchoreov1alpha1.DataPlane, _ bool) { show("added", dp) },
		OnUpdate: func(_, dp *openchoreov1alpha1.DataPlane) { show("updated", dp) },
		OnDelete: func(dp *openchoreov1alpha1.DataPlane) { show("deleted", dp) },
	})); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

// countConfigMaps connects to the cluster that the DataPlane describes.
func countConfigMaps(ctx context.Context, dp *openchoreov1alpha1.DataPlane) error {
	config, err := helpers.RESTConfigFor(dp)
	if err != nil {
		return err
	}
	config.UserAgent = "my-program/v1"
	target, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	configMaps, err := target.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	fmt.Printf("remote: %d config maps in %s\n", len(configMaps.Items), dp.Spec.KubernetesCluster.Name)
	return nil
}
