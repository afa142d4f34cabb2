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
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
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

// Gateway stands in for OpenChoreo's cluster gateway, as of v1.2: a TLS server on loopback that
// demands a client certificate, and passes each request to the agent of a data plane. Like the
// real gateway, it buffers each answer, waits 30 s for it at most, and refuses what looks like
// a watch or another stream; helpers.GatewayConfigFor spells watches so that they pass. An agent of
// your own must end such a watch after its timeoutSeconds, as API servers do. The methods of a
// Gateway may be called at any time, from any goroutine.
//
//	gateway := dataplanetest.NewGateway()
//	defer gateway.Close()
//	gateway.Connect("prod", dataplanetest.Agent(config)) // an agent in front of an API server
//	client := remote.NewCache(get, build, remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
type Gateway struct {
	edits []func(*httptest.Server)
	url   string
	serve *pki.Authority
	life  context.Context // the parent of the agents' requests
	end   context.CancelFunc
	open  sync.WaitGroup // counts the agents' requests; begin adds one

	running sync.Mutex       // held while the server starts or ends
	http    *httptest.Server // nil while the gateway is stopped

	mu       sync.Mutex
	clients  *pki.Authority
	timeout  time.Duration
	agents   map[string]http.Handler // by plane ID
	refused  map[string]bool         // by namespace/name, as in the gateway's paths
	requests []Request
}

// NewGateway starts a gateway without agents. The caller must close it.
//
// Edits change the underlying server each time before it starts. For example, with TLS.ClientAuth
// set to tls.NoClientCert, it demands no client certificate, as in OpenChoreo v1.1.
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
	server.Config.ErrorLog = panicLog
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

// Config returns a config for requests to the gateway, with its address, its CA, and a new client
// certificate. The caller owns the result, which is the second argument of
// helpers.GatewayConfigFor.
func (g *Gateway) Config() *rest.Config {
	g.mu.Lock()
	defer g.mu.Unlock()
	return &rest.Config{Host: g.url, TLSClientConfig: issueTLS(g.clients, "tests", g.serve.Cert)}
}

// Connect connects an agent of a plane to the gateway, and replaces the one that is connected.
// agent answers requests in the place of the data plane's API server: the result of [Agent], or a
// test's own handler. The gateway doesn't read the clientCA of objects; see Refuse.
func (g *Gateway) Connect(planeID string, agent http.Handler) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.agents[planeID] = agent
}

// Disconnect disconnects the agent of a plane. Requests under way still get their answers;
// OpenChoreo's gateway would give up on them after 30 s. To test that, use SetTimeout and [Hang].
func (g *Gateway) Disconnect(planeID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.agents, planeID)
}

// Refuse makes the gateway refuse requests for dp, as if dp's clientCA hadn't signed the agents'
// certificates. Accept undoes this.
func (g *Gateway) Refuse(dp *v1alpha1.DataPlane) { g.refuse(dp, true) }

// Accept makes the gateway accept requests for dp again.
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

// RotateClients replaces the authority that signs client certificates. New connections need a
// certificate of a later Config. Open connections stay; [Gateway.CutConnections] closes them.
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

// CutConnections closes all connections, even in the middle of a request. The gateway accepts new
// connections.
func (g *Gateway) CutConnections() {
	g.running.Lock()
	defer g.running.Unlock()
	if g.http != nil {
		g.http.CloseClientConnections()
	}
}

// Stop closes all connections, even in the middle of a request, and refuses new ones until Start,
// as a gateway that restarts does. Agents finish their requests, and are connected again after
// Start. If the gateway is already stopped, Stop does nothing.
func (g *Gateway) Stop() {
	g.running.Lock()
	defer g.running.Unlock()
	if g.http != nil {
		end(g.http)
		g.http = nil
	}
}

// Start starts the gateway again after Stop, at the same address. It panics if another program
// has taken the port. If the gateway is running or closed, Start does nothing.
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

// Close ends the gateway and the requests of its agents. It returns when all handlers have
// returned.
func (g *Gateway) Close() {
	g.mu.Lock()
	g.end()
	g.mu.Unlock()
	g.Stop()
	g.open.Wait()
}

// answer answers a request as OpenChoreo's gateway does.
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
		http.Error(w, "Streaming operations (watch, logs -f, exec, port-forward) are not yet supported through the HTTP proxy. "+
			"Use the CQRS API (/api/k8s-resources/) for resource operations, or connect directly to the data plane for streaming operations.", http.StatusNotImplemented)
	case isBlocked(path):
		http.Error(w, "Access to path is blocked: "+path, http.StatusForbidden)
	case agent == nil:
		http.Error(w, "proxy request failed: no agents found for plane dataplane/"+planeID, http.StatusBadGateway)
	case refused:
		http.Error(w, "Forbidden: Agent not authorized for CR "+strings.TrimPrefix(object, "_cluster"), http.StatusForbidden)
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

// tunnel passes a request to an agent, and the agent's complete answer to the client. The agent
// continues when the gateway gives up: a write may still be carried out.
func (g *Gateway) tunnel(w http.ResponseWriter, r *http.Request, path string, agent http.Handler, timeout time.Duration) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxGatewayBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		http.Error(w, "request body too large", http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		return // the client is gone
	}
	// With ServerContextKey, a reverse proxy panics when its API server breaks off an answer.
	ctx := context.WithValue(g.life, http.ServerContextKey, r.Context().Value(http.ServerContextKey))
	asked := r.Clone(ctx)
	asked.URL.Path, asked.URL.RawPath = path, ""
	asked.RequestURI = asked.URL.RequestURI()
	asked.Body = io.NopCloser(bytes.NewReader(body))
	asked.Header.Del("Authorization") // the agent uses its own account
	answered := make(chan *httptest.ResponseRecorder, 1)
	if !g.begin() {
		panic(http.ErrAbortHandler)
	}
	go func() {
		defer g.open.Done()
		defer close(answered)
		answered <- carryOut(agent, asked)
	}()
	select {
	case answer := <-answered:
		if answer == nil || g.life.Err() != nil { // the agent has ended its goroutine, or Close its request
			panic(http.ErrAbortHandler)
		}
		for name, values := range answer.Result().Header {
			w.Header()[name] = values
		}
		if w.Header().Get("Audit-Id") == "" && answer.Code != http.StatusBadGateway {
			w.Header().Set("Audit-Id", "audit-id-of-tests") // as API servers do
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	case <-time.After(timeout):
		http.Error(w, "proxy request failed: HTTP tunnel request timeout", http.StatusBadGateway)
	case <-r.Context().Done():
	}
}

// begin counts an agent's request, for which Close waits. It returns false once Close was called:
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

// carryOut returns the answer of an agent. If the agent panics, the answer is 502, as OpenChoreo's
// agent answers when its API server breaks off.
func carryOut(agent http.Handler, asked *http.Request) (answer *httptest.ResponseRecorder) {
	defer func() {
		if cause := recover(); cause != nil {
			if cause != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
				panicLog.Printf("http: panic serving %s: %v\n%s", asked.URL, cause, debug.Stack())
			}
			answer = httptest.NewRecorder()
			answer.WriteHeader(http.StatusBadGateway)
		}
	}()
	answer = httptest.NewRecorder()
	agent.ServeHTTP(answer, asked)
	return answer
}
