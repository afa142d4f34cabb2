// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/serverurl"
	"github.com/openchoreo/dataplane-sdk-go/internal/redact"
)

// acceptedConfig returns the result of ConfigFor for dp, completed with the contents of files and
// the user agent, and the address of the API server. It refuses settings that a Cluster can't
// honour.
func (o Options) acceptedConfig(dp *v1alpha1.DataPlane) (*rest.Config, *url.URL, error) {
	config, err := o.ConfigFor(dp)
	switch {
	case err != nil:
		return nil, nil, err
	case config == nil:
		return nil, nil, errors.New("ConfigFor returned no configuration")
	}
	config = cloneConfig(config)
	if err := o.checkConfig(config); err != nil {
		return nil, nil, err
	}
	if err := loadTLSFiles(config); err != nil {
		return nil, nil, &reachabilityError{ReachabilityInvalidCredentials, err}
	}
	if config.UserAgent == "" { // the wrappers send it
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	server, err := serverOf(config)
	return config, server, err
}

// loadTLSFiles replaces the names of files by their contents, which can be compared. It refuses an
// empty file, such as one that is being written, and a certificate without its key: client-go would
// use the CAs of the system, or connect as an anonymous user.
func loadTLSFiles(config *rest.Config) error {
	if err := rest.LoadTLSFiles(config); err != nil {
		return fmt.Errorf("rest.Config field CAFile, CertFile or KeyFile: %w", redact.Error(err))
	}
	for _, read := range []struct {
		field, file string
		data        []byte
	}{{"CAFile", config.CAFile, config.CAData}, {"CertFile", config.CertFile, config.CertData}, {"KeyFile", config.KeyFile, config.KeyData}} {
		if read.file != "" && len(read.data) == 0 {
			return fmt.Errorf("rest.Config field %s: the file is empty", read.field)
		}
	}
	if (len(config.CertData) == 0) != (len(config.KeyData) == 0) {
		return errors.New("rest.Config fields CertData and KeyData: one is set without the other")
	}
	config.CAFile, config.CertFile, config.KeyFile = "", "", ""
	return nil
}

func (o Options) checkConfig(config *rest.Config) error {
	refused := func(field, why string) error { return fmt.Errorf("rest.Config field %s: %s", field, why) }
	const noPlugins = "credential plugins are not supported; set BearerToken or BearerTokenFile"
	switch {
	case config.ExecProvider != nil:
		return refused("ExecProvider", noPlugins)
	case config.AuthProvider != nil:
		return refused("AuthProvider", noPlugins)
	case config.Transport != nil:
		return refused("Transport", "the connection needs a transport of its own; use Wrap")
	case config.Timeout != 0:
		return refused("Timeout", "would cut watches; set Options.StallTimeout")
	case config.Dial != nil && o.DialControl != nil:
		return refused("Dial", "can't be combined with Options.DialControl")
	}
	return nil
}

// serverOf returns the address of the API server. No error shows the host, which may hold a
// password.
func serverOf(config *rest.Config) (*url.URL, error) {
	host := config.Host
	if host != "" && !strings.Contains(host, "://") {
		server, _, err := rest.DefaultServerUrlFor(config)
		if err != nil {
			return nil, errors.New("rest.Config field Host: must be a URL or host:port")
		}
		host = server.String()
	}
	server, err := serverurl.Parse(host)
	if err != nil {
		return nil, fmt.Errorf("rest.Config field Host: %w", err)
	}
	return serverurl.Canonical(server), nil
}

// cloneConfig returns a copy that shares no slice or map with config.
func cloneConfig(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.CAData, config.CertData, config.KeyData = bytes.Clone(config.CAData), bytes.Clone(config.CertData), bytes.Clone(config.KeyData)
	config.NextProtos = slices.Clone(config.NextProtos)
	config.Impersonate.Groups = slices.Clone(config.Impersonate.Groups)
	config.Impersonate.Extra = maps.Clone(config.Impersonate.Extra)
	for key, values := range config.Impersonate.Extra {
		config.Impersonate.Extra[key] = slices.Clone(values)
	}
	return config
}

// sameConfig reports whether two configurations connect to the server in the same way. It compares
// the proxies that they choose for it, and no other functions.
func sameConfig(a, b *rest.Config, server *url.URL) bool {
	connection := func(config *rest.Config) *rest.Config {
		config = rest.CopyConfig(config)
		config.Host = "" // may be another spelling
		config.Proxy, config.WrapTransport, config.Dial = nil, nil, nil
		config.WarningHandler, config.WarningHandlerWithContext = nil, nil
		config.NegotiatedSerializer = nil                        // a setting of requests; a new one is never equal
		config.RateLimiter, config.QPS, config.Burst = nil, 0, 0 // the first limiter stays
		return config
	}
	proxyA, _ := proxyOf(a, server)
	proxyB, _ := proxyOf(b, server)
	return proxyA == proxyB && reflect.DeepEqual(connection(a), connection(b))
}

var errProxyScheme = errors.New("the scheme of a proxy must be http, socks5 or socks5h")

// chooseProxy returns the function that chooses the proxy of a request: config.Proxy or, as in
// client-go, the environment's. It refuses an https proxy: net/http would use the API server's TLS
// configuration for it, and so trust the wrong CA and show the proxy the client's certificate.
func chooseProxy(config *rest.Config) func(*http.Request) (*url.URL, error) {
	choose, field := config.Proxy, "rest.Config field Proxy"
	if choose == nil {
		choose, field = utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment), "proxy of the environment"
	}
	return func(req *http.Request) (*url.URL, error) {
		proxy, err := choose(req)
		if err == nil && proxy != nil && !slices.Contains([]string{"http", "socks5", "socks5h"}, proxy.Scheme) {
			return nil, fmt.Errorf("%s: %w", field, errProxyScheme)
		}
		return proxy, err
	}
}

// proxyOf returns the proxy of requests to the server, as text to compare, and the error of
// choosing it.
func proxyOf(config *rest.Config, server *url.URL) (string, error) {
	proxy, err := chooseProxy(config)(&http.Request{Method: http.MethodGet, URL: server, Header: http.Header{}})
	return fmt.Sprint(proxy, err), err
}
