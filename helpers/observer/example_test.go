// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package observer_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/observer"
)

func ExampleClientFor() {
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		fmt.Println(user, "asks for", r.URL.Path)
	}))
	defer server.Close()
	dp := dataplanetest.DataPlane("default", "prod")
	dp.Spec.Observer = &v1alpha1.ObserverAPI{URL: server.URL}
	dp.Spec.Observer.Authentication.BasicAuth = v1alpha1.BasicAuthCredentials{Username: "reader", Password: "hunter2"}

	roots := x509.NewCertPool() // with a CA that the system doesn't trust
	roots.AddCert(server.Certificate())
	client, base, err := observer.ClientFor(dp, observer.Options{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.CloseIdleConnections()
	resp, err := client.Get(base.JoinPath("api/logs").String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output:
	// reader asks for /api/logs
	// 200 OK
}

// The observer of a DataPlane is optional.
func ExampleClientFor_none() {
	_, _, err := observer.ClientFor(dataplanetest.DataPlane("default", "prod"), observer.Options{})
	fmt.Println(errors.Is(err, observer.ErrNoObserver))
	// Output: true
}
