// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// planeAt is a data plane behind a gateway.
type planeAt struct {
	gateway *rest.Config
	path    string // {planeID}/{namespace}/{name} of an object whose agent is connected
}

// standIn returns a Gateway with an agent whose server echoes requests.
func standIn(t *testing.T) (*dataplanetest.Gateway, planeAt) {
	t.Helper()
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	gateway.Connect("prod", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Authorization-Was", r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, r.Method+" "+r.RequestURI)
	}))
	return gateway, planeAt{gateway.Config(), "prod/_cluster/prod"}
}

// realGateway returns the gateway in the environment's variables, or skips the test:
//
//	GATEWAY_URL=https://localhost:8444 GATEWAY_SERVER_NAME=cluster-gateway.openchoreo-control-plane.svc \
//	GATEWAY_CA=ca.crt GATEWAY_CERT=tls.crt GATEWAY_KEY=tls.key GATEWAY_PLANE=default/_cluster/default
func realGateway(t *testing.T) planeAt {
	t.Helper()
	if os.Getenv("GATEWAY_URL") == "" {
		t.Skip("GATEWAY_URL names no gateway of OpenChoreo")
	}
	return planeAt{&rest.Config{Host: os.Getenv("GATEWAY_URL"), TLSClientConfig: rest.TLSClientConfig{
		ServerName: os.Getenv("GATEWAY_SERVER_NAME"),
		CAFile:     os.Getenv("GATEWAY_CA"), CertFile: os.Getenv("GATEWAY_CERT"), KeyFile: os.Getenv("GATEWAY_KEY"),
	}}, os.Getenv("GATEWAY_PLANE")}
}

func TestGatewayBehavesAsOpenChoreos(t *testing.T) {
	_, standIn := standIn(t)
	t.Run("stand-in", func(t *testing.T) { testGateway(t, standIn) })
	t.Run("OpenChoreo's", func(t *testing.T) { testGateway(t, realGateway(t)) })
}

func testGateway(t *testing.T, at planeAt) {
	t.Helper()
	client, err := rest.HTTPClientFor(at.gateway)
	require.NoError(t, err)
	prefix := "/api/proxy/dataplane/" + at.path + "/k8s"
	for name, test := range map[string]struct {
		path   string
		method string
		header http.Header
		body   io.Reader
		code   int
		says   string
	}{
		"a request reaches the API server":       {path: prefix + "/version", code: 200},
		"a bounded watch is a request":           {path: prefix + "/api/v1/namespaces?watch=1&timeoutSeconds=1", code: 200},
		"a watch=true is refused":                {path: prefix + "/api/v1/namespaces?watch=true&timeoutSeconds=1", code: 501},
		"a followed log is refused":              {path: prefix + "/api/v1/namespaces/default/pods/web/log?follow=true", code: 501},
		"an upgrade is refused":                  {path: prefix + "/version", header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}}, code: 501},
		"a path is blocked":                      {path: prefix + "/api/v1/namespaces/kube-system/secrets", code: 403, says: "blocked"},
		"a plane without an agent":               {path: "/api/proxy/dataplane/no-such-plane/_cluster/no-such-plane/k8s/version", code: 502, says: "no agents found"},
		"another path is unknown to the gateway": {path: "/api/elsewhere", code: 404},
		"a large body is refused":                {path: prefix + "/api/v1/namespaces", method: http.MethodPost, body: bytes.NewReader(make([]byte, 11<<20)), code: 413},
		"a large body of unknown length is refused": {
			path: prefix + "/api/v1/namespaces", method: http.MethodPost, body: io.MultiReader(bytes.NewReader(make([]byte, 11<<20))), code: 413,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if test.header != nil {
				config := rest.CopyConfig(at.gateway)
				config.NextProtos = []string{"http/1.1"} // HTTP/2 has no upgrades
				client, err = rest.HTTPClientFor(config)
				require.NoError(t, err)
			}
			req, err := http.NewRequestWithContext(t.Context(), test.method, at.gateway.Host+test.path, test.body)
			require.NoError(t, err)
			if test.header != nil {
				req.Header = test.header
			}
			resp, err := client.Do(req)
			require.NoError(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			assert.Equal(t, test.code, resp.StatusCode, "%s", body)
			assert.Contains(t, string(body), test.says)
			if test.code == http.StatusOK {
				assert.NotEmpty(t, resp.Header.Get("Audit-Id"), "an API server marks its answers")
			} else {
				assert.Empty(t, resp.Header.Get("Audit-Id"))
				assert.True(t, strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain"))
			}
		})
	}
}

