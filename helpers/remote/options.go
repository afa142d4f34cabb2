// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/serverurl"
)

// Options change how a [Cluster] connects. The zero value is good for most programs. A
// duration of 0 is its default; a negative one is no limit, or no grace.
type Options struct {
	// ConfigFor is the one place where a DataPlane becomes a connection; the default is
	// [helpers.RESTConfigFor]. Set it to add what the spec doesn't hold, such as
	// impersonation, a bearer token, a proxy, a server name or WrapTransport, or to
	// connect through OpenChoreo's cluster gateway with [helpers.ConfigFor].
	//
	// NewCluster and Update call it. A Fleet calls Update when the DataPlane changes and at
	// each resync of the informer, and so does the Handler of a [Cache]. A request calls it for
	// the same DataPlane, and reads the files that its result names, if a minute has passed
	// since, or if the API server refused the credentials, then at most every 10 s. So
	// credentials from elsewhere, such as certificates that cert-manager renews or a token in
	// a Secret, take effect as by Update. A read that was refused is then sent once more by
	// itself, a write isn't. If ConfigFor fails then, the connection stays as it was, and a
	// request that was refused has its error too. It never runs twice at once for one Cluster.
	// client-go reads a BearerTokenFile again by itself.
	//
	// ConfigFor must be quick, must make no request, and must not call the Cluster or the
	// Cache. It must return the same until the credentials change: another token at each call
	// would end all watches every minute. ExecProvider, AuthProvider, Transport and Timeout
	// are refused with an error that names the field. An http URL is accepted, and sends
	// tokens in clear text.
	ConfigFor func(*v1alpha1.DataPlane) (*rest.Config, error)

	// StallTimeout ends a unary request after this long without a byte in either direction.
	// It doesn't cut a long list over a slow network. The kernel takes an upload of a few MB
	// at once, which then has this long to reach the API server: set more where that is too
	// little. A watch that begins with all objects (sendInitialEvents, with bookmarks) has the same
	// limit until it has sent them. The default is 40 s, more than the 30 s of OpenChoreo's cluster gateway.
	StallTimeout time.Duration
	// HeaderTimeout ends a watch, or another lasting request, if its response headers take
	// longer than this. After them, and after initial events, there is no limit. The default
	// is 40 s.
	HeaderTimeout time.Duration
	// DialTimeout limits how long a TCP connection may take. The addresses of a name share it.
	// The default is 10 s.
	DialTimeout time.Duration
	// Grace is how long requests under way may go on after Close or a rotation. After a
	// rotation, a watch may first send all its initial events, for a minute at most. The
	// default is 5 s.
	Grace time.Duration

	// DialControl is called with each resolved address before a connection to it is made; an
	// error refuses the address. Use it where the authors of DataPlanes must not reach all
	// that the program can reach. With a proxy, the address is the proxy's. See
	// [net.Dialer.ControlContext].
	//
	// It covers clients that connect through HTTPClient, and SPDY clients that are made as
	// [Cluster.Config] shows. It doesn't cover other clients that are made of Config alone,
	// such as WebSocket clients, which take no dialer.
	DialControl func(ctx context.Context, network, address string, c syscall.RawConn) error
	// OnRotate is called after new credentials were put in place, by the goroutine of the Update
	// or of the request that noticed them. It may be called several times at once.
	OnRotate func(key types.NamespacedName)

	pingAfter, pingTimeout, handshakeTimeout, initialEvents, askEvery, askAfterRefusal time.Duration // for tests
}

func (o Options) withDefaults() Options {
	if o.ConfigFor == nil {
		o.ConfigFor = helpers.RESTConfigFor
	}
	for _, limit := range []struct {
		value             *time.Duration
		defaultTime, none time.Duration
	}{
		{&o.StallTimeout, 40 * time.Second, math.MaxInt64},
		{&o.HeaderTimeout, 40 * time.Second, math.MaxInt64},
		{&o.DialTimeout, 10 * time.Second, 0},
		{&o.Grace, 5 * time.Second, 0},
		{&o.handshakeTimeout, 10 * time.Second, 0},
		// How long a rotation lets the initial events of a watch go on.
		{&o.initialEvents, time.Minute, 0},
		// How often requests ask ConfigFor again; the second, after the credentials were refused.
		{&o.askEvery, time.Minute, 0},
		{&o.askAfterRefusal, 10 * time.Second, 0},
		// A peer that is gone without a word is found out after the sum of these.
		{&o.pingAfter, 30 * time.Second, 0},
		{&o.pingTimeout, 15 * time.Second, 0},
	} {
		switch {
		case *limit.value == 0:
			*limit.value = limit.defaultTime
		case *limit.value < 0:
			*limit.value = limit.none
		}
	}
	return o
}

