// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Make a scheme for controller-runtime, or for another client that takes one.
func ExampleAddToScheme() {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(scheme.Recognizes(v1alpha1.SchemeGroupVersion.WithKind("DataPlane")))
	// Output: true
}

// Formatting hides secrets.
func ExampleDataPlane_Format() {
	dp := &v1alpha1.DataPlane{}
	dp.Spec.KubernetesCluster.Credentials.ClientKey = "hunter2"
	fmt.Printf("%+v\n", dp.Spec.KubernetesCluster)
	// Output: {Name: Credentials:{APIServerURL: CACert: ClientCert: ClientKey:REDACTED}}
}

// JSON is the wire format and shows secrets. Redact the object first.
func ExampleDataPlane_Redacted() {
	dp := &v1alpha1.DataPlane{}
	dp.Spec.KubernetesCluster.Credentials.ClientKey = "hunter2"
	shown, err := json.Marshal(dp.Redacted().Spec.KubernetesCluster.Credentials)
	fmt.Println(string(shown), err)
	// Output: {"apiServerURL":"","caCert":"","clientCert":"","clientKey":"REDACTED"} <nil>
}
