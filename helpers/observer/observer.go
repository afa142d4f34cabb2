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
	"syscall"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// ErrNoObserver reports a DataPlane without spec.observer.
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
// shares no connections with other clients; http.Client.CloseIdleConnections closes them.
//
// The error is [ErrNoObserver], [helpers.ErrSecretsDropped], or names spec.observer.url
// and shows no part of it. ClientFor makes no request.
func ClientFor(dp *v1alpha1.DataPlane, opts Options) (*http.Client, *url.URL, error) {
	if dp == nil {
		return nil, nil, errors.New("nil data plane")
	}
	if dp.Spec.Observer == nil {
		return nil, nil, ErrNoObserver
	}
	auth := dp.Spec.Observer.Authentication.BasicAuth
	if auth.Password == v1alpha1.Redacted {
		return nil, nil, fmt.Errorf("spec.observer.authentication.basicAuth.password: %w", helpers.ErrSecretsDropped)
	}
	base, err := parse(dp.Spec.Observer.URL, opts.AllowHTTP)
	if err != nil {
		return nil, nil, fmt.Errorf("spec.observer.url: %w", err)
	}
	return &http.Client{
		Transport: &transport{
			next: opts.transport(base.Scheme), scheme: base.Scheme, host: base.Host,
			// A closure, so that formatting the transport doesn't show the password.
			authenticate: func(req *http.Request) { req.SetBasicAuth(auth.Username, auth.Password) },
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, base, nil
}

func parse(text string, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil, errors.New("must be set")
	case err != nil: // which shows the text
		return nil, errors.New("can't be parsed; want a URL such as https://observer.example.com")
	case u.Scheme == "http" && !allowHTTP:
		return nil, errors.New("must start with https://, because http sends the password unencrypted (Options.AllowHTTP accepts that)")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("must start with https://")
	case u.User != nil:
		return nil, errors.New("must not contain a user name or password; spec.observer.authentication does")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("must not contain a query or fragment")
	case u.Hostname() == "":
		return nil, errors.New("must name a host")
	}
	return u, nil
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
		ForceAttemptHTTP2:   true, // A dialer or a TLS configuration turns it off.
		// A dead connection is detected within 45 s, and not used again.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// transport adds credentials to requests for one origin.
type transport struct {
	next         *http.Transport
	scheme, host string
	authenticate func(*http.Request)
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context()) // A RoundTripper must not modify its request.
	if req.URL.Scheme == t.scheme && req.URL.Host == t.host && (req.Host == "" || req.Host == t.host) {
		t.authenticate(req)
	}
	return t.next.RoundTrip(req)
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *transport) CloseIdleConnections() { t.next.CloseIdleConnections() }
