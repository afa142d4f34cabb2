// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/neterr"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

const (
	// CauseGateway is the type of the cause in errors of the gateway itself.
	CauseGateway metav1.CauseType = "ClusterGateway"
	// CauseNoAgent replaces it if no agent may act for the data plane.
	CauseNoAgent metav1.CauseType = "ClusterGatewayNoAgent"

	// Header marks an answer that doesn't come from an API server. Its value is the text of an answer of
	// the gateway or its agent, else NotSent.
	Header = "Cluster-Gateway-Answered"
	// NotSent is the value of Header if the request was not sent.
	NotSent = "NotSent"

	// Path leads to the data planes at the gateway.
	Path = "api/proxy/dataplane"

	// NoAgent begins the text of every answer with CauseNoAgent.
	NoAgent = "the cluster gateway has no agent that may act for this data plane"
	// Answers begins the text of an answer of the gateway that has no other meaning.
	Answers = "the cluster gateway answers "

	// maxText limits the bytes of an answer that an error shows.
	maxText = 2 << 10
)

// IsNoAgent reports whether an error says that the gateway has no agent for the data plane.
func IsNoAgent(status metav1.Status) bool {
	return status.Details != nil && slices.ContainsFunc(status.Details.Causes, func(cause metav1.StatusCause) bool {
		return cause.Type == CauseNoAgent ||
			cause.Type == metav1.CauseTypeUnexpectedServerResponse && strings.HasPrefix(cause.Message, NoAgent)
	})
}

// translate replaces an error of the gateway by one that names the gateway, and returns an API
// server's answer unchanged. An API server marks each answer with an Audit-Id, and reports errors
// as Status objects; the gateway does neither.
func (t *transport) translate(req *http.Request, resp *http.Response) *http.Response {
	if resp.StatusCode < http.StatusBadRequest || resp.Header.Get("Audit-Id") != "" || !isText(resp.Header.Get("Content-Type")) {
		return resp
	}
	var text []byte
	if resp.Body != nil { // a wrapper's own response may have none
		text, _ = io.ReadAll(io.LimitReader(resp.Body, maxText))
	}
	status := statusOf(req.Method, resp.StatusCode, strings.TrimSpace(string(text)))
	info := requestinfo.Of(req, t.basePath)
	if (status.Code == http.StatusBadGateway || status.Code == http.StatusServiceUnavailable) && info.Lifetime == requestinfo.Watch {
		// With this reason, reflectors try the watch again; with others, they list. After a restart of the
		// gateway or an API server, all informers would list at once. A watch without an answer in time
		// keeps its reason: its changes may be too many for one answer, and long lists come in pages.
		status.Reason = metav1.StatusReasonTooManyRequests
	}
	changed := *resp
	changed.StatusCode = int(status.Code)
	changed.Status = fmt.Sprintf("%d %s", status.Code, http.StatusText(changed.StatusCode))
	// client-go reads the errors of most requests below /api/ and /apis/ as objects, and shows others as text.
	if path := strings.TrimPrefix(req.URL.Path, t.basePath); !info.Log && (strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/apis/")) {
		SetStatus(&changed, status)
	} else {
		setBody(&changed, "text/plain; charset=utf-8", []byte(status.Message))
	}
	changed.Header.Set(Header, status.Message)
	return &changed
}

func isText(contentType string) bool {
	return contentType == "" || strings.HasPrefix(contentType, "text/")
}

