// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package observer makes HTTP clients for the observer of a DataPlane, which serves the
// logs and metrics of its workloads.
//
//	client, base, err := observer.ClientFor(dp, observer.Options{})
//	if err != nil {
//		return err // observer.ErrNoObserver if dp has none
//	}
//	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("api/logs").String(), nil)
//	if err != nil {
//		return err
//	}
//	resp, err := client.Do(req) // sends the user name and password of dp
package observer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/serverurl"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// ErrNoObserver reports a DataPlane without spec.observer. DataPlanes of OpenChoreo v1 have none.
var ErrNoObserver = errors.New("data plane has no observer")

// Options change how a client connects. The zero value is good.
type Options struct {
	// TLS is cloned. By default the client verifies the observer's certificate against the
	// certificate authorities of the system.
	TLS *tls.Config
	// Proxy returns the proxy for a request, as [http.Transport.Proxy] does. By default
	// it is [http.ProxyFromEnvironment]. It isn't used if the observer's URL is http.
	Proxy func(*http.Request) (*url.URL, error)
	// AllowHTTP accepts an observer whose URL is http. The client sends the password
	// unencrypted, directly and never through a proxy.
	AllowHTTP bool
	// DialTimeout limits how long a TCP connection may take. By default it is 10 s.
	DialTimeout time.Duration
	// DialControl is called with each resolved address before the client connects to it,
	// as [net.Dialer.ControlContext] is; if it returns an error, the client doesn't connect.
	// With a proxy, the address is the proxy's.
	DialControl func(ctx context.Context, network, address string, c syscall.RawConn) error
}

// ClientFor returns a client for the observer of dp, and the observer's base URL, to which
// callers add paths with [url.URL.JoinPath]. The client sends the user name and password
// of dp, by basic authentication, to the scheme, host and port of that URL only. It returns
// redirects and doesn't follow them. It has no timeout: limit requests by their context. It
// shares no connections with other clients; http.Client.CloseIdleConnections closes its own. It
// keeps the URL and the password that dp has now: make another client when spec.observer changes.
//
// The error is [ErrNoObserver], [helpers.ErrSecretsDropped], or names the invalid field of
// spec.observer, without its value. ClientFor makes no request.
func ClientFor(dp *v1alpha1.DataPlane, opts Options) (*http.Client, *url.URL, error) {
	if dp == nil {
		return nil, nil, dataplane.ErrNil
	}
	if dp.Spec.Observer == nil {
		return nil, nil, ErrNoObserver
	}
	auth := dp.Spec.Observer.Authentication.BasicAuth
	if auth.Password == v1alpha1.Redacted {
		return nil, nil, fmt.Errorf("spec.observer.authentication.basicAuth.password: %w", helpers.ErrSecretsDropped)
	}
	if strings.Contains(auth.Username, ":") {
		return nil, nil, errors.New("spec.observer.authentication.basicAuth.username: must not contain a colon, " +
			"which ends a user name in basic authentication")
	}
	parse := serverurl.ParseHTTPS
	if opts.AllowHTTP {
		parse = serverurl.Parse
	}
	base, err := parse(dp.Spec.Observer.URL)
	switch {
	case errors.Is(err, serverurl.ErrInsecure):
		return nil, nil, fmt.Errorf("spec.observer.url: %w (Options.AllowHTTP accepts http)", err)
	case err != nil:
		return nil, nil, fmt.Errorf("spec.observer.url: %w", err)
	}
	return &http.Client{
		Transport: &transport{
			next: opts.transport(base.Scheme), origin: originOf(base),
			// A closure, so that formatting the transport doesn't show the password.
			authenticate: func(req *http.Request) { req.SetBasicAuth(auth.Username, auth.Password) },
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, base, nil
}

func (o Options) transport(scheme string) *http.Transport {
	dialer := &net.Dialer{Timeout: o.DialTimeout, ControlContext: o.DialControl}
	if dialer.Timeout <= 0 {
		dialer.Timeout = 10 * time.Second
	}
	proxy := o.Proxy
	switch {
	case scheme == "http":
		proxy = nil
	case proxy == nil:
		proxy = http.ProxyFromEnvironment
	}
	return &http.Transport{
		Proxy:               proxy,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     o.TLS.Clone(),
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true, // A dialer or a TLS configuration disables HTTP/2 otherwise.
		// A dead connection is detected within 45 s, and not used again.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// transport adds credentials to requests for one origin.
type transport struct {
	next         *http.Transport
	origin       url.URL
	authenticate func(*http.Request)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context()) // A RoundTripper must not modify its request.
	if t.isOrigin(req.URL) && (req.Host == "" || t.isOrigin(&url.URL{Scheme: req.URL.Scheme, Host: req.Host})) {
		t.authenticate(req)
	}
	return t.next.RoundTrip(req)
}

func (t *transport) isOrigin(u *url.URL) bool { return originOf(u) == t.origin }

// originOf returns the scheme, host and port of a URL in canonical form.
func originOf(u *url.URL) url.URL {
	return *serverurl.Canonical(&url.URL{Scheme: u.Scheme, Host: u.Host})
}

// CloseIdleConnections is called by http.Client.CloseIdleConnections.
func (t *transport) CloseIdleConnections() { t.next.CloseIdleConnections() }
