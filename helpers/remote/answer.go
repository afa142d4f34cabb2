// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bufio"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/gateway"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// checkAnswer refuses answers that no API server gives, explains a 401, and ends requests whose
// response has no body. In the answer of a proxied service, it changes only a long Retry-After.
func (s *session) checkAnswer(req *http.Request, resp *http.Response, lifetime requestinfo.Lifetime) (*http.Response, error) {
	refuse := func(reachability Reachability, why string) (*http.Response, error) {
		_ = resp.Body.Close()
		return nil, &reachabilityError{reachability, s.wrap(errors.New(why))}
	}
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols && req.Header.Get("Upgrade") == "":
		return refuse(ReachabilityNotReady, "the server switches protocols without being asked")
	case lifetime == requestinfo.Stream:
	case isRedirect(resp):
		return refuse(ReachabilityRedirected, "the server redirects, which is not followed")
	case isPage(resp):
		return refuse(ReachabilityNotReady, fmt.Sprintf("the server answers %d with a page of HTML, so it is no API server", resp.StatusCode))
	case resp.StatusCode == http.StatusUnauthorized:
		s.explainUnauthorized(req, resp, nil)
	}
	capRetryAfter(resp)
	if err := closeEmptyBody(resp, req.Method); err != nil {
		return nil, err
	}
	return resp, nil
}

func isRedirect(resp *http.Response) bool {
	return resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != ""
}

// isPage reports a page of HTML of a captive portal, a firewall or a load balancer, which client-go
// would take for the success of a delete. API servers mark their own few pages with an Audit-Id.
func isPage(resp *http.Response) bool {
	return strings.HasPrefix(strings.ToLower(resp.Header.Get("Content-Type")), "text/html") && resp.Header.Get("Audit-Id") == ""
}

// causeCertificate is the type of the cause in a 401 to a client certificate that isn't valid now.
const causeCertificate metav1.CauseType = "ClientCertificateNotValid"

// explainUnauthorized replaces the body of a 401 by a Status that says why: the client certificate
// isn't valid now, which API servers don't say, or asked, the error of asking ConfigFor for other
// credentials. Without either, it changes nothing. IsUnauthorized stays true.
func (s *session) explainUnauthorized(req *http.Request, resp *http.Response, asked error) {
	fault := s.certificateFault()
	if requestinfo.Of(req, s.server.Path).Lifetime == requestinfo.Stream || req.Method == http.MethodHead || fault == "" && asked == nil {
		return
	}
	message, details := "Unauthorized", &metav1.StatusDetails{}
	if fault != "" {
		message = fault + ": " + message
		details.Causes = []metav1.StatusCause{{Type: causeCertificate, Message: fault}}
	}
	if asked != nil {
		message += askedAgain + asked.Error()
	}
	status := apierrors.NewUnauthorized(s.wrap(errors.New(message)).Error()).Status()
	status.Details = details
	gateway.SetStatus(resp, status)
}

// certificateFault returns why the client certificate or an intermediate isn't valid now, or "".
func (s *session) certificateFault() string {
	now, name := time.Now(), "client certificate"
	for _, certificate := range s.clientCertificates() {
		switch {
		case now.After(certificate.NotAfter):
			return name + " expired at " + certificate.NotAfter.UTC().Format(time.RFC3339)
		case now.Before(certificate.NotBefore):
			return name + " is not valid before " + certificate.NotBefore.UTC().Format(time.RFC3339)
		}
		name = "intermediate of the client certificate"
	}
	return ""
}

// clientCertificates returns the client certificate and its intermediates, if there are any.
func (s *session) clientCertificates() []*x509.Certificate {
	config := s.transport.TLSClientConfig
	if config.GetClientCertificate == nil {
		return nil
	}
	certificate, err := config.GetClientCertificate(nil)
	if err != nil {
		return nil
	}
	var parsed []*x509.Certificate
	for _, der := range certificate.Certificate {
		if certificate, err := x509.ParseCertificate(der); err == nil {
			parsed = append(parsed, certificate)
		}
	}
	return parsed
}

// maxRetryAfter is the longest wait, in seconds, that API priority and fairness asks for. client-go
// waits inside the request for as long as the server says, and only the request's context ends the
// wait.
const maxRetryAfter = 32

func capRetryAfter(resp *http.Response) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < 500 {
		return // client-go doesn't wait
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > maxRetryAfter {
		resp.Header.Set("Retry-After", strconv.Itoa(maxRetryAfter))
	}
}

// closeEmptyBody ends a request whose response has no body, since few callers close the body then.
func closeEmptyBody(resp *http.Response, method string) error {
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return nil
	case method == http.MethodHead, resp.StatusCode == http.StatusNoContent, resp.StatusCode == http.StatusNotModified:
	case resp.ContentLength != 0:
		return nil
	default:
		// A wrapper's own response may have a body and a ContentLength of 0.
		body := bufio.NewReaderSize(resp.Body, 16)
		switch _, err := body.Peek(1); {
		case err == nil:
			resp.Body = struct {
				io.Reader
				io.Closer
			}{body, resp.Body}
			return nil
		case err != io.EOF:
			_ = resp.Body.Close()
			return err
		}
	}
	_ = resp.Body.Close()
	resp.Body = http.NoBody
	return nil
}
