// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// ErrNoObserver reports a DataPlane without spec.observer.
var ErrNoObserver = errors.New("data plane has no observer")

const fieldObserverURL = "spec.observer.url"

// ObserverClientFor returns a client for the observer of dp and the observer's base
// URL, to which the caller joins paths by [url.URL.JoinPath]. The client sends the
// user name and password in the spec by HTTP basic authentication to the scheme, host
// and port of that URL and to nothing else; it does not follow redirects, whose
// response the caller gets instead. It verifies the observer's certificate against the
// authorities of the machine. It has connections of its own, which CloseIdleConnections
// closes, and no timeout: bound requests by their context.
//
// Of the options, WithUserAgent, WithDialTimeout, WithDialControl and WithProxy apply.
// The error is [ErrNoObserver], [ErrSecretsDropped], or names spec.observer.url and shows
// no part of it. No request is made.
func ObserverClientFor(dp *v1alpha1.DataPlane, opts ...Option) (*http.Client, *url.URL, error) {
	if dp == nil || dp.Spec.Observer == nil {
		return nil, nil, ErrNoObserver
	}
	if dp.Spec.Observer.Authentication.BasicAuth.Password == v1alpha1.Redacted {
		return nil, nil, ErrSecretsDropped
	}
	base, err := parseObserverURL(dp.Spec.Observer.URL)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", fieldObserverURL, err)
	}
	o := newOptions(opts)
	transport := newHTTPTransport(o)
	transport.DialContext = o.dialer().DialContext
	transport.ForceAttemptHTTP2 = true // not by itself with a dialer
	auth := dp.Spec.Observer.Authentication.BasicAuth
	return &http.Client{
		Transport: &observerTransport{
			next: transport, scheme: base.Scheme, host: base.Host, userAgent: o.userAgent,
			// In a closure, where formatting the transport doesn't find it.
			authenticate: func(req *http.Request) { req.SetBasicAuth(auth.Username, auth.Password) },
		},
		CheckRedirect: doNotFollow,
	}, base, nil
}

func parseObserverURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil, errors.New("must be set")
	case err != nil:
		return nil, errors.New("can't be parsed; want a URL such as https://observer.example.com")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("must start with https:// or http://")
	case u.User != nil:
		return nil, errors.New("must not contain a user name or password; spec.observer.authentication is for those")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("must not contain a query or fragment")
	}
	if explanation := checkHost(u); explanation != "" {
		return nil, errors.New(explanation)
	}
	return u, nil
}

// observerTransport adds credentials to requests for one origin.
type observerTransport struct {
	next                    *http.Transport
	scheme, host, userAgent string
	authenticate            func(*http.Request)
}

func (t *observerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	// A RoundTripper must not change the request that it is given.
	req = req.Clone(req.Context())
	if req.URL.Scheme == t.scheme && req.URL.Host == t.host && (req.Host == "" || req.Host == t.host) {
		t.authenticate(req)
	}
	if t.userAgent != "" && req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", t.userAgent)
	}
	return t.next.RoundTrip(req)
}

// CloseIdleConnections is what http.Client's method of this name calls.
func (t *observerTransport) CloseIdleConnections() { t.next.CloseIdleConnections() }
