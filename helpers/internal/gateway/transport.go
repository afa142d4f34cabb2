// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway carries the requests of client-go through OpenChoreo's cluster gateway:
// it makes watches pass, and turns the gateway's own answers into errors that can't be mistaken
// for an API server's.
//
//	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return gateway.NewTransport(base, next) })
package gateway

import (
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// watchSeconds is the duration of a watch through the gateway. Reflectors treat a watch of less
// than a second as a failure, and the gateway gives up after 30 s.
const watchSeconds = 5

// transport makes watches pass the gateway. The agent reads a whole answer, within 30 s, before it
// sends the first byte. Gateway and agent refuse requests that look like streams, and recognize a
// watch by the text watch=true. An API server accepts watch=1 too, and ends a watch after
// timeoutSeconds. So a watch of 5 s passes as an ordinary request, and informers resume it where it
// ended, without a list.
//
// The costs for each informer are a request every 5 s, with some log lines of the gateway and the
// agent, and changes that arrive up to 6 s late.
type transport struct {
	next     http.RoundTripper
	basePath string
}

// NewTransport returns a round tripper for the requests to one data plane, whose URLs begin
// with the path basePath. It starts no goroutine and keeps no state.
func NewTransport(basePath string, next http.RoundTripper) http.RoundTripper {
	return &transport{next, basePath}
}

// WrappedRoundTripper lets apimachinery's net package find the wrapped transport.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }

// CloseIdleConnections is called by http.Client's method of the same name.
func (t *transport) CloseIdleConnections() { utilnet.CloseIdleConnectionsFor(t.next) }

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	switch info := requestinfo.Of(req, t.basePath); {
	case info.InitialEvents:
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return refuseInitialEvents(req), nil
	case info.Lifetime == requestinfo.Watch:
		req = bounded(req)
	case info.Lifetime == requestinfo.Unary && req.Method == http.MethodGet:
		req = paged(req)
	}
	var reused atomic.Bool
	resp, err := t.next.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { reused.Store(false) }, // net/http may try again on another one
		GotConn: func(info httptrace.GotConnInfo) { reused.Store(info.Reused) },
	})))
	if err != nil {
		return nil, explain(err, reused.Load())
	}
	if resp == nil { // a wrapper's fault, which net/http reports
		return nil, nil //nolint:nilnil // as the wrapper
	}
	return t.translate(req, resp), nil
}

// bounded returns the watch with a time limit, in a spelling that the gateway accepts.
func bounded(req *http.Request) *http.Request {
	query := req.URL.Query()
	if query.Has("watch") { // the old paths of watches need no parameter
		query.Set("watch", "1")
	}
	// An API server treats 0 as unset, and rejects values that aren't numbers.
	seconds, err := strconv.ParseInt(query.Get("timeoutSeconds"), 10, 64)
	if !query.Has("timeoutSeconds") || err == nil && (seconds == 0 || seconds > watchSeconds) {
		query.Set("timeoutSeconds", strconv.Itoa(watchSeconds))
	}
	return withQuery(req, query)
}

// paged returns a list with a limit so that the API server heeds the limit, at the most recent version.
// Reflectors list with a limit and resourceVersion=0, for which API servers ignore the limit and answer
// with all objects. With a later version, they would list exactly that one, which may be too old to
// watch from. The agent needs several times the size of an answer, and has 256 MiB of memory by default.
func paged(req *http.Request) *http.Request {
	query := req.URL.Query()
	if query.Get("limit") == "" || query.Has("continue") || !query.Has("resourceVersion") || query.Has("resourceVersionMatch") {
		return req
	}
	query.Del("resourceVersion")
	return withQuery(req, query)
}

func withQuery(req *http.Request, query url.Values) *http.Request {
	changed := new(http.Request)
	*changed = *req // a round tripper must not modify the request
	changed.URL = new(url.URL)
	*changed.URL = *req.URL
	changed.URL.RawQuery = query.Encode()
	return changed
}
