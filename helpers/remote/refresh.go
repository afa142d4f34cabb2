// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// RoundTrip sends a request, and notices credentials that changed where no DataPlane shows
// it: in files that a mounted Secret renews, or in what ConfigFor reads. For this it asks
// ConfigFor again, now and then, and when the credentials were refused. If there are others
// by then, a read is sent once more. A write isn't, since it may have been carried out.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c := (*Cluster)(t)
	if c.due(&c.asked, c.options.askEvery) {
		_ = c.refresh() // the credentials may be good still; if not, the error comes below
	}
	before, _ := c.use()
	resp, err := c.send(req)
	if !refused(resp, err) {
		return resp, err
	}
	if c.due(&c.refusal, c.options.askAfterRefusal) {
		if asked := c.refresh(); asked != nil {
			return c.explainRefresh(resp, err, asked)
		}
	}
	if after, _ := c.use(); after == before || !isRead(req) {
		return resp, err
	}
	if resp != nil {
		_ = resp.Body.Close()
	}
	return c.send(req)
}

// refused reports that the other side doesn't accept the credentials, or that this side
// doesn't accept the other's certificate. A connection that is cut can mean either.
func refused(resp *http.Response, err error) bool {
	if err == nil {
		return resp.StatusCode == http.StatusUnauthorized
	}
	switch Classify(err) {
	case ReachabilityTLSFailure, ReachabilityCertificateExpired, ReachabilityUnauthorized:
		return true
	case ReachabilityRefused:
		return cutByPeer(err)
	default:
		return false
	}
}

func isRead(req *http.Request) bool {
	return (req.Method == http.MethodGet || req.Method == http.MethodHead) && (req.Body == nil || req.Body == http.NoBody)
}

// due reports that at is at least d ago, and makes it now. Of several callers, one gets true.
func (c *Cluster) due(at *time.Time, d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(*at) < d {
		return false
	}
	*at = now
	return true
}

// refresh asks ConfigFor for the same DataPlane again. Another result takes effect as in
// Update. After an error, the connection stays as it was.
func (c *Cluster) refresh() error {
	rotated, err := c.ask()
	if rotated && c.options.OnRotate != nil {
		c.options.OnRotate(c.key)
	}
	return err
}

func (c *Cluster) ask() (rotated bool, err error) {
	c.updating.Lock()
	defer c.updating.Unlock()
	if s, _ := c.use(); s == nil {
		return false, nil // closed, or an Update has failed, which the request reports
	}
	config, err := c.configFor(c.dp)
	if err != nil {
		return false, err
	}
	return c.rotate(config)
}

// explainRefresh adds the error of ConfigFor to an answer or an error that says that the
// credentials are refused.
func (c *Cluster) explainRefresh(resp *http.Response, err, asked error) (*http.Response, error) {
	if err != nil {
		return nil, c.wrap(fmt.Errorf("%w; asked for other credentials: %w", err, asked))
	}
	replaceUnauthorized(resp, c.wrap(errors.New("Unauthorized; asked for other credentials: "+asked.Error())).Error())
	return resp, nil
}
