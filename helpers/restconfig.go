// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Client-side rate limits of a rest.Config, unless [WithRateLimit] says otherwise.
const (
	defaultQPS   = 50
	defaultBurst = 100
)

// RESTConfigFor returns a client configuration for the cluster that dp describes:
// its API server, verified against the CA in the spec, with the client certificate
// in the spec. It makes no request and reads no file.
//
// The caller owns the result. Its Timeout is 0, because client-go applies a
// timeout to watches as well; bound single requests by their context.
//
// The error is [ErrNoCredentials] when dp holds no credentials at all, as an object
// of a later OpenChoreo release does. Otherwise it joins one [CredentialsError] for
// each field at fault. An expired certificate is not a fault: it is for the server
// to judge, by its own clock.
func RESTConfigFor(dp *v1alpha1.DataPlane, opts ...Option) (*rest.Config, error) {
	creds, err := parseCredentials(dp)
	if err != nil {
		return nil, err
	}
	o := newOptions(opts)
	return &rest.Config{
		Host:      creds.server,
		UserAgent: o.userAgent,
		QPS:       o.qps,
		Burst:     o.burst,
		TLSClientConfig: rest.TLSClientConfig{
			ServerName: o.serverName,
			CAData:     creds.ca,
			CertData:   creds.cert,
			KeyData:    creds.key,
		},
	}, nil
}

// Option changes how a connection is made from a DataPlane.
type Option func(*options)

type options struct {
	userAgent  string
	qps        float32
	burst      int
	serverName string
}

func newOptions(opts []Option) options {
	o := options{qps: defaultQPS, burst: defaultBurst}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithUserAgent sets the User-Agent of requests. By convention it is the name and
// version of the program, such as "my-controller/v1.2.3". Without it, or when agent
// is empty, client-go makes one from the name of the executable.
func WithUserAgent(agent string) Option {
	return func(o *options) { o.userAgent = agent }
}

// WithRateLimit limits requests to qps a second on average and burst at once, over
// all clients that share the configuration's rate limiter. The default is 50 and
// 100. A negative qps turns limiting on the client's side off, which suits API
// servers with priority and fairness; a zero qps or burst keeps its default.
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

// WithServerName sets the name that the API server's certificate must be valid for,
// which is also sent as TLS server name (SNI). It serves for an API server that is
// reached by an address its certificate doesn't name. By default it is the host in
// apiServerURL.
func WithServerName(name string) Option {
	return func(o *options) { o.serverName = name }
}
