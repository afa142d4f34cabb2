// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/gateway"
)

const (
	probeTimeout = 5 * time.Second // how long a Probe may take beyond Options.DialTimeout
	maxProbeBody = 64 << 10
	// maxAnswerText limits the bytes of an answer that the error of a Probe and a Status show.
	maxAnswerText = 1 << 10
)

// Probe asks the API server whether it is ready, over the connections of all other requests: at
// /readyz, or at /healthz if /readyz is NotFound. It returns nil if the server answers ok or
// Forbidden, but an error if an API server answers in place of the cluster gateway. By default, API
// servers answer ok to everybody, so success doesn't prove that they know the user. [Classify] turns
// an error into a [Reachability].
//
// Probe takes at most Options.DialTimeout, within which all addresses of a name are tried, and 5 s
// more; with a negative DialTimeout, only ctx and the limits of all requests, such as StallTimeout,
// end it. With a shorter context, it may not come to the second address. Probe ignores the rate limiter, and
// connects even after a slow failure to connect. If a connection that was used before is cut or
// lost, Probe tries again once on a new one.
func (c *Cluster) Probe(ctx context.Context) error {
	var used *session // by the last request
	ctx = context.WithValue(ctx, probeKey{}, &used)
	if limit := c.options.DialTimeout; limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, time.Now().Add(limit).Add(probeTimeout)) // the sum may be too long for a Duration
		defer cancel()
	}
	late := ctx.Err() != nil
	answer, err := c.get(ctx, "/readyz")
	if err == nil && answer.status == http.StatusNotFound {
		answer, err = c.get(ctx, "/healthz")
	}
	switch status, body := answer.status, answer.text; {
	case err != nil:
	case answer.ofGateway:
		err = &reachabilityError{classifyGateway(status, body), errors.New(body)}
	case isNotGateway(c.server.Path, status, body):
		err = &reachabilityError{ReachabilityNotReady, fmt.Errorf("the server answers %d: %s, so it is not the cluster gateway", status, body)}
	case status == http.StatusOK && body == "ok", status == http.StatusForbidden:
		return nil
	case status == http.StatusUnauthorized:
		text := notAccepted
		if _, asked, found := strings.Cut(body, askedAgain); found {
			text += askedAgain + asked
		}
		err = &reachabilityError{ReachabilityUnauthorized, errors.New(text)}
	case status == http.StatusOK:
		err = &reachabilityError{ReachabilityNotReady, fmt.Errorf("the server answers %q where an API server answers ok", body)}
	default:
		err = &reachabilityError{ReachabilityNotReady, fmt.Errorf("the API server answers %d: %s", status, body)}
	}
	err = c.wrap(c.blameCertificate(err))
	if current, _ := c.use(); !late && used == current { // as for other requests
		c.fail(err)
	}
	return err
}

// isNotGateway reports the answer of an API server in place of the cluster gateway. Such a server takes
// the gateway's path for that of a resource "dataplane" or, if Host has a path, for one that belongs to
// no API. Behind the gateway, an API server serves /readyz or /healthz, and never sees the gateway's path.
func isNotGateway(path string, status int, body string) bool {
	switch {
	case !strings.Contains(path, gateway.Path):
		return false
	case status == http.StatusForbidden:
		return strings.Contains(body, `resource "dataplane/`) || strings.Contains(body, gateway.Path)
	}
	return status == http.StatusNotFound
}

const notAccepted = "the API server does not accept the credentials"

// probeKey is a key in the context of the requests of a Probe. Its value is where a request stores the
// session that it was sent on.
type probeKey struct{}

func isProbe(ctx context.Context) bool { return ctx.Value(probeKey{}) != nil }

type answer struct {
	status    int
	text      string
	ofGateway bool // the gateway's, not the API server's
}

// get requests a path. If a reused connection is cut, it tries again on a new one, on which the
// server may refuse credentials that it accepted before.
func (c *Cluster) get(ctx context.Context, path string) (answer, error) {
	var reused atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused.Store(info.Reused) },
	})
	got, err := c.getOnce(traced, path)
	if err != nil && reused.Load() && (cutByPeer(err) || isLost(err)) {
		c.HTTPClient().CloseIdleConnections()
		return c.getOnce(ctx, path)
	}
	return got, err
}

func (c *Cluster) getOnce(ctx context.Context, path string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.JoinPath(path).String(), nil)
	if err != nil {
		return answer{}, err
	}
	resp, err := c.HTTPClient().Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeBody))
	text := string(body)
	var status metav1.Status
	if json.Unmarshal(body, &status) == nil && status.Kind == "Status" {
		text = status.Message
	}
	return answer{resp.StatusCode, shorten(text), resp.Header.Get(gateway.Header) != ""}, err
}

// shorten returns as much of an answer as an error shows.
func shorten(text string) string {
	return strings.TrimSpace(strings.ToValidUTF8(text[:min(len(text), maxAnswerText)], ""))
}

// blameCertificate adds to a refusal that the client certificate isn't valid now. Servers express
// such a refusal in several ways.
func (c *Cluster) blameCertificate(err error) error {
	s, _ := c.use()
	if s == nil || !refused(nil, err) {
		return err
	}
	if fault := s.certificateFault(); fault != "" {
		return &reachabilityError{ReachabilityCertificateExpired, fmt.Errorf("%s: %w", fault, err)}
	}
	return err
}
