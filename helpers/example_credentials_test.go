// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

func ExampleRESTConfigFor() {
	server := dataplanetest.NewServer(dataplanetest.NewObjects())
	defer server.Close()
	dataPlane := dataplanetest.DataPlane("default", "prod", server.As("alice"))

	config, err := helpers.RESTConfigFor(dataPlane)
	if err != nil {
		fmt.Println(err)
		return
	}
	config.UserAgent = "my-controller/v1.2.3"
	target, err := kubernetes.NewForConfig(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(target.Discovery().ServerVersion())
	// Output: v1.33.1 <nil>
}

// Each fault names its field, and doesn't show its value.
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

// Data planes of OpenChoreo v1 hold no credentials. Connect through the cluster gateway, here
// from a Pod that mounts a client certificate.
func ExampleGatewayConfigFor() {
	gateway := &rest.Config{
		Host: "https://cluster-gateway.openchoreo-control-plane.svc.cluster.local:8444",
		TLSClientConfig: rest.TLSClientConfig{
			CAFile:   "/etc/cluster-gateway/ca.crt", // of Secret cluster-gateway-ca
			CertFile: "/etc/gateway-client/tls.crt", // of Issuer cluster-gateway-internal-ca-issuer
			KeyFile:  "/etc/gateway-client/tls.key",
		},
	}
	config, err := helpers.GatewayConfigFor(dataplanetest.ClusterDataPlane("default").AsDataPlane(), gateway)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(config.Host)
	// Output: https://cluster-gateway.openchoreo-control-plane.svc.cluster.local:8444/api/proxy/dataplane/default/_cluster/default/k8s
}

// A laptop reaches the gateway through kubectl port-forward. ServerName is a name in the gateway's
// certificate, which doesn't name the laptop.
func ExampleGatewayConfigFor_portForward() {
	gateway := &rest.Config{
		Host: "https://127.0.0.1:8444",
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: "cluster-gateway.openchoreo-control-plane.svc",
			CAFile:     "ca.crt",
			CertFile:   "tls.crt",
			KeyFile:    "tls.key",
		},
	}
	config, err := helpers.GatewayConfigFor(dataplanetest.ClusterDataPlane("default").AsDataPlane(), gateway)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(config.Host, config.ServerName)
	// Output: https://127.0.0.1:8444/api/proxy/dataplane/default/_cluster/default/k8s cluster-gateway.openchoreo-control-plane.svc
}

// Register a cluster as a DataPlane.
func ExampleCredentialsFor() {
	// Usually the config comes from clientcmd or envtest.
	config, err := helpers.RESTConfigFor(dataplanetest.DataPlane("default", "other"))
	if err != nil {
		fmt.Println(err)
		return
	}
	credentials, err := helpers.CredentialsFor(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	dataPlane := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod"}}
	dataPlane.Spec.KubernetesCluster = v1alpha1.KubernetesClusterSpec{Name: "prod", Credentials: credentials}
	fmt.Println(dataPlane.Name, dataPlane.Spec.KubernetesCluster.Credentials.APIServerURL)
	// Output: prod https://127.0.0.1:1
}

// A DataPlane can store a client certificate, but no token.
func ExampleCredentialsFor_faults() {
	config := &rest.Config{
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

func ExampleKubeconfigFor() {
	kubeconfig, err := helpers.KubeconfigFor(dataplanetest.DataPlane("default", "prod"))
	if err != nil {
		fmt.Println(err)
		return
	}
	// clientcmd.WriteToFile(*kubeconfig, path) makes a file for kubectl.
	name := kubeconfig.CurrentContext
	fmt.Println(name, kubeconfig.Clusters[name].Server)
	// Output: default/prod https://127.0.0.1:1
}

func ExampleValidate() {
	dataPlane := dataplanetest.DataPlane("default", "prod", func(dp *v1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials.CACert = ""
		dp.Spec.Observer = &v1alpha1.ObserverAPI{URL: "http://observer.example.com"}
	})
	warnings, errs := helpers.Validate(dataPlane)
	for _, err := range errs {
		fmt.Println("error:", err)
	}
	for _, warning := range warnings {
		fmt.Println("warning:", warning)
	}
	// Output:
	// error: spec.kubernetesCluster.credentials.caCert: Required value: must be set
	// warning: spec.observer.url: must use https: credentials are sent only over TLS
}

// A program with its own clients detects a change of credentials.
func ExampleFingerprint() {
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	dataPlane := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	before := helpers.Fingerprint(dataPlane)

	dataPlane.Labels = map[string]string{"region": "eu"}
	fmt.Println("labelled:", helpers.Fingerprint(dataPlane) != before)
	server.As("alice")(dataPlane) // a new certificate
	fmt.Println("rotated:", helpers.Fingerprint(dataPlane) != before)
	// Output:
	// labelled: false
	// rotated: true
}

func ExampleCertificateExpiry() {
	expiry, err := helpers.CertificateExpiry(dataplanetest.DataPlane("default", "prod"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if time.Until(expiry) < 30*24*time.Hour {
		fmt.Println("renew the certificate")
	}
	// Output: renew the certificate
}