// statusOf translates an answer of the gateway. No answer becomes NotFound: callers would
// conclude that an object is gone. Only a path that the gateway blocks becomes Forbidden: callers
// conclude that the API server knows them.
func statusOf(method string, code int, text string) metav1.Status {
	status := metav1.Status{
		Status: metav1.StatusFailure,
		Code:   http.StatusBadGateway,
		Reason: metav1.StatusReasonServiceUnavailable,
	}
	cause, message := CauseGateway, fmt.Sprintf("%s%d: %s", Answers, code, text)
	perhaps := ""
	if method != http.MethodGet && method != http.MethodHead {
		perhaps = "; the write may have been carried out"
	}
	switch {
	case code == http.StatusBadGateway && strings.Contains(text, "no agents found"),
		code == http.StatusForbidden && strings.Contains(text, "not authorized"):
		cause, message = CauseNoAgent, NoAgent+": "+text
	case code == http.StatusBadGateway && strings.Contains(text, "request timeout"):
		status.Code, status.Reason = http.StatusGatewayTimeout, metav1.StatusReasonTimeout
		message = "the agent of the data plane did not answer in time" + perhaps
	case code == http.StatusBadGateway && text == "": // the API server may also have begun to answer
		message = "the agent of the data plane can't reach its API server" + perhaps
	case code == http.StatusForbidden && strings.Contains(text, "blocked"):
		status.Code, status.Reason = http.StatusForbidden, metav1.StatusReasonForbidden
	case code == http.StatusNotFound:
		message += "; its API is on port 8444; port 8443 is for agents"
	case code == http.StatusUnauthorized:
		status.Code, status.Reason = http.StatusUnauthorized, metav1.StatusReasonUnauthorized
	case code != http.StatusForbidden:
		status.Code, status.Reason = int32(code), metav1.StatusReasonUnknown //nolint:gosec // a code has three digits
	}
	status.Message = message
	status.Details = &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: cause, Message: text}}}
	return status
}

// SetStatus replaces the body of resp by status, encoded as an API server does, and closes the old
// body. It doesn't change the code of resp.
func SetStatus(resp *http.Response, status metav1.Status) {
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	body, _ := json.Marshal(status) // can't fail: only strings and numbers
	setBody(resp, "application/json", body)
}

func setBody(resp *http.Response, contentType string, body []byte) {
	if resp.Body != nil {
		_ = resp.Body.Close()
	}
	header := http.Header{} // resp.Header of a wrapper's own response can be nil
	maps.Copy(header, resp.Header)
	header.Set("Content-Type", contentType)
	header.Del("Content-Length")
	header.Del("Content-Encoding")
	resp.Header = header
	resp.ContentLength, resp.TransferEncoding, resp.Uncompressed = int64(len(body)), nil, false
	resp.Body = io.NopCloser(bytes.NewReader(body))
}

// refuseInitialEvents answers a watch with sendInitialEvents like an API server that doesn't
// support them, so that reflectors list first: the initial events may take longer than a watch
// lasts.
func refuseInitialEvents(req *http.Request) *http.Response {
	const code = http.StatusUnprocessableEntity
	resp := &http.Response{
		Status: "422 Unprocessable Entity", StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
	}
	SetStatus(resp, metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: metav1.StatusReasonInvalid,
		Message: "sendInitialEvents is not supported through the cluster gateway",
	})
	resp.Header.Set(Header, NotSent)
	return resp
}

// explain adds advice to errors that the settings of the gateway's configuration cause. reused says
// whether the request was on a connection of earlier ones.
func explain(err error, reused bool) error {
	var (
		alert     *net.OpError
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
	)
	var advice string
	switch {
	// The gateway is a Go program, and package crypto/tls names certificates in all such alerts.
	case errors.As(err, &alert) && alert.Op == "remote error" && strings.Contains(alert.Err.Error(), "certificate"):
		advice = "the cluster gateway does not accept the client certificate; " + setCertificate
	// net/http often loses the alert if it is writing when the server closes. On a connection that was
	// used before, the gateway has accepted the certificate.
	case neterr.IsCut(err) && !reused:
		advice = "a cluster gateway that does not accept the client certificate looks like this, and so does one that restarts; " + setCertificate
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		advice = "if it was renewed, restart the cluster gateway, which reads its certificate only when it starts"
	case errors.As(err, &authority):
		advice = "set CAFile to ca.crt of Secret cluster-gateway-ca"
	case errors.As(err, &hostname):
		advice = "set Host or ServerName to a name in the certificate of the cluster gateway"
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, advice)
}

const setCertificate = "set CertFile and KeyFile to a certificate of Issuer cluster-gateway-internal-ca-issuer"
