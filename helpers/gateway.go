// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// GatewayConfigFor returns a client configuration for the cluster of dp that goes through
// OpenChoreo's cluster gateway. Use it for DataPlanes of OpenChoreo v0.9 and later, which
// hold no credentials: an agent in the data plane connects to the gateway instead.
//
// The result is a copy of gateway with another Host:
// {gateway}/api/proxy/dataplane/{planeID}/{namespace}/{name}/k8s. All other settings, TLS
// among them, are those of gateway, which is not modified. A path in gateway.Host is
// kept. planeID is spec.planeID of the DataPlane, a field that this module's types lack.
// If it is "", the name of dp is used, as OpenChoreo does by default.
//
// The gateway serves unary requests only, for up to 30 s and 10 MB each. It answers 501
// to watch, log --follow, exec, attach and port-forward, so informers don't work, and 502
// while the agent is not connected.
//
// GatewayConfigFor makes no request and reads no credentials of dp. The error names the
// field that is missing or can't be part of the URL.
func GatewayConfigFor(dp *v1alpha1.DataPlane, gateway *rest.Config, planeID string) (*rest.Config, error) {
	switch {
	case dp == nil:
		return nil, errors.New("nil data plane")
	case gateway == nil:
		return nil, errors.New("nil gateway configuration")
	case gateway.Host == "":
		return nil, errors.New("gateway.Host: must be set")
	}
	server, _, err := rest.DefaultServerUrlFor(gateway)
	if err != nil { // which may quote a password in the URL
		return nil, errors.New("gateway.Host: must be a URL or host:port")
	}
	if planeID == "" {
		planeID = dp.Name
	}
	for _, segment := range []struct{ field, value string }{
		{"metadata.namespace", dp.Namespace},
		{"metadata.name", dp.Name},
		{"planeID", planeID},
	} {
		if segment.value == "" {
			return nil, fmt.Errorf("%s: must be set", segment.field)
		}
		// client-go undoes the escaping of a slash.
		if invalid := rest.IsValidPathSegmentName(segment.value); len(invalid) > 0 {
			return nil, fmt.Errorf("%s: %s", segment.field, strings.Join(invalid, ", "))
		}
	}
	config := *gateway
	config.Host = server.JoinPath("api/proxy/dataplane", url.PathEscape(planeID),
		url.PathEscape(dp.Namespace), url.PathEscape(dp.Name), "k8s").String()
	return &config, nil
}
