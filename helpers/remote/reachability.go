// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/gateway"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/neterr"
)

// Reachability says whether an API server can be reached, or why not.
type Reachability string

// The values of Reachability.
const (
	// ReachabilityReachable says that the API server has answered, even with an error that has no
	// value of Reachability, such as NotFound.
	ReachabilityReachable Reachability = "Reachable"
	// ReachabilityUnauthorized says that the API server does not accept the credentials.
	ReachabilityUnauthorized Reachability = "Unauthorized"
	// ReachabilityForbidden says that the API server knows the user, who may not make this request.
	ReachabilityForbidden Reachability = "Forbidden"
	// ReachabilityTLSFailure says that the TLS handshake failed: the CA in the spec doesn't vouch
	// for the server's certificate, the server refuses the client's certificate, or the server
	// doesn't speak TLS.
	ReachabilityTLSFailure Reachability = "TLSFailure"
	// ReachabilityCertificateExpired says that the certificate of the client or of the server, or
	// an intermediate, has expired or is not valid yet.
	ReachabilityCertificateExpired Reachability = "CertificateExpired"
	// ReachabilityDNSFailure says that the name of the API server can't be resolved.
	ReachabilityDNSFailure Reachability = "DNSFailure"
	// ReachabilityRefused says that there is no connection: it was refused, reset or cut, or there
	// is no route. A server that refuses the client certificate can look like this.
	ReachabilityRefused Reachability = "Refused"
	// ReachabilityProxyRefused says that an HTTP proxy refused to connect, with an error such as
	// 407 or 503, or that a SOCKS proxy did.
	ReachabilityProxyRefused Reachability = "ProxyRefused"
	// ReachabilityTimeout says that there was no answer in time.
	ReachabilityTimeout Reachability = "Timeout"
	// ReachabilityRedirected says that the server answered with a redirect, which is not followed.
	ReachabilityRedirected Reachability = "Redirected"
	// ReachabilityNotReady says that the API server, or a gateway or load balancer before it,
	// answers but can't serve. A page of HTML, such as a captive portal's, is NotReady. So is
	// an error of OpenChoreo's cluster gateway itself unless another value fits, even if the error
	// concerns one request, such as one with a body of more than 10 MB.
	ReachabilityNotReady Reachability = "NotReady"
	// ReachabilityNoAgent says that OpenChoreo's cluster gateway has no agent for the data plane: none
	// is connected, or the clientCA in the DataPlane doesn't vouch for the agent's certificate.
	ReachabilityNoAgent Reachability = "NoAgent"
	// ReachabilityInvalidCredentials says that nothing was sent, because the credentials in the
	// DataPlane, or from ConfigFor, are missing, invalid, or dropped (see
	// [helpers.ErrSecretsDropped]).
	ReachabilityInvalidCredentials Reachability = "InvalidCredentials"
	// ReachabilityClosed says that the Cluster was closed on this side.
	ReachabilityClosed Reachability = "Closed"
	// ReachabilityUnknown says that the error shows nothing about the data plane, for example
	// because the caller's context was cancelled, or because a Cache could not read the DataPlane.
	ReachabilityUnknown Reachability = "Unknown"
)

// Classify returns whether the API server of a data plane can be reached, or why not, judged by the
// error of a request. It understands the errors of any client, and of [NewCluster],
// [Cluster.Update] and [Cache.Get]. nil is [ReachabilityReachable]. If discovery failed for some
// API groups, the worst of their errors counts.
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
		return classifyStatus(status.Status())
	default:
		if groups := groupErrors(err); len(groups) > 0 {
			return worst(groups)
		}
		return classifyConnection(err)
	}
}

func classifyStatus(status metav1.Status) Reachability {
	code := int(status.Code)
	switch {
	case code >= 300 && code < 400:
		return ReachabilityRedirected
	case gateway.IsNoAgent(status):
		return ReachabilityNoAgent
	case hasCause(status, causeCertificate, ""):
		return ReachabilityCertificateExpired
	// The message of this cause is the body of an answer that wasn't a Status.
	case hasCause(status, metav1.CauseTypeUnexpectedServerResponse, "<"):
		return ReachabilityNotReady
	case code == http.StatusUnauthorized:
		return ReachabilityUnauthorized
	case code == http.StatusForbidden:
		return ReachabilityForbidden
	case code == http.StatusRequestTimeout || code == http.StatusGatewayTimeout:
		return ReachabilityTimeout
	case code >= 500, hasCause(status, gateway.CauseGateway, ""),
		hasCause(status, metav1.CauseTypeUnexpectedServerResponse, gateway.Answers):
		return ReachabilityNotReady
	default:
		return ReachabilityReachable
	}
}

