// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
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
