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
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func ExampleRESTConfigFor() {
	var dataPlane *v1alpha1.DataPlane // from a client or a lister

	config, err := helpers.RESTConfigFor(dataPlane, helpers.WithUserAgent("my-controller/v1.2.3"))
	switch {
	case errors.Is(err, helpers.ErrNoCredentials):
		fmt.Println("nothing to connect with")
		return
	case err != nil:
		fmt.Println(err)
		return
	}
	target, err := kubernetes.NewForConfig(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = target.AppsV1().Deployments("default")
	// Output: nothing to connect with
}

// Every fault is reported, with its field and without its value.
func ExampleRESTConfigFor_faults() {
	dataPlane := &v1alpha1.DataPlane{}
	dataPlane.Spec.KubernetesCluster.Credentials = v1alpha1.APIServerCredentials{
		APIServerURL: "http://k8s-api.example.com:6443",
		CACert:       "-----BEGIN CERTIFICATE-----",
		ClientKey:    "aHVudGVyMg==",
	}
	_, err := helpers.RESTConfigFor(dataPlane)
	fmt.Println(err)

	var fault *helpers.CredentialsError
	if errors.As(err, &fault) {
		fmt.Println("first:", fault.Reason)
	}
	// Output:
	// spec.kubernetesCluster.credentials.apiServerURL: InsecureURL: must use https: credentials are sent only over TLS
	// spec.kubernetesCluster.credentials.caCert: InvalidBase64: is not base64 at byte 0: the value is PEM itself; base64-encode it
	// spec.kubernetesCluster.credentials.clientCert: Required: must be set
	// spec.kubernetesCluster.credentials.clientKey: InvalidPEM: contains no PEM block PRIVATE KEY
	// first: InsecureURL
}

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