func TestGatewayPassesOnRequestsWithoutTheirAuthorization(t *testing.T) {
	_, at := standIn(t)
	at.gateway.BearerToken = "token"
	resp, body := ask(t, at, "/api/v1/pods?limit=5")
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Equal(t, "GET /api/v1/pods?limit=5", body)
	assert.Empty(t, resp.Header.Get("Authorization-Was"))
}

func TestAgentsComeAndGo(t *testing.T) {
	gateway, at := standIn(t)
	resp, _ := ask(t, at, "/version")
	assert.Equal(t, http.StatusOK, resp.StatusCode)

	gateway.Disconnect("prod")
	resp, body := ask(t, at, "/version")
	assert.Equal(t, http.StatusBadGateway, resp.StatusCode)
	assert.Contains(t, body, "no agents found")

	gateway.Connect("prod", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	prod := dataplanetest.ClusterDataPlane("prod").AsDataPlane()
	gateway.Refuse(prod)
	resp, body = ask(t, at, "/version")
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
	assert.Contains(t, body, "Forbidden: Agent not authorized for CR /prod")

	gateway.Accept(prod)
	resp, _ = ask(t, at, "/version")
	assert.Equal(t, http.StatusOK, resp.StatusCode)
}

// The agent may still handle the request after the gateway has given up.
func TestGatewayGivesUpAnAgentThatDoesNotAnswer(t *testing.T) {
	gateway, at := standIn(t)
	gateway.SetTimeout(time.Millisecond)
	done := make(chan struct{})
	release := make(chan struct{})
	gateway.Connect("prod", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release; close(done) }))
	resp, body := ask(t, at, "/version")
	assert.Equal(t, http.StatusBadGateway, resp.StatusCode)
	assert.Contains(t, body, "HTTP tunnel request timeout")
	close(release)
	<-done
}

func TestAgentThatCannotReachItsAPIServer(t *testing.T) {
	gateway, at := standIn(t)
	server := dataplanetest.NewServer(nil)
	gateway.Connect("prod", dataplanetest.Agent(server.Config("agent")))
	resp, body := ask(t, at, "/readyz")
	assert.Equal(t, http.StatusOK, resp.StatusCode)
	assert.Equal(t, "ok", body)

	server.Close()
	resp, body = ask(t, at, "/readyz")
	assert.Equal(t, http.StatusBadGateway, resp.StatusCode)
	assert.Empty(t, body)
	assert.Empty(t, resp.Header.Get("Audit-Id"))
}

func TestAgentThatBreaksOff(t *testing.T) {
	gateway, at := standIn(t)
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half of")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer cut.Close()
	for name, agent := range map[string]http.HandlerFunc{
		"aborts": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"aborts within its answer": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half of")
			panic(http.ErrAbortHandler)
		},
		"has an API server that breaks off": dataplanetest.Agent(&rest.Config{Host: cut.URL}).ServeHTTP,
	} {
		gateway.Connect("prod", agent)
		resp, body := ask(t, at, "/version")
		assert.Equal(t, http.StatusBadGateway, resp.StatusCode, name)
		assert.Empty(t, body, name)
		assert.Empty(t, resp.Header.Get("Audit-Id"), name)
	}
}

// As t.FailNow does, which tests shouldn't call in a handler, but do.
func TestAgentThatEndsItsGoroutine(t *testing.T) {
	gateway, at := standIn(t)
	gateway.SetTimeout(time.Hour)
	gateway.Connect("prod", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { runtime.Goexit() }))
	result := make(chan error, 1)
	var group wait.Group
	group.Start(func() {
		_, err := try(t, at, "/version")
		result <- err
	})
	require.Error(t, receive(t, result))
}