// checkConfig refuses what a Cluster can't honour.
func checkConfig(config *rest.Config, options Options) error {
	refused := func(field, why string) error { return fmt.Errorf("rest.Config field %s: %s", field, why) }
	switch {
	case config.ExecProvider != nil:
		return refused("ExecProvider", "credential plugins are not supported; set BearerToken or BearerTokenFile")
	case config.AuthProvider != nil:
		return refused("AuthProvider", "credential plugins are not supported; set BearerToken or BearerTokenFile")
	case config.Transport != nil:
		return refused("Transport", "the connection needs a transport of its own; set WrapTransport")
	case config.Timeout != 0:
		return refused("Timeout", "would cut watches; set Options.StallTimeout")
	case config.Dial != nil && options.DialControl != nil:
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

// cloneConfig returns a copy that shares nothing that its owner could change.
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

// sameConfig compares what two configurations for the same server say about connections,
// and the proxies that they choose for it. Other functions are not compared.
func sameConfig(a, b *rest.Config, server *url.URL) bool {
	if proxyOf(a, server) != proxyOf(b, server) {
		return false
	}
	connection := func(config *rest.Config) *rest.Config {
		config = rest.CopyConfig(config)
		config.Host = "" // which may be spelled in another way
		config.Proxy, config.WrapTransport, config.Dial = nil, nil, nil
		config.WarningHandler, config.WarningHandlerWithContext = nil, nil
		config.NegotiatedSerializer = nil                        // of requests; one made anew is never equal
		config.RateLimiter, config.QPS, config.Burst = nil, 0, 0 // the first ones stay
		return config
	}
	return reflect.DeepEqual(connection(a), connection(b))
}

func proxyOf(config *rest.Config, server *url.URL) string {
	if config.Proxy == nil {
		return ""
	}
	proxy, err := config.Proxy(requestTo(server))
	if proxy == nil || err != nil {
		return fmt.Sprint(err)
	}
	return proxy.String()
}

func requestTo(server *url.URL) *http.Request {
	return &http.Request{Method: http.MethodGet, URL: server, Header: http.Header{}}
}

// checkProxy refuses a proxy that most requests to the server would be refused for.
func checkProxy(config *rest.Config, server *url.URL) error {
	if _, err := chooseProxy(config)(requestTo(server)); errors.Is(err, errProxyScheme) {
		return err
	}
	return nil
}

var errProxyScheme = errors.New("the scheme of a proxy must be http, socks5 or socks5h")

// chooseProxy returns what chooses the proxy of a request: config or, as in client-go, the
// environment. net/http would connect to an https proxy with the TLS configuration of the
// API server: it would trust the proxy's certificate by the wrong CA, and show it the
// client's.
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

// newLimiter returns the limiter that client-go would make for one client.
func newLimiter(config *rest.Config) flowcontrol.RateLimiter {
	qps, burst := config.QPS, config.Burst
	switch {
	case config.RateLimiter != nil:
		return config.RateLimiter
	case qps < 0:
		return nil
	case qps == 0:
		qps = rest.DefaultQPS
	}
	if burst <= 0 {
		burst = rest.DefaultBurst
	}
	return flowcontrol.NewTokenBucketRateLimiter(qps, burst)
}

// newTransport returns a transport that dials by dial.
func (o Options) newTransport(config *rest.Config, dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		Proxy:                  chooseProxy(config),
		OnProxyConnectResponse: checkProxyResponse,
		DialContext:            dial,
		DisableCompression:     config.DisableCompression,
		TLSHandshakeTimeout:    o.handshakeTimeout,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConnsPerHost:    25,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: o.pingAfter, PingTimeout: o.pingTimeout},
	}
}

// checkProxyResponse keeps the status of a proxy's refusal, of which net/http only keeps
// the text.
func checkProxyResponse(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &reachabilityError{ReachabilityProxyRefused, errors.New("the proxy does not connect: " + resp.Status)}
}
