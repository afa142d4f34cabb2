// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func ExampleRESTConfigFor() {
	var dataPlane *v1alpha1.DataPlane // from a client or a lister

	config, err := helpers.RESTConfigFor(dataPlane)
	switch {
	case errors.Is(err, helpers.ErrNoCredentials):
		fmt.Println("nothing to connect with")
		return
	case err != nil:
		fmt.Println(err)
		return
	}
	config.UserAgent = "my-controller/v1.2.3"
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

// The data planes of OpenChoreo v0.9 and later are reached through the cluster gateway.
func ExampleGatewayConfigFor() {
	dataPlane := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "prod"}}
	gateway := &rest.Config{
		Host:            "cluster-gateway.openchoreo-control-plane:8443",
		TLSClientConfig: rest.TLSClientConfig{CAFile: "/etc/cluster-gateway/ca.crt"},
	}
	config, err := helpers.GatewayConfigFor(dataPlane, gateway, "")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(config.Host)
	// Output: https://cluster-gateway.openchoreo-control-plane:8443/api/proxy/dataplane/prod/acme/prod/k8s
}

// A DataPlane holds a client certificate, but no token.
func ExampleCredentialsFor() {
	config := &rest.Config{ // usually of clientcmd or envtest
		Host:            "https://k8s-api.example.com:6443",
		BearerToken:     "hunter2",
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}
	_, err := helpers.CredentialsFor(config)
	fmt.Println(err)
	// Output:
	// BearerToken: can't be stored in a DataPlane
	// TLSClientConfig.Insecure: can't be stored in a DataPlane
	// TLSClientConfig.CAData: must be set
	// TLSClientConfig.CertData: must be set
	// TLSClientConfig.KeyData: must be set
}
