// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"io"
	"net/http"

	"k8s.io/client-go/util/flowcontrol"
)

// transport is the Cluster as its HTTP client sees it.
type transport Cluster

// RoundTrip sends a request with the current credentials, and with the next ones if those
// are replaced before it is sent. A body can be sent again only if there is a GetBody.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c := (*Cluster)(t)
	for body := req.Body; ; {
		s, err := c.use()
		if err != nil {
			closeBody(body)
			return nil, err
		}
		resp, err := s.roundTrip(req, body)
		if !errors.Is(err, errAgain) {
			return resp, err
		}
		if body == nil || body == http.NoBody {
			continue
		}
		if req.GetBody == nil {
			return nil, c.wrap(ErrRotated)
		}
		if body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
}

func closeBody(body io.Closer) {
	if body != nil {
		_ = body.Close()
	}
}

// WrappedRoundTripper is how apimachinery's net package finds the transport.
func (t *transport) WrappedRoundTripper() http.RoundTripper {
	if s, _ := (*Cluster)(t).use(); s != nil {
		return s.transport
	}
	return nil
}

// CloseIdleConnections is what http.Client's method of this name calls.
func (t *transport) CloseIdleConnections() {
	if s, _ := (*Cluster)(t).use(); s != nil {
		s.transport.CloseIdleConnections()
	}
}

// doNotFollow leaves redirects to the session, and those of proxied services to the caller.
func doNotFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// clusterLimiter lets a request through at once, to be refused by the transport, if the
// Cluster accepts none or is closed meanwhile. client-go would add words to an error.
type clusterLimiter struct {
	flowcontrol.RateLimiter
	cluster *Cluster
}

func (l *clusterLimiter) Wait(ctx context.Context) error {
	if s, _ := l.cluster.use(); s == nil {
		return nil
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.cluster.ctx, cancel)()
	err := l.RateLimiter.Wait(waiting)
	if ctx.Err() == nil && l.cluster.ctx.Err() != nil {
		return nil
	}
	return err
}
