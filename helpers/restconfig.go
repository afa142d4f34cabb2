// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// RESTConfigFor returns a client configuration for the cluster that dp describes. It
// verifies the API server against the CA in the spec and authenticates with the client
// certificate in the spec. It makes no request and reads no file.
//
// The caller owns the result and may change it: set UserAgent, QPS, Proxy, ServerName or
// Impersonate, and call Wrap, as on any other rest.Config. QPS is 50 and Burst 100.
// Timeout is 0, because client-go applies it to watches too; give each request a context
// with a deadline instead.
//
// client-go caches the connections of such a configuration for the life of the process
// and doesn't close them when the DataPlane changes. Use this function in short-lived
// programs. Long-running programs use the package helpers/remote.
//
// The error is [ErrNoCredentials] if dp holds no credentials, as in later OpenChoreo
// releases, and [ErrSecretsDropped] if its secrets were redacted. Otherwise it joins one
// [CredentialsError] for each invalid field. An expired certificate is no error: the API
// server judges it by its own clock.
func RESTConfigFor(dp *v1alpha1.DataPlane) (*rest.Config, error) {
	if err := requireCredentials(dp); err != nil {
		return nil, err
	}
	m := decodeCredentials(dp.Spec.KubernetesCluster.Credentials)
	if err := errors.Join(m.faults()...); err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            m.server,
		QPS:             defaultQPS,
		Burst:           defaultBurst,
		TLSClientConfig: rest.TLSClientConfig{CAData: m.ca.data, CertData: m.cert.data, KeyData: m.key.data},
	}, nil
}

// ConfigFor returns a function that makes the client configuration of any DataPlane: by
// [RESTConfigFor] if the DataPlane holds credentials, else by [GatewayConfigFor] if it has a
// clusterAgent. For others, the function returns [ErrNoCredentials]. For a ClusterDataPlane, call
// it with [v1alpha1.ClusterDataPlane.AsDataPlane]. Pass it as ConfigFor in the options of package
// remote, for fleets of OpenChoreo v0.3 and v1.
//
// gateway is copied. If it is nil, a DataPlane that needs it is an error. Files such as
// CertFile are read by whoever uses the result, so renewed files are picked up.
func ConfigFor(gateway *rest.Config) func(*v1alpha1.DataPlane) (*rest.Config, error) {
	if gateway != nil {
		gateway = rest.CopyConfig(gateway)
	}
	return func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		if dp != nil && !hasCredentials(dp) && dp.Spec.ClusterAgent != nil {
			return GatewayConfigFor(dp, gateway)
		}
		return RESTConfigFor(dp)
	}
}

// Default rate limits of clients.
const (
	defaultQPS   = 50
	defaultBurst = 100
)

// hostURL returns config.Host as a URL. client-go accepts host:port, too.
func hostURL(config *rest.Config) (string, error) {
	if config.Host == "" || strings.Contains(config.Host, "://") {
		return config.Host, nil
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil { // err shows the host
		return "", errors.New("must be a URL or host:port")
	}
	return server.String(), nil
}
