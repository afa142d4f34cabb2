// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// probeTimeout bounds a Probe whose context allows more.
	probeTimeout = 5 * time.Second
	// maxProbeBody is how much of an answer a Probe's error shows.
	maxProbeBody = 1 << 10
)

// Probe asks the API server whether it is ready, over the same connections as every
// other request: /readyz, and /healthz where that isn't there. It returns nil if the server
// is ready, and also if it answers Forbidden. By default, API servers answer this to
// everybody, so success does not prove that they know the user. Probe waits at most 5 s, and
// ignores the rate limiter. [Classify] tells what an error means.
func (c *Cluster) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	status, body, err := c.get(ctx, "/readyz")
	if err == nil && status == http.StatusNotFound {
		status, body, err = c.get(ctx, "/healthz")
	}
	switch {
	case err != nil:
	case status == http.StatusOK, status == http.StatusForbidden:
		return nil
	case status == http.StatusUnauthorized:
		err = &reachabilityError{ReachabilityUnauthorized, errors.New("the API server does not accept the credentials")}
	default:
		err = &reachabilityError{ReachabilityNotReady, fmt.Errorf("the API server answers %d: %s", status, body)}
	}
	return c.wrap(c.blameExpiry(err))
}

func (c *Cluster) get(ctx context.Context, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.JoinPath(path).String(), nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeBody))
	return resp.StatusCode, strings.TrimSpace(string(data)), err
}

// blameExpiry adds that the client's certificate has expired to an error that comes from
// that, which servers tell in several ways.
func (c *Cluster) blameExpiry(err error) error {
	switch Classify(err) {
	case ReachabilityUnauthorized, ReachabilityTLSFailure, ReachabilityCertificateExpired:
	case ReachabilityRefused:
		if !cutByPeer(err) {
			return err
		}
	default:
		return err
	}
	s, _ := c.use()
	if s == nil || s.transport.TLSClientConfig == nil || s.transport.TLSClientConfig.GetClientCertificate == nil {
		return err
	}
	certificate, certErr := s.transport.TLSClientConfig.GetClientCertificate(nil)
	if certErr != nil || certificate.Leaf == nil || time.Now().Before(certificate.Leaf.NotAfter) {
		return err
	}
	return &reachabilityError{ReachabilityCertificateExpired, fmt.Errorf("client certificate expired at %s: %w",
		certificate.Leaf.NotAfter.UTC().Format(time.RFC3339), err)}
}
