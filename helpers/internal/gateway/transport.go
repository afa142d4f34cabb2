// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway carries the requests of client-go through OpenChoreo's cluster gateway:
// it makes watches pass, and turns the gateway's own answers into errors that don't look like
// an API server's.
//
//	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return gateway.NewTransport(base, next) })
package gateway

import (
	"net/http"
	"net/url"
	"strconv"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// watchSeconds is how long a watch through the gateway lasts. Reflectors take a watch of
// less than a second for a failure, and the gateway gives up after 30 s.
const watchSeconds = 5

// transport makes watches pass the gateway. The gateway and its agents carry one answer at a
// time: the agent reads it to its end before it sends the first byte, within 30 s. They
// refuse what looks like a stream, and know a watch by the text watch=true. An API server
// takes watch=1 for the same, and ends a watch after timeoutSeconds. So a watch of 5 s is
// an ordinary request, and informers resume it where it ended, without a list.
//
// It costs a request every 5 s for each informer, some log lines of the gateway and the agent
// for each, and a change is seen up to 6 s late.
type transport struct {
	next     http.RoundTripper
	basePath string
}

// NewTransport returns a round tripper for the requests to one data plane, whose URLs begin
// with the path basePath. It starts no goroutine and keeps nothing.
func NewTransport(basePath string, next http.RoundTripper) http.RoundTripper {
	return &transport{next, basePath}
}

// WrappedRoundTripper is how apimachinery's net package finds the transport below.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

// CloseIdleConnections is what http.Client's method of this name calls.
func (t *transport) CloseIdleConnections() { utilnet.CloseIdleConnectionsFor(t.next) }

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if info := requestinfo.Of(req, t.basePath); info.InitialEvents {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return refuseInitialEvents(req), nil
	} else if info.Lifetime == requestinfo.Watch {
		req = bounded(req)
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, explain(err)
	}
	return t.translate(req, resp), nil
}

// bounded returns a watch that ends by itself, and isn't refused by its text.
func bounded(req *http.Request) *http.Request {
	query := req.URL.Query()
	if query.Has("watch") { // the old paths of watches need no parameter
		query.Set("watch", "1")
	}
	// An API server takes 0 for "not set", and refuses what is no number.
	seconds, err := strconv.ParseInt(query.Get("timeoutSeconds"), 10, 64)
	if !query.Has("timeoutSeconds") || err == nil && (seconds == 0 || seconds > watchSeconds) {
		query.Set("timeoutSeconds", strconv.Itoa(watchSeconds))
	}
	changed := new(http.Request)
	*changed = *req // a round tripper must not modify the request
	changed.URL = new(url.URL)
	*changed.URL = *req.URL
	changed.URL.RawQuery = query.Encode()
	return changed
}
