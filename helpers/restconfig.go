// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// RESTConfigFor returns a client configuration for the cluster that dp describes:
// its API server, verified against the CA in the spec, with the client certificate
// in the spec. It makes no request and reads no file.
//
// The caller owns the result. Its Timeout is 0, because client-go applies a
// timeout to watches as well; bound single requests by their context. client-go keeps
// the connections of such a configuration in a cache of the whole process, and does
// not close them when the DataPlane changes: a program that lives longer than the
// credentials, or that works with many data planes, uses [Remote] or [ClientCache].
//
// The error is [ErrNoCredentials] when dp holds no credentials at all, as an object
// of a later OpenChoreo release does, and [ErrSecretsDropped] when its secrets were
// replaced by [DropSecrets] or [Redact]. Otherwise it joins one [CredentialsError] for
// each field at fault. An expired certificate is not a fault: it is for the server
// to judge, by its own clock.
func RESTConfigFor(dp *v1alpha1.DataPlane, opts ...Option) (*rest.Config, error) {
	creds, err := parseCredentials(dp)
	if err != nil {
		return nil, err
	}
	return restConfig(creds, newOptions(opts)), nil
}

func restConfig(creds *credentials, o options) *rest.Config {
	config := &rest.Config{
		Host:      creds.server,
		UserAgent: o.userAgent,
		QPS:       o.qps,
		Burst:     o.burst,
		Proxy:     o.proxy,
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: o.serverName,
			CAData:     creds.ca,
			CertData:   creds.cert,
			KeyData:    creds.key,
		},
	}
	if o.dialTimeout != 0 || o.dialControl != nil {
		config.Dial = o.dialer().DialContext
	}
	return config
}

// KubeconfigFor returns a kubeconfig for the cluster that dp describes, as kubectl and
// clientcmd use it: one cluster, one user and one context, all named after dp, with the
// credentials inline. clientcmd.Write makes a file of it, which holds the client key.
//
// The caller owns the result. Of the options, only WithServerName can be expressed in a
// kubeconfig. The error is that of [RESTConfigFor].
func KubeconfigFor(dp *v1alpha1.DataPlane, opts ...Option) (*clientcmdapi.Config, error) {
	creds, err := parseCredentials(dp)
	if err != nil {
		return nil, err
	}
	name := dp.Name
	if name == "" {
		name = "dataplane"
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   creds.server,
		TLSServerName:            newOptions(opts).serverName,
		CertificateAuthorityData: creds.ca,
	}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: creds.cert, ClientKeyData: creds.key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return config, nil
}

// Option changes how a connection is made from a DataPlane.
type Option func(*options)

type options struct {
	userAgent        string
	qps              float32
	burst            int
	requestTimeout   time.Duration
	dialTimeout      time.Duration
	serverName       string
	proxy            func(*http.Request) (*url.URL, error)
	dialControl      func(ctx context.Context, network, address string, c syscall.RawConn) error
	closeGrace       time.Duration
	handshakeTimeout time.Duration
	pingAfter        time.Duration // without a word from the server, on HTTP/2
	pingTimeout      time.Duration
	maxIdle          time.Duration
	maxEntries       int
}

const (
	defaultQPS            = 50
	defaultBurst          = 100
	defaultRequestTimeout = 30 * time.Second
	defaultDialTimeout    = 10 * time.Second
	defaultCloseGrace     = 5 * time.Second
	defaultHandshake      = 10 * time.Second
	defaultPingAfter      = 30 * time.Second
	defaultPingTimeout    = 15 * time.Second
)

func newOptions(opts []Option) options {
	o := options{
		qps: defaultQPS, burst: defaultBurst,
		requestTimeout: defaultRequestTimeout, closeGrace: defaultCloseGrace,
		handshakeTimeout: defaultHandshake, pingAfter: defaultPingAfter, pingTimeout: defaultPingTimeout,
	}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	return o
}

// dialer returns a dialer as the options say.
func (o options) dialer() *net.Dialer {
	dialer := &net.Dialer{Timeout: o.dialTimeout, KeepAlive: 30 * time.Second, ControlContext: o.dialControl}
	if dialer.Timeout == 0 {
		dialer.Timeout = defaultDialTimeout
	}
	return dialer
}

// WithUserAgent sets the User-Agent of requests. By convention it is the name and
// version of the program, such as "my-controller/v1.2.3". Without it, or when agent
// is empty, client-go makes one from the name of the executable.
func WithUserAgent(agent string) Option {
	return func(o *options) { o.userAgent = agent }
}

// WithRateLimit limits requests to qps a second on average and burst at once. The
// default is 50 and 100. The clients of a [Remote] share one limit; each client that is
// made of a bare rest.Config has its own. A negative qps turns limiting on the client's
// side off, which suits API servers with priority and fairness; a zero qps, or a burst
// that isn't positive, keeps its default.
func WithRateLimit(qps float32, burst int) Option {
	return func(o *options) {
		if qps != 0 {
			o.qps = qps
		}
		if burst > 0 {
			o.burst = burst
		}
	}
}

// WithRequestTimeout bounds each request of a [Remote], from its start to the end of
// the response's body. The default is 30 s; 0 or less is no bound. It spares what lasts
// by nature: watches, following logs, exec, attach, port-forward and the proxy
// subresources. It has no effect on a bare rest.Config.
func WithRequestTimeout(d time.Duration) Option {
	return func(o *options) { o.requestTimeout = d }
}

// WithDialTimeout bounds the making of a TCP connection. The default is 10 s, and for a
// bare rest.Config client-go's 30 s. 0 or less keeps the default.
//
// client-go can't share connections between clients of a configuration with a dialer of
// its own, and before 0.36 it never frees what it keeps of one: on a bare rest.Config,
// use this and WithDialControl only if you make few clients, or use a [Remote].
func WithDialTimeout(d time.Duration) Option {
	return func(o *options) { o.dialTimeout = max(d, 0) }
}

// WithServerName sets the name that the API server's certificate must be valid for,
// which is also sent as TLS server name (SNI). It serves for an API server that is
// reached by an address its certificate doesn't name. By default it is the host in
// apiServerURL.
func WithServerName(name string) Option {
	return func(o *options) { o.serverName = name }
}

// WithProxy sets the function that names the proxy of a request, as
// [http.Transport.Proxy]; it must be safe for concurrent use. By default the proxy is
// what the environment says, see [http.ProxyFromEnvironment].
func WithProxy(proxy func(*http.Request) (*url.URL, error)) Option {
	return func(o *options) { o.proxy = proxy }
}

// WithDialControl calls control for each address that is about to be connected to,
// after its name was resolved, as [net.Dialer.ControlContext]; an error of it refuses
// the address. It is the place to keep a DataPlane from naming an address that the
// program can reach and its author should not. With a proxy, the address is the
// proxy's.
func WithDialControl(control func(ctx context.Context, network, address string, c syscall.RawConn) error) Option {
	return func(o *options) { o.dialControl = control }
}

// WithCloseGrace sets how long the requests of a [Remote] that are under way may go on
// after it was closed. The default is 5 s; 0 or less cuts them at once.
func WithCloseGrace(d time.Duration) Option {
	return func(o *options) { o.closeGrace = max(d, 0) }
}
