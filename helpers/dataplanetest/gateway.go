// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

const (
	gatewayPrefix  = "/api/proxy/dataplane/"
	gatewayTimeout = 30 * time.Second
	maxGatewayBody = 10 << 20
)

// Gateway is a stand-in for OpenChoreo's cluster gateway, as of v1.2: a TLS server on
// loopback that demands a client certificate, and hands each request to the agent of a data
// plane. It carries one answer at a time, within 30 s, and refuses watches and other
// streams as the real one does. Its methods may be called at any time, from any goroutine.
//
//	gateway := dataplanetest.NewGateway()
//	defer gateway.Close()
//	gateway.Connect("prod", dataplanetest.Agent(config)) // an agent in front of an API server
//	client := remote.NewCache(get, build, remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
type Gateway struct {
	edits []func(*httptest.Server)
	url   string
	serve *pki.Authority
	life  context.Context // of the requests that agents carry out
	end   context.CancelFunc
	open  sync.WaitGroup // counts them; begin adds

	running sync.Mutex       // held while the server starts or ends
	http    *httptest.Server // nil while the gateway is stopped

	mu       sync.Mutex
	clients  *pki.Authority
	timeout  time.Duration
	agents   map[string]http.Handler // by plane ID
	refused  map[string]bool         // by namespace/name, as in the gateway's paths
	requests []Request
}

// NewGateway starts a gateway that no agent has connected to. The caller must close it.
//
// Edits change the underlying server before it starts, each time. For example, one that sets
// TLS.ClientAuth to tls.NoClientCert makes a gateway of OpenChoreo v1.1, which demands no
// client certificate.
func NewGateway(edits ...func(*httptest.Server)) *Gateway {
	g := &Gateway{
		edits:   edits,
		serve:   pki.New(),
		clients: pki.New(),
		timeout: gatewayTimeout,
		agents:  map[string]http.Handler{},
		refused: map[string]bool{},
	}
	g.life, g.end = context.WithCancel(context.Background())
	g.http = g.unstarted()
	g.http.StartTLS()
	g.url = g.http.URL
	return g
}

func (g *Gateway) unstarted() *httptest.Server {
	server := httptest.NewUnstartedServer(http.HandlerFunc(g.answer))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{servingCertificate(g.serve, "cluster-gateway.openchoreo-control-plane.svc")},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			config := server.TLS.Clone()
			config.ClientCAs = x509.NewCertPool()
			g.mu.Lock()
			defer g.mu.Unlock()
			config.ClientCAs.AddCert(g.clients.Cert)
			return config, nil
		},
	}
	for _, edit := range g.edits {
		edit(server)
	}
	return server
}

// Config returns what a program needs to reach the gateway: its address, its CA, and a new
// client certificate. The caller owns the result. It is the second argument of
// helpers.GatewayConfigFor.
func (g *Gateway) Config() *rest.Config {
	g.mu.Lock()
	defer g.mu.Unlock()
	key := pki.ECDSAKey()
	return &rest.Config{Host: g.url, TLSClientConfig: rest.TLSClientConfig{
		CAData:   pki.Certificates(g.serve.Cert),
		CertData: pki.Certificates(g.clients.Issue("tests", key)),
		KeyData:  pki.PKCS8(key),
	}}
}

// Connect makes an agent of a plane connect to the gateway, in the place of one that is
// connected. The agent carries out requests by a handler that stands for the API server of
// the data plane: [Agent], or a handler of the test.
func (g *Gateway) Connect(planeID string, agent http.Handler) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.agents[planeID] = agent
}

// Disconnect makes the agent of a plane go away.
func (g *Gateway) Disconnect(planeID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.agents, planeID)
}

// Refuse makes the agents that are connected unfit to act for dp, as if their certificates
// were not of its clientCA. Accept takes that back.
func (g *Gateway) Refuse(dp *v1alpha1.DataPlane) { g.refuse(dp, true) }

// Accept lets the agents act for dp again.
func (g *Gateway) Accept(dp *v1alpha1.DataPlane) { g.refuse(dp, false) }

func (g *Gateway) refuse(dp *v1alpha1.DataPlane, refused bool) {
	namespace := dp.Namespace
	if namespace == "" {
		namespace = "_cluster"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused[namespace+"/"+dp.Name] = refused
}

// RotateClients replaces the authority that signs client certificates. New connections
// need a certificate of a Config that was made after it; open ones stay, see
// [Gateway.CutConnections].
func (g *Gateway) RotateClients() {
	clients := pki.New()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clients = clients
}

// SetTimeout sets how long the gateway waits for an agent's answer, instead of 30 s.
func (g *Gateway) SetTimeout(timeout time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timeout = timeout
}

// CutConnections closes all connections, in the middle of whatever they carry. The gateway
// accepts new ones.
func (g *Gateway) CutConnections() {
	g.running.Lock()
	defer g.running.Unlock()
	if g.http != nil {
		g.http.CloseClientConnections()
	}
}

// Stop cuts all connections, in the middle of whatever they carry, and refuses new ones until
// Start, as a gateway that restarts does. Agents finish what they carry out, and are connected
// again after Start. If the gateway is stopped already, Stop does nothing.
func (g *Gateway) Stop() {
	g.running.Lock()
	defer g.running.Unlock()
	if g.http != nil {
		_ = g.http.Listener.Close() // first, since Close waits for requests of new connections
		g.http.CloseClientConnections()
		g.http.Close()
		g.http = nil
	}
}

// Start starts the gateway again after Stop, at the same address. It panics if another program
// listens there now. If the gateway is running, or closed, Start does nothing.
func (g *Gateway) Start() {
	g.running.Lock()
	defer g.running.Unlock()
	if g.http != nil || g.life.Err() != nil {
		return
	}
	listener, err := net.Listen("tcp", strings.TrimPrefix(g.url, "https://"))
	if err != nil {
		panic(err)
	}
	g.http = g.unstarted()
	_ = g.http.Listener.Close()
	g.http.Listener = listener
	g.http.StartTLS()
}

// Requests returns the requests that the gateway has received, in the order of their arrival.
func (g *Gateway) Requests() []Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.requests)
}