// classifyGateway classifies an answer of the cluster gateway to a Probe.
func classifyGateway(code int, text string) Reachability {
	causes := []metav1.StatusCause{{Type: metav1.CauseTypeUnexpectedServerResponse, Message: text}}
	return classifyStatus(metav1.Status{Code: int32(code), Details: &metav1.StatusDetails{Causes: causes}}) //nolint:gosec // a code has three digits
}

func hasCause(status metav1.Status, cause metav1.CauseType, prefix string) bool {
	return status.Details != nil && slices.ContainsFunc(status.Details.Causes, func(c metav1.StatusCause) bool {
		return c.Type == cause && strings.HasPrefix(c.Message, prefix)
	})
}

// groupErrors returns the errors of a discovery.ErrGroupDiscoveryFailed. Naming this type would
// bring all of k8s.io/api into programs that don't use it.
func groupErrors(err error) map[schema.GroupVersion]error {
	for ; err != nil; err = errors.Unwrap(err) {
		value := reflect.Indirect(reflect.ValueOf(err))
		if value.IsValid() && value.Type().PkgPath() == "k8s.io/client-go/discovery" && value.Type().Name() == "ErrGroupDiscoveryFailed" {
			groups, _ := value.FieldByName("Groups").Interface().(map[schema.GroupVersion]error)
			return groups
		}
	}
	return nil
}

// worstFirst lists each Reachability, the furthest from an answer of the API server first.
var worstFirst = []Reachability{
	ReachabilityClosed, ReachabilityInvalidCredentials, ReachabilityDNSFailure, ReachabilityRefused, ReachabilityProxyRefused,
	ReachabilityTimeout, ReachabilityTLSFailure, ReachabilityCertificateExpired, ReachabilityRedirected, ReachabilityUnauthorized,
	ReachabilityNoAgent, ReachabilityNotReady, ReachabilityForbidden, ReachabilityUnknown, ReachabilityReachable,
}

func worst(groups map[schema.GroupVersion]error) Reachability {
	found := map[Reachability]bool{}
	for _, err := range groups {
		found[Classify(err)] = true
	}
	for _, reachability := range worstFirst {
		if found[reachability] {
			return reachability
		}
	}
	return ReachabilityUnknown
}

func classifyConnection(err error) Reachability {
	var (
		invalid   x509.CertificateInvalidError
		operation *net.OpError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ReachabilityCertificateExpired
	// crypto/tls doesn't export the type of an alert. This is the text of alert 45 of RFC 8446,
	// section 6.
	case errors.As(err, &operation) && operation.Op == "remote error" && operation.Err.Error() == "tls: expired certificate":
		return ReachabilityCertificateExpired
	case errors.As(err, &invalid), errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.HostnameError)),
		errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(tls.RecordHeaderError)),
		errors.Is(err, http.ErrSchemeMismatch), isTLS(err):
		return ReachabilityTLSFailure
	case errors.As(err, new(*net.DNSError)):
		return ReachabilityDNSFailure
	case neterr.IsTimeout(err), isLost(err):
		return ReachabilityTimeout
	case neterr.IsRefused(err), cutByPeer(err):
		return ReachabilityRefused
	case errors.As(err, &operation) && operation.Op == "socks connect":
		return ReachabilityProxyRefused
	default:
		return ReachabilityUnknown
	}
}

// isTLS reports whether crypto/tls on either side refused the other side's messages. crypto/tls
// doesn't export the types of most errors, so isTLS reads their texts.
func isTLS(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.HasPrefix(err.Error(), "tls: ") {
			return true
		}
	}
	return false
}

// cutByPeer reports whether the other side ended a connection or a request without an answer.
// net/http doesn't export the errors of HTTP/2, so cutByPeer reads their texts: a connection
// that the server gave up, one that another request found cut, and a reset stream.
func cutByPeer(err error) bool {
	text := err.Error()
	return neterr.IsCut(err) || strings.Contains(text, "http2: server sent GOAWAY") ||
		strings.Contains(text, "http2: client connection force closed") ||
		strings.Contains(text, "http2: client conn is closed") ||
		strings.Contains(text, "stream error: stream ID")
}

// isLost says whether a connection was given up since its peer didn't answer a ping of HTTP/2.
func isLost(err error) bool { return strings.Contains(err.Error(), "http2: client connection lost") }

// reachabilityError is an error whose Reachability is already known.
type reachabilityError struct {
	reachability Reachability
	err          error
}

func (e *reachabilityError) Error() string { return e.err.Error() }
func (e *reachabilityError) Unwrap() error { return e.err }
