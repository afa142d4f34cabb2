// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Remote is the connection to the cluster of one DataPlane, with the credentials that
// it had when the Remote was made. Unlike the connections of a plain rest.Config, which
// client-go keeps in a cache of the process, these can be closed. It makes none before
// its first request, and starts no goroutine before that.
//
// Clients are made of both of its parts:
//
//	client, err := kubernetes.NewForConfigAndClient(remote.Config(), remote.HTTPClient())
//
// and likewise those of client-go's dynamic, metadata and discovery packages; for
// controller-runtime, HTTPClient goes into the HTTPClient field of its options. A client
// of Config alone works, but has connections that Close does not reach, which holds for
// exec, attach and port-forward by SPDY or WebSocket too.
//
// All methods may be called at any time from any goroutine.
type Remote struct {
	key       types.NamespacedName
	config    *rest.Config
	client    *http.Client
	transport *gate
}

// ErrRemoteClosed reports a request through a [Remote] that is closed, or that was
// closed while the request was under way.
var ErrRemoteClosed = errors.New("connection to data plane is closed")

// NewRemote returns a connection to the cluster of dp. It makes no request. The caller
// must call Close when done. The error is that of [RESTConfigFor].
func NewRemote(dp *v1alpha1.DataPlane, opts ...Option) (*Remote, error) {
	creds, err := parseCredentials(dp)
	if err != nil {
		return nil, err
	}
	o := newOptions(opts)
	r := &Remote{
		key:    keyOf(dp),
		config: restConfig(creds, o),
	}
	if r.config.UserAgent == "" { // the wrappers below take it as it is
		r.config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	if o.qps > 0 {
		// One for all clients: without it, client-go makes one for each.
		r.config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(o.qps, o.burst)
	}
	tlsConfig, err := rest.TLSConfigFor(r.config)
	if err != nil {
		return nil, fmt.Errorf("data plane %s: TLS configuration: %w", r.key, err)
	}
	server, _, err := rest.DefaultServerUrlFor(r.config)
	if err != nil {
		return nil, fmt.Errorf("data plane %s: server URL: %w", r.key, err)
	}
	r.transport = newGate(r.key, strings.TrimRight(server.Path, "/"), o, tlsConfig)
	transport, err := rest.HTTPWrappersForConfig(r.config, r.transport)
	if err != nil {
		return nil, fmt.Errorf("data plane %s: HTTP transport: %w", r.key, err)
	}
	r.client = &http.Client{Transport: transport, CheckRedirect: doNotFollow}
	return r, nil
}

// Key returns namespace and name of the DataPlane.
func (r *Remote) Key() types.NamespacedName { return r.key }

// Config returns a new configuration with the whole of the credentials, which the
// caller owns. All of them share one rate limiter.
func (r *Remote) Config() *rest.Config {
	config := rest.CopyConfig(r.config)
	config.CAData = bytes.Clone(config.CAData)
	config.CertData = bytes.Clone(config.CertData)
	config.KeyData = bytes.Clone(config.KeyData)
	return config
}

// HTTPClient returns a client on the connections of r, for functions that take one
// beside a rest.Config. It refuses redirects: an API server has no reason for them, and
// they would take the client certificate elsewhere. Its own CloseIdleConnections does
// nothing; Close closes.
func (r *Remote) HTTPClient() *http.Client {
	client := *r.client
	return &client
}

// Done returns a channel that is closed as soon as r is. Whatever runs as long as the
// connection lasts, such as an informer, stops then.
func (r *Remote) Done() <-chan struct{} { return r.transport.done }

// Close ends the connection. New requests fail with [ErrRemoteClosed] at once, watches
// and other lasting requests are cut, and other requests may go on for the time that
// [WithCloseGrace] gives. Close returns when the last has ended; nothing is open then. A
// second call waits for the same. A watch that its owner neither reads nor closes makes it
// wait for the whole grace.
func (r *Remote) Close() {
	r.transport.close()
	<-r.transport.finished
}

// cut is Close without any grace.
func (r *Remote) cut() {
	r.transport.close()
	r.transport.finish()
}

// String names the DataPlane and the server, and shows no credentials.
func (r *Remote) String() string {
	return fmt.Sprintf("data plane %s at %s", r.key, r.config.Host)
}

// GoString is String: the fields hold credentials.
func (r *Remote) GoString() string { return r.String() }

const (
	// probeTimeout bounds a Probe whose context allows more.
	probeTimeout = 5 * time.Second
	// maxProbeBody is how much of an answer a Probe's error shows.
	maxProbeBody = 1 << 10
)

// Probe asks the API server whether it is ready, over the same connections as every
// other request: /readyz, and /healthz where that isn't there. It returns nil when the
// server says yes, and when it says Forbidden, since then it answers. It waits for 5 s at
// most, and for no rate limiter. API servers answer this to everybody by default, so it
// does not prove that the user is the one that is meant.
//
// [Classify] tells what an error means.
func (r *Remote) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var status int
	var body string
	for _, path := range []string{"/readyz", "/healthz"} {
		var err error
		status, body, err = r.get(ctx, path)
		if err != nil {
			return r.explain(err)
		}
		if status != http.StatusNotFound {
			break
		}
	}
	switch status {
	case http.StatusOK, http.StatusForbidden:
		return nil
	case http.StatusUnauthorized:
		return r.explain(&reachabilityError{Unauthorized, errors.New("the API server does not accept the client certificate")})
	default:
		return r.explain(&reachabilityError{NotReady, fmt.Errorf("the API server answers %d: %s", status, body)})
	}
}

func (r *Remote) get(ctx context.Context, path string) (status int, body string, err error) {
	url := strings.TrimRight(r.config.Host, "/") + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeBody))
	return resp.StatusCode, strings.TrimSpace(string(data)), err
}

// explain names the data plane, and an expired client certificate where that is what
// the server's refusal comes from.
func (r *Remote) explain(err error) error {
	reachability := Classify(err)
	if reachability == Unauthorized || reachability == TLSFailure || reachability == CertificateExpired ||
		reachability == Refused && cutByPeer(err) {
		for _, certificate := range parseChain(r.config.CertData) {
			if time.Now().After(certificate.NotAfter) {
				err = &reachabilityError{CertificateExpired, fmt.Errorf("client certificate expired at %s: %w",
					certificate.NotAfter.UTC().Format(time.RFC3339), err)}
				break
			}
		}
	}
	return fmt.Errorf("data plane %s: %w", r.key, err)
}