// Close ends the gateway and what its agents are carrying out. It returns when all handlers
// have.
func (g *Gateway) Close() {
	g.mu.Lock()
	g.end()
	g.mu.Unlock()
	g.Stop()
	g.open.Wait()
}

// answer answers as the gateway does.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request) {
	request := Request{Method: r.Method, URI: r.RequestURI}
	if len(r.TLS.PeerCertificates) > 0 {
		request.User = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	path, isProxy := strings.CutPrefix(r.URL.Path, gatewayPrefix)
	planeID, path, _ := strings.Cut(path, "/")
	object, path, isPath := cutObject(path)
	g.mu.Lock()
	g.requests = append(g.requests, request)
	agent, timeout, refused := g.agents[planeID], g.timeout, g.refused[object]
	g.mu.Unlock()
	switch {
	case !isProxy, !isPath:
		http.NotFound(w, r)
	case strings.Contains(r.URL.RawQuery, "watch=true"), r.Header.Get("Upgrade") != "",
		strings.HasSuffix(path, "/log") && r.URL.Query().Get("follow") == "true":
		http.Error(w, "streaming is not supported through the HTTP tunnel", http.StatusNotImplemented)
	case isBlocked(path):
		http.Error(w, "Access to path is blocked", http.StatusForbidden)
	case agent == nil:
		http.Error(w, "no agents found for plane dataplane/"+planeID, http.StatusBadGateway)
	case refused:
		http.Error(w, "Agent not authorized for CR "+object, http.StatusForbidden)
	default:
		g.tunnel(w, r, path, agent, timeout)
	}
}

// cutObject cuts {namespace}/{name}/k8s off a path.
func cutObject(path string) (object, rest string, ok bool) {
	namespace, path, _ := strings.Cut(path, "/")
	name, path, _ := strings.Cut(path, "/")
	rest, ok = strings.CutPrefix("/"+path, "/k8s")
	return namespace + "/" + name, rest, ok && (rest == "" || rest[0] == '/')
}

func isBlocked(path string) bool {
	return strings.HasPrefix(path, "/api/v1/namespaces/kube-system/secrets")
}

// tunnel hands a request to an agent, and its whole answer to the client. The agent goes on
// when the gateway gives up, so that a write may be carried out.
func (g *Gateway) tunnel(w http.ResponseWriter, r *http.Request, path string, agent http.Handler, timeout time.Duration) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxGatewayBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		http.Error(w, "request body too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		return // the client is gone
	}
	// So that a reverse proxy breaks off with its API server.
	ctx := context.WithValue(g.life, http.ServerContextKey, r.Context().Value(http.ServerContextKey))
	asked := r.Clone(ctx)
	asked.URL.Path, asked.URL.RawPath = path, ""
	asked.RequestURI = asked.URL.RequestURI()
	asked.Body = io.NopCloser(bytes.NewReader(body))
	asked.Header.Del("Authorization") // the agent acts with an account of its own
	answered := make(chan *httptest.ResponseRecorder, 1)
	if !g.begin() {
		return
	}
	go func() {
		defer g.open.Done()
		answered <- carryOut(agent, asked)
	}()
	select {
	case answer := <-answered:
		for name, values := range answer.Result().Header {
			w.Header()[name] = values
		}
		if w.Header().Get("Audit-Id") == "" && answer.Code != http.StatusBadGateway {
			w.Header().Set("Audit-Id", "audit-id-of-tests") // as API servers do
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	case <-time.After(timeout):
		http.Error(w, "HTTP tunnel request timeout", http.StatusBadGateway)
	case <-r.Context().Done():
	}
}

// begin counts a request that an agent carries out, or reports that Close doesn't wait for it:
// handlers of HTTP/2 can outlive the server.
func (g *Gateway) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life.Err() != nil {
		return false
	}
	g.open.Add(1)
	return true
}

// carryOut returns the answer of an agent. One that panics answers 502, as OpenChoreo's does when
// its API server breaks off.
func carryOut(agent http.Handler, asked *http.Request) (answer *httptest.ResponseRecorder) {
	defer func() {
		if recover() != nil {
			answer = httptest.NewRecorder()
			answer.WriteHeader(http.StatusBadGateway)
		}
	}()
	answer = httptest.NewRecorder()
	agent.ServeHTTP(answer, asked)
	return answer
}
