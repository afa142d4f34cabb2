// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Reachability says whether an API server can be reached, or why not.
type Reachability string

// The values of Reachability.
const (
	// ReachabilityReachable says that the API server has answered, if only with an error that has
	// no value below, such as NotFound.
	ReachabilityReachable Reachability = "Reachable"
	// ReachabilityUnauthorized says that the API server does not accept the client certificate.
	ReachabilityUnauthorized Reachability = "Unauthorized"
	// ReachabilityForbidden says that the API server knows the user, who may not do this.
	ReachabilityForbidden Reachability = "Forbidden"
	// ReachabilityTLSFailure says that the TLS handshake failed: the CA in the spec doesn't vouch
	// for the server's certificate, or the server refuses the client's.
	ReachabilityTLSFailure Reachability = "TLSFailure"
	// ReachabilityCertificateExpired says that the certificate of the client or of the server has
	// expired, or is not valid yet.
	ReachabilityCertificateExpired Reachability = "CertificateExpired"
	// ReachabilityDNSFailure says that the name of the API server can't be resolved.
	ReachabilityDNSFailure Reachability = "DNSFailure"
	// ReachabilityRefused says that there is no connection: it was refused, reset or cut by the
	// other side, or there is no route. A server that does not accept the client
	// certificate can look like this, when it cuts the connection before it says so.
	ReachabilityRefused Reachability = "Refused"
	// ReachabilityProxyRefused says that the proxy on the way answered the request for a
	// connection with an error, such as 407 or 503.
	ReachabilityProxyRefused Reachability = "ProxyRefused"
	// ReachabilityTimeout says that there was no answer in time.
	ReachabilityTimeout Reachability = "Timeout"
	// ReachabilityRedirected says that the server answered with a redirect, which is not followed.
	ReachabilityRedirected Reachability = "Redirected"
	// ReachabilityNotReady says that the API server, or what stands before it, answers but can't
	// serve.
	ReachabilityNotReady Reachability = "NotReady"
	// ReachabilityInvalidCredentials says that nothing was sent, because the credentials in the
	// DataPlane are missing, invalid, or dropped.
	ReachabilityInvalidCredentials Reachability = "InvalidCredentials"
	// ReachabilityClosed says that the Cluster was closed on this side.
	ReachabilityClosed Reachability = "Closed"
	// ReachabilityUnknown says that the error doesn't tell, for example because the caller's
	// context was cancelled.
	ReachabilityUnknown Reachability = "Unknown"
)

// Classify tells from the error of a request whether the API server of a data plane can be
// reached, or why not. It understands the errors of any client, and those of [NewCluster],
// [Cluster.Update] and [Cache.Get]. nil is [ReachabilityReachable].
func Classify(err error) Reachability {
	if err == nil {
		return ReachabilityReachable
	}
	var known *reachabilityError
	var status apierrors.APIStatus
	switch {
	case errors.Is(err, ErrClosed):
		return ReachabilityClosed
	case errors.Is(err, helpers.ErrNoCredentials), errors.Is(err, helpers.ErrInvalidCredentials),
		errors.Is(err, helpers.ErrSecretsDropped):
		return ReachabilityInvalidCredentials
	case errors.As(err, &known):
		return known.reachability
	case errors.As(err, &status):
		return classifyStatus(int(status.Status().Code))
	default:
		return classifyConnection(err)
	}
}

func classifyStatus(code int) Reachability {
	switch {
	case code == http.StatusUnauthorized:
		return ReachabilityUnauthorized
	case code == http.StatusForbidden:
		return ReachabilityForbidden
	case code == http.StatusRequestTimeout || code == http.StatusGatewayTimeout:
		return ReachabilityTimeout
	case code >= 300 && code < 400:
		return ReachabilityRedirected
	case code >= 500:
		return ReachabilityNotReady
	default:
		return ReachabilityReachable
	}
}

func classifyConnection(err error) Reachability {
	var (
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		dns       *net.DNSError
		remote    *net.OpError
		network   net.Error
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ReachabilityCertificateExpired
	case errors.As(err, &invalid), errors.As(err, &authority), errors.As(err, &hostname),
		errors.As(err, &verify), errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return ReachabilityTLSFailure
	// crypto/tls keeps the type of an alert to itself; the text is that of alert 45 of
	// RFC 8446, section 6.
	case errors.As(err, &remote) && remote.Op == "remote error":
		if remote.Err.Error() == "tls: expired certificate" {
			return ReachabilityCertificateExpired
		}
		return ReachabilityTLSFailure
	case errors.As(err, &dns):
		return ReachabilityDNSFailure
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout(),
		strings.Contains(err.Error(), "http2: client connection lost"): // after an unanswered ping
		return ReachabilityTimeout
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, syscall.ENETUNREACH), cutByPeer(err):
		return ReachabilityRefused
	default:
		return ReachabilityUnknown
	}
}

// cutByPeer says whether the other side ended a connection or a request without an
// answer. Of HTTP/2, which keeps its errors to itself, the texts tell: a connection that
// ended right after the TLS handshake, one that the server gave up, and a reset stream.
func cutByPeer(err error) bool {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	text := err.Error()
	return strings.Contains(text, "http2: client conn could not be established") ||
		strings.Contains(text, "http2: server sent GOAWAY") ||
		strings.Contains(text, "stream error: stream ID")
}

// reachabilityError is an error whose Reachability is already known.
type reachabilityError struct {
	reachability Reachability
	err          error
}

func (e *reachabilityError) Error() string { return e.err.Error() }
func (e *reachabilityError) Unwrap() error { return e.err }
