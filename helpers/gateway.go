// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	gatewaytransport "github.com/openchoreo/dataplane-sdk-go/helpers/internal/gateway"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/serverurl"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// clusterNamespace stands for the namespace of a ClusterDataPlane in the gateway's URLs.
const clusterNamespace = "_cluster"

// GatewayConfigFor returns a client configuration for the cluster of dp that goes through
// OpenChoreo's cluster gateway. DataPlanes and ClusterDataPlanes of OpenChoreo v0.9 and
// later hold no credentials: an agent in the data plane connects to the gateway instead.
//
// The result is a copy of gateway with another Host:
// {gateway}/api/proxy/dataplane/{planeID}/{namespace}/{name}/k8s. The plane ID is
// spec.planeID, or the name of dp if spec.planeID is empty; only a DataPlane may leave it empty. The
// namespace is _cluster if dp has none, as from [v1alpha1.ClusterDataPlane.AsDataPlane]. A path in
// gateway.Host is kept. QPS defaults to 50 and Burst to 100. All other settings, including TLS, are the
// same. GatewayConfigFor doesn't modify gateway. Add round trippers by the Wrap method of the result: an
// assignment to WrapTransport would remove the one that makes watches work.
//
// Since OpenChoreo v1.2, the gateway requires a client certificate. See
// https://github.com/openchoreo/dataplane-sdk-go/blob/main/docs/connecting.md for its
// address and certificates.
//
// The gateway serves requests of up to 30 s, with request bodies of up to 10 MB. Informers
// work: each watch becomes a request of 5 s, so changes arrive up to 6 s late. Lists with a Limit,
// such as those of informers, come in pages of the most recent version, since the agent and the
// gateway hold each answer in memory. The gateway answers 501 to log --follow, exec, attach and
// port-forward.
//
// An error of the gateway itself has a cause of the type ClusterGateway, or ClusterGatewayNoAgent if no
// agent may act for dp. Logs and requests outside /api/ and /apis/, whose errors client-go reads as
// text, lack the cause; remote.Classify understands both. Such an error never satisfies IsNotFound, and
// IsForbidden only for the few paths that the gateway blocks. If a watch fails with 502 or 503, the
// error satisfies IsTooManyRequests: informers try the watch again, as after a refused connection, and
// don't list. If an agent doesn't answer in time, the error has the code 504 and satisfies IsTimeout:
// informers list, and a write may have been carried out.
//
// GatewayConfigFor makes no request and reads no credentials of dp. The error names the
// field that is missing or can't be part of the URL, and errors.Is(err,
// [ErrInvalidCredentials]) is true for it. A gateway without TLS is refused. So is one with a
// token, a password or a credential plugin, such as a changed rest.InClusterConfig: the gateway
// would send the token on to the agent of each data plane, which until v1.1 sends it to its API
// server. It accepts Insecure, with which nothing verifies the gateway.
func GatewayConfigFor(dp *v1alpha1.DataPlane, gateway *rest.Config) (*rest.Config, error) {
	if dp == nil {
		return nil, dataplane.ErrNil
	}
	config, err := gatewayConfigFor(dp, gateway)
	if err != nil {
		return nil, gatewayConfigError{err}
	}
	return config, nil
}

func gatewayConfigFor(dp *v1alpha1.DataPlane, gateway *rest.Config) (*rest.Config, error) {
	if gateway == nil {
		return nil, errors.New("gateway: must be set: the data plane is reached through OpenChoreo's cluster gateway")
	}
	host, err := hostURL(gateway)
	if err != nil {
		return nil, fmt.Errorf("gateway.Host: %w", err)
	}
	server, err := serverurl.ParseAPIServer(host)
	if err != nil {
		return nil, fmt.Errorf("gateway.Host: %w", err)
	}
	for _, header := range []struct {
		field string
		set   bool
	}{
		{"BearerToken", gateway.BearerToken != ""},
		{"BearerTokenFile", gateway.BearerTokenFile != ""},
		{"Username", gateway.Username != ""},
		{"Password", gateway.Password != ""},
		{"AuthProvider", gateway.AuthProvider != nil},
		{"ExecProvider", gateway.ExecProvider != nil},
	} {
		if header.set {
			return nil, fmt.Errorf("gateway.%s: must not be set: the gateway takes client certificates, and sends tokens and passwords on to the agent of each data plane", header.field)
		}
	}
	planeID, namespace := dp.Spec.PlaneID, dp.Namespace
	if planeID == "" {
		planeID = dp.Name
	}
	if namespace == "" {
		namespace = clusterNamespace
	}
	for _, segment := range []struct{ field, value string }{
		{"metadata.namespace", namespace},
		{"metadata.name", dp.Name},
		{"spec.planeID", planeID},
	} {
		if segment.value == "" {
			return nil, fmt.Errorf("%s: must be set", segment.field)
		}
		// client-go sends an escaped slash as a slash.
		if invalid := rest.IsValidPathSegmentName(segment.value); len(invalid) > 0 {
			return nil, fmt.Errorf("%s: %s", segment.field, strings.Join(invalid, ", "))
		}
	}
	target := server.JoinPath(gatewaytransport.Path, url.PathEscape(planeID), url.PathEscape(namespace), url.PathEscape(dp.Name), "k8s")
	path := "/" + strings.TrimPrefix(target.Path, "/") // JoinPath may leave out the first slash
	config := rest.CopyConfig(gateway)
	config.Host = target.String()
	if config.QPS == 0 {
		config.QPS = defaultQPS
	}
	if config.Burst == 0 {
		config.Burst = defaultBurst
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return gatewaytransport.NewTransport(path, next) })
	return config, nil
}
