// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// Status returns a handler that answers an HTTP status code with a metav1.Status, as API servers
// do, so that clients return errors that apierrors.IsForbidden and the like recognize. There is no
// Retry-After header; with one, client-go would wait and try again.
func Status(code int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := apierrors.NewGenericServerResponse(code, strings.ToLower(r.Method), schema.GroupResource{}, "", "", 0, true).Status()
		status.Message = cmp.Or(status.Message, http.StatusText(code))
		if code == http.StatusUnauthorized {
			status = apierrors.NewUnauthorized("Unauthorized").Status()
		}
		writeStatus(w, status)
	})
}

func writeStatus(w http.ResponseWriter, status metav1.Status) {
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	writeJSON(w, int(status.Code), status)
}

func writeJSON(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

// Agent returns a handler for [Gateway.Connect] that sends requests to the API server of config,
// with config's credentials: a [Server], or a real API server such as envtest's. If the API server
// can't be reached, the handler answers 502 without a text, as OpenChoreo's agent does. Agent
// panics if config is invalid.
func Agent(config *rest.Config) http.Handler {
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		panic(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		panic(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(server) },
		Transport: transport,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
}

// Hang returns a handler that answers nothing, not even headers, until the client gives up.
func Hang() http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hang(r) })
}

// panicLog logs the panics of handlers to stderr, as httptest does. It drops what else net/http logs:
// tests break connections off on purpose.
var panicLog = log.New(panicWriter{}, "", log.LstdFlags)

type panicWriter struct{}

func (panicWriter) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("panic serving ")) {
		return os.Stderr.Write(line)
	}
	return len(line), nil
}

func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // with HTTP/1.1, the server notices a closed connection only after the body
	<-r.Context().Done()
}
