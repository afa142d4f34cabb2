// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/gateway"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// Status describes the connections of a [Cache] at one moment. It holds no credentials.
type Status struct {
	// Planes lists the data planes that have a client, or for which the last Get could not build
	// one. They are sorted by namespace and name.
	Planes []PlaneStatus `json:"planes"`
}

// PlaneStatus describes the connection of a [Cache] to one data plane.
type PlaneStatus struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	ConnectionStatus
}

// ConnectionStatus describes the connection of a [Cluster], as far as its requests have shown. It
// holds no credentials.
type ConnectionStatus struct {
	// Reachability is ReachabilityReachable if the last success is newer than the last error, else
	// LastErrorReachability. It is empty before the first request. Time alone doesn't change it: a
	// data plane without requests keeps its last value.
	Reachability Reachability `json:"reachability,omitempty"`
	// LastSuccess is when the API server last answered, or sent an event of a watch or a part of a
	// stream. Answers that refuse one request, such as Forbidden, NotFound or Conflict, are successes;
	// answers of OpenChoreo's cluster gateway are not. An answer with a code of 500 or more is an error
	// even if it concerns one request, such as that of a webhook that fails.
	LastSuccess time.Time `json:"lastSuccess,omitzero"`
	// LastError is the last error of a request, of a Probe, or of credentials that can't be used,
	// LastErrorTime when it occurred, and LastErrorReachability the result of [Classify] for it. A
	// request that fails without an attempt to connect counts too; see Options.DialTimeout. A
	// request that ends because its caller cancels it, or by a rotation or Close, is no error here.
	LastError             string       `json:"lastError,omitempty"`
	LastErrorTime         time.Time    `json:"lastErrorTime,omitzero"`
	LastErrorReachability Reachability `json:"lastErrorReachability,omitempty"`
	// LastRotation is when the credentials were last rotated; zero if they weren't.
	LastRotation time.Time `json:"lastRotation,omitzero"`
	// CertificateExpiry is the earliest expiry of the client certificate in use and its
	// intermediates; zero without a client certificate. Through OpenChoreo's cluster gateway, the
	// client certificate is your program's.
	CertificateExpiry time.Time `json:"certificateExpiry,omitzero"`
}

// outcomes are the last results of requests.
type outcomes struct {
	succeededAt atomic.Int64 // in Unix nanoseconds; 0 for never
	failure     atomic.Pointer[failure]
	failing     atomic.Bool // the failure is newer than the success; clocks can jump back
}

type failure struct {
	at           time.Time
	text         string
	reachability Reachability
}

func (o *outcomes) succeed() {
	o.succeededAt.Store(time.Now().UnixNano())
	o.failing.Store(false)
}

func (o *outcomes) fail(f *failure) {
	o.failure.Store(f)
	o.failing.Store(true)
}

// fail keeps an error, unless it says nothing about the data plane.
func (t *target) fail(err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrRotated) || errors.Is(err, ErrClosed) {
		return
	}
	t.outcomes.fail(t.failureOf(err))
}

func (t *target) failureOf(err error) *failure {
	return &failure{time.Now(), t.wrap(err).Error(), Classify(err)}
}

// status returns the part of a ConnectionStatus that the outcomes show.
func (o *outcomes) status() ConnectionStatus {
	var s ConnectionStatus
	if at := o.succeededAt.Load(); at != 0 {
		s.LastSuccess, s.Reachability = time.Unix(0, at).UTC(), ReachabilityReachable
	}
	if f := o.failure.Load(); f != nil {
		s.LastError, s.LastErrorTime, s.LastErrorReachability = f.text, f.at.UTC(), f.reachability
		if o.failing.Load() {
			s.Reachability = f.reachability
		}
	}
	return s
}

// keepOutcome keeps the outcome of a request that has its response headers, or an error.
func (c *Cluster) keepOutcome(req *http.Request, resp *http.Response, err error) {
	if err == nil && resp.Header.Get(gateway.Header) == gateway.NotSent {
		return
	}
	if err == nil {
		err = c.answeredError(req, resp)
	}
	switch {
	case err != nil:
		c.fail(c.blameCertificate(err))
	case resp.Header.Get(gateway.Header) == "": // the gateway's answers say nothing about the API server
		c.outcomes.succeed()
	}
}

// keepOutcome keeps the error that ended the body of a response early. It ignores a lasting request
// that its caller ended, and a stream, which may end with its container.
func (r *request) keepOutcome(err error) {
	switch {
	case err == io.EOF, r.closing.Load(), r.lifetime == requestinfo.Stream, r.lasts && r.caller.Err() != nil: //nolint:errorlint // of a rotation
	default:
		r.session.fail(err)
	}
}

// answeredError returns an error for an answer that says that the API server can't be used, else
// nil. It returns nil for the answers of proxied services.
func (c *Cluster) answeredError(req *http.Request, resp *http.Response) error {
	if resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	reachability := classifyStatus(metav1.Status{Code: int32(resp.StatusCode)}) //nolint:gosec // a code has three digits
	text := fmt.Sprintf("the API server answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	answered := resp.Header.Get(gateway.Header)
	switch {
	case strings.HasPrefix(answered, gateway.NoAgent):
		reachability, text = ReachabilityNoAgent, shorten(answered)
	case answered != "":
		text = shorten(answered)
	case reachability == ReachabilityUnauthorized:
		text = notAccepted
	}
	switch {
	case reachability == ReachabilityReachable, reachability == ReachabilityForbidden,
		answered == "" && requestinfo.Of(req, c.server.Path).Lifetime == requestinfo.Stream:
		return nil
	}
	return &reachabilityError{reachability, errors.New(text)}
}

// Status returns the status of the connection. It makes no request.
func (c *Cluster) Status() ConnectionStatus {
	status := c.outcomes.status()
	c.mu.RLock()
	current := c.current
	status.LastRotation = c.rotatedAt.UTC()
	c.mu.RUnlock()
	if current == nil {
		return status
	}
	for _, certificate := range current.clientCertificates() {
		if expiry := &status.CertificateExpiry; expiry.IsZero() || certificate.NotAfter.Before(*expiry) {
			*expiry = certificate.NotAfter.UTC()
		}
	}
	return status
}

// Status returns the status of all clients' connections. It makes no request. A DataPlane that is
// gone stays in it until its client is closed: at once with the Handler, else by the next Get.
func (c *Cache[T]) Status() Status {
	type plane struct {
		key     types.NamespacedName
		cluster *Cluster
		failure *failure
	}
	var planes []plane
	c.mu.Lock()
	for key, e := range c.entries {
		planes = append(planes, plane{key, e.cluster, e.failure})
	}
	c.mu.Unlock()
	status := Status{Planes: []PlaneStatus{}}
	for _, p := range planes {
		s := PlaneStatus{Namespace: p.key.Namespace, Name: p.key.Name}
		switch {
		case p.cluster != nil:
			s.ConnectionStatus = p.cluster.Status()
		case p.failure != nil:
			var built outcomes
			built.fail(p.failure)
			s.ConnectionStatus = built.status()
		default: // it is being built, or waits for the next Get
			continue
		}
		status.Planes = append(status.Planes, s)
	}
	slices.SortFunc(status.Planes, func(a, b PlaneStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return status
}
