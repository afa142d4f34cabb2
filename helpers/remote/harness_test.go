// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

// Parallel tests mostly wait, so a few processors are enough for many.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "8")
	m.Run()
}

func newCluster(t testing.TB, dp *v1alpha1.DataPlane, options remote.Options) *remote.Cluster {
	t.Helper()
	c, err := remote.NewCluster(dp, options)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// get returns the body of a response. A status other than 200 is an error.
func get(ctx context.Context, c *remote.Cluster, path string) (string, error) {
	resp, err := open(ctx, c, path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return string(body), err
}

func open(ctx context.Context, c *remote.Cluster, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Config().Host+path, nil)
	if err != nil {
		return nil, err
	}
	return c.HTTPClient().Do(req)
}

func send(c *remote.Cluster, method, path string, body io.Reader) (string, error) {
	req, err := http.NewRequest(method, c.Config().Host+path, body)
	if err != nil {
		return "", err
	}
	resp, err := c.HTTPClient().Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}

type result struct {
	body string
	err  error
}

// streams answers with the user's name. For paths that begin with /api, it then sends a newline,
// and nothing more until the client has gone.
func streams(w http.ResponseWriter, r *http.Request) {
	testserver.WhoAmI(w, r)
	if len(r.URL.Path) < 4 || r.URL.Path[:4] != "/api" {
		return
	}
	_, _ = io.WriteString(w, "\n")
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// hang sends nothing or, if the query has start, half a body, until the client has gone.
func hang(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("start") != "" {
		_, _ = io.WriteString(w, "half")
		w.(http.Flusher).Flush()
	}
	<-r.Context().Done()
}

// editConfig returns options that change what RESTConfigFor returns.
func editConfig(edit func(*rest.Config)) remote.Options {
	return remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		config, err := helpers.RESTConfigFor(dp)
		if err == nil {
			edit(config)
		}
		return config, err
	}}
}

// echoHeader answers with the header that the path names.
func echoHeader(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, r.Header.Get(strings.TrimPrefix(r.URL.Path, "/")))
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// listen accepts connections and gives each to serve, or to nobody.
func listen(t *testing.T, serve func(net.Conn)) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	if serve == nil { // the kernel accepts
		return listener
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return listener
}

func denyAddress(context.Context, string, string, syscall.RawConn) error {
	return errors.New("address is not allowed")
}

// soon requires that something returns without waiting.
func soon(t testing.TB, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	testserver.Receive(t, done)
}

// hold reports requests for paths with /slow, and answers them with the user's name once answer is
// closed.
type hold struct {
	arrived chan string
	answer  chan struct{}
}

func newHold() *hold { return &hold{arrived: make(chan string, 100), answer: make(chan struct{})} }

func (h *hold) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/slow") {
		h.arrived <- r.URL.Path
		select {
		case <-h.answer:
		case <-r.Context().Done():
		}
	}
	streams(w, r)
}

// start makes a request in the background, and waits until the server has it.
func (h *hold) start(t testing.TB, c *remote.Cluster) <-chan result {
	t.Helper()
	done := make(chan result, 1)
	go func() {
		body, err := get(context.Background(), c, "/slow")
		done <- result{body, err}
	}()
	testserver.Receive(t, h.arrived)
	return done
}

func assertClassified(t testing.TB, want remote.Reachability, err error) {
	t.Helper()
	assert.Equal(t, want, remote.Classify(err), "%v", err)
}

func requireTimeout(t testing.TB, err error, says string) {
	t.Helper()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	assert.True(t, timeout.Timeout())
	assertClassified(t, remote.ReachabilityTimeout, err)
	assert.ErrorContains(t, err, "data plane default/prod: "+says)
}

func unauthorized(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(w, "sign in to the service")
}

const never = time.Hour

// afterNewCluster makes ConfigFor fail from its second call on.
func afterNewCluster(err error, edit func(*rest.Config)) remote.Options {
	options := editConfig(edit)
	configFor, calls := options.ConfigFor, 0
	options.ConfigFor = func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		if calls++; calls > 1 {
			return nil, err
		}
		return configFor(dp)
	}
	return options.WithAsking(never, never)
}

// dropContext replaces the context of requests, as a wrapper with a limit may.
func dropContext(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) { return next.RoundTrip(r.Clone(context.Background())) })
}

func newReflector(client kubernetes.Interface, watchList bool) *cache.Reflector {
	source := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "configmaps", "x", fields.Everything())
	reflector := cache.NewReflector(source, &corev1.ConfigMap{}, cache.NewStore(cache.MetaNamespaceKeyFunc), 0)
	// From client-go 0.35 on, watch lists are the default, and there may be no field.
	if field := reflect.ValueOf(reflector).Elem().FieldByName("UseWatchList"); field.IsValid() {
		field.Set(reflect.ValueOf(&watchList))
	}
	return reflector
}

var prod = types.NamespacedName{Namespace: "default", Name: "prod"}

// client is the type that the tests' caches build.
type client struct{ *remote.Cluster }

// fixture is a cache that reads DataPlanes from the indexer of an informer.
type fixture struct {
	*remote.Cache[*client]
	t       testing.TB
	indexer cache.Indexer

	mu      sync.Mutex
	version int
	failing error // of reading a DataPlane
	builds  []*client
	onBuild func(*remote.Cluster) error
}

func newFixture(t testing.TB, options remote.Options) *fixture {
	t.Helper()
	f := &fixture{t: t, indexer: cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})}
	read := remote.FromListers(listers.NewDataPlaneLister(f.indexer), nil)
	f.Cache = remote.NewCache(func(key types.NamespacedName) (*v1alpha1.DataPlane, error) {
		f.mu.Lock()
		err := f.failing
		f.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return read(key)
	}, f.build, options)
	t.Cleanup(f.Close)
	return f
}

func (f *fixture) build(c *remote.Cluster) (*client, error) {
	built := &client{c}
	f.mu.Lock()
	f.builds = append(f.builds, built)
	onBuild := f.onBuild
	f.mu.Unlock()
	if onBuild != nil {
		if err := onBuild(c); err != nil {
			return nil, err
		}
	}
	return built, nil
}

// set stores a new version of an object, as a watch event does, and returns it.
func (f *fixture) set(dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
	f.t.Helper()
	f.mu.Lock()
	f.version++
	dp.ResourceVersion = strconv.Itoa(f.version)
	f.mu.Unlock()
	require.NoError(f.t, f.indexer.Add(dp))
	return dp
}

func (f *fixture) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failing = err
}

func (f *fixture) mustGet(key types.NamespacedName) *client {
	f.t.Helper()
	c, err := f.Get(key)
	require.NoError(f.t, err)
	require.NotNil(f.t, c)
	return c
}

func (f *fixture) requireUser(want string, c *client) {
	f.t.Helper()
	user, err := get(f.t.Context(), c.Cluster, "/")
	require.NoError(f.t, err)
	require.Equal(f.t, want, user)
}

func isClosed(c *client) bool {
	select {
	case <-c.Done():
		return true
	default:
		return false
	}
}
