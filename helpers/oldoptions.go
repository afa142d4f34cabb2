// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// This file holds what the files need that other packages replace. It goes with them.

func parseCredentials(dp *v1alpha1.DataPlane) (*rest.Config, error) { return RESTConfigFor(dp) }

func restConfig(config *rest.Config, o options) *rest.Config {
	config.UserAgent, config.QPS, config.Burst = o.userAgent, o.qps, o.burst
	config.Proxy, config.ServerName = o.proxy, o.serverName
	if o.dialTimeout != 0 || o.dialControl != nil {
		config.Dial = o.dialer().DialContext
	}
	return config
}

func parseChain(data []byte) []*x509.Certificate {
	var chain []*x509.Certificate
	for _, certificate := range certificates(data) {
		if certificate != nil {
			chain = append(chain, certificate)
		}
	}
	return chain
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

// checkHost returns what is wrong with the host and port of u, or "".
func checkHost(u *url.URL) string {
	host := u.Hostname()
	switch {
	case host == "":
		return "must name a host"
	case strings.HasPrefix(u.Host, "["):
		// A certificate can't name an address with a zone.
		if address, err := netip.ParseAddr(host); err != nil || !address.Is6() || address.Zone() != "" {
			return "must have an IPv6 address without zone in its brackets"
		}
	case strings.Contains(host, ":"):
		return "must write an IPv6 address in brackets, such as https://[::1]:6443"
	case !isIPv4(host) && !isDNSName(host):
		return "must have a DNS name or an IP address as host"
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "must have a port from 1 to 65535"
		}
	}
	return ""
}

func isIPv4(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.Is4()
}

// isDNSName takes underscores, which resolvers do, but no dot at the end, which the names
// in certificates don't have, and no number at the end, which is a misspelt address.
func isDNSName(host string) bool {
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool {
				return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
			}) {
			return false
		}
	}
	_, err := strconv.ParseUint(labels[len(labels)-1], 10, 64)
	return len(host) <= 253 && err != nil
}