func TestGatewayDemandsAClientCertificate(t *testing.T) {
	gateway, at := standIn(t)
	anonymous := planeAt{rest.CopyConfig(at.gateway), at.path}
	anonymous.gateway.CertData, anonymous.gateway.KeyData = nil, nil
	_, err := try(t, anonymous, "/version")
	require.Error(t, err)

	gateway.RotateClients()
	_, err = try(t, at, "/version")
	require.Error(t, err, "the certificate's authority was replaced")
	_, err = try(t, planeAt{gateway.Config(), at.path}, "/version")
	require.NoError(t, err)

	open := dataplanetest.NewGateway(func(server *httptest.Server) { server.TLS.ClientAuth = 0 })
	defer open.Close()
	anonymous.gateway = open.Config()
	anonymous.gateway.CertData, anonymous.gateway.KeyData = nil, nil
	resp, _ := ask(t, anonymous, "/version")
	assert.Equal(t, http.StatusBadGateway, resp.StatusCode)
}

func TestGatewayStopsAndStarts(t *testing.T) {
	gateway, at := standIn(t)
	begun, release := make(chan struct{}), make(chan struct{})
	gateway.Connect("prod", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-release
	}))
	var group wait.Group
	group.Start(func() {
		_, err := try(t, at, "/version")
		assert.Error(t, err, "the request is cut")
	})
	<-begun
	gateway.Stop()
	gateway.Stop()
	group.Wait()
	requireRefused(t, at)
	gateway.CutConnections()

	gateway.Start()
	gateway.Start()
	close(release)
	group.Start(func() { <-begun })
	resp, _ := ask(t, at, "/version")
	assert.Equal(t, http.StatusOK, resp.StatusCode, "the agent is connected again")
	group.Wait()

	gateway.Close()
	gateway.Start()
	requireRefused(t, at)
}

// A handler of HTTP/2 can outlive its connection.
func TestGatewayStopsAndClosesAmongRequests(t *testing.T) {
	for range 3 {
		gateway, at := standIn(t)
		ctx, cancel := context.WithCancel(t.Context())
		var group wait.Group
		for range 10 {
			group.StartWithContext(ctx, func(ctx context.Context) {
				for ctx.Err() == nil {
					_, _ = try(t, at, "/version")
				}
			})
		}
		gateway.Stop()
		gateway.Start()
		require.Eventually(t, func() bool { return len(gateway.Requests()) > 0 }, time.Minute, time.Millisecond)
		gateway.Close()
		cancel()
		group.Wait()
	}
}

// requireRefused waits until a client has noticed that its connections were cut.
func requireRefused(t *testing.T, at planeAt) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := try(t, at, "/version")
		return errors.Is(err, syscall.ECONNREFUSED)
	}, time.Minute, time.Millisecond)
}

func TestGatewayRemembersRequests(t *testing.T) {
	gateway, at := standIn(t)
	ask(t, at, "/version")
	assert.Equal(t, []dataplanetest.Request{
		{User: "tests", Method: http.MethodGet, URI: "/api/proxy/dataplane/prod/_cluster/prod/k8s/version"},
	}, gateway.Requests())
}

func TestCloseEndsTheRequestsOfAgents(t *testing.T) {
	gateway, at := standIn(t)
	begun := make(chan struct{})
	gateway.Connect("prod", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	}))
	var group wait.Group
	group.Start(func() { _, _ = try(t, at, "/version") })
	<-begun
	gateway.Close()
	group.Wait()
}

func ask(t *testing.T, at planeAt, path string) (resp *http.Response, body string) {
	t.Helper()
	resp, err := try(t, at, path)
	require.NoError(t, err)
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(data)
}

// try sends a request to the data plane.
func try(t *testing.T, at planeAt, path string) (*http.Response, error) {
	t.Helper()
	client, err := rest.HTTPClientFor(at.gateway)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.gateway.Host+"/api/proxy/dataplane/"+at.path+"/k8s"+path, nil)
	require.NoError(t, err)
	resp, err := client.Do(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}
