// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestStatusInJSON(t *testing.T) {
	now := time.Unix(1_700_000_000, 0).UTC()
	status := remote.Status{Planes: []remote.PlaneStatus{
		{Namespace: "default", Name: "a", ConnectionStatus: remote.ConnectionStatus{
			Reachability: remote.ReachabilityTimeout, LastSuccess: now.Add(-time.Minute),
			LastError: "dial tcp: i/o timeout", LastErrorTime: now, LastErrorReachability: remote.ReachabilityTimeout,
			LastRotation: now.Add(-time.Hour), CertificateExpiry: now.Add(time.Hour),
		}},
		{Name: "b"},
	}}
	data, err := json.Marshal(status)
	require.NoError(t, err)
	assert.JSONEq(t, `{"planes": [
		{"namespace": "default", "name": "a", "reachability": "Timeout", "lastSuccess": "2023-11-14T22:12:20Z",
			"lastError": "dial tcp: i/o timeout", "lastErrorTime": "2023-11-14T22:13:20Z", "lastErrorReachability": "Timeout",
			"lastRotation": "2023-11-14T21:13:20Z", "certificateExpiry": "2023-11-14T23:13:20Z"},
		{"name": "b"}
	]}`, string(data))
	data, err = json.Marshal(newFixture(t, remote.Options{}).Status())
	require.NoError(t, err)
	assert.JSONEq(t, `{"planes": []}`, string(data))
}

func TestStatusShowsTheOutcomeOfTheLastRequest(t *testing.T) {
	server := testserver.New(t, nil)
	answer := func(code int) {
		server.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "an answer with a body")
		}))
	}
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{}.WithAsking(never, never))
	status := c.Status()
	assert.False(t, status.CertificateExpiry.IsZero())
	status.CertificateExpiry = time.Time{}
	assert.Equal(t, remote.ConnectionStatus{}, status, "before the first request")
	for _, test := range []struct {
		code int
		want remote.Reachability
		says string
	}{
		{200, remote.ReachabilityReachable, ""},
		{304, remote.ReachabilityReachable, ""},
		{401, remote.ReachabilityUnauthorized, "the API server does not accept the credentials"},
		{403, remote.ReachabilityReachable, ""},
		{503, remote.ReachabilityNotReady, "the API server answers 503 Service Unavailable"},
		{404, remote.ReachabilityReachable, ""},
		{409, remote.ReachabilityReachable, ""},
		{504, remote.ReachabilityTimeout, "the API server answers 504 Gateway Timeout"},
		{429, remote.ReachabilityReachable, ""},
	} {
		answer(test.code)
		began := time.Now().Add(-time.Nanosecond)
		_, _ = get(t.Context(), c, "/api/v1/pods")
		status := c.Status()
		assert.Equal(t, test.want, status.Reachability, "%d", test.code)
		if test.says == "" {
			assert.True(t, status.LastSuccess.After(began), "%d", test.code)
			continue
		}
		assert.Equal(t, "data plane default/prod: "+test.says, status.LastError)
		assert.Equal(t, test.want, status.LastErrorReachability)
		assert.True(t, status.LastErrorTime.After(began) && status.LastSuccess.Before(began), "%d", test.code)
	}
	answer(http.StatusInternalServerError)
	_, _ = get(t.Context(), c, "/api/v1/namespaces/x/services/y/proxy/path")
	assert.Equal(t, remote.ReachabilityReachable, c.Status().Reachability, "a service answers, and not the API server")
	require.Error(t, c.Probe(t.Context()))
	assert.Contains(t, c.Status().LastError, "an answer with a body", "a Probe says more")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	before := c.Status()
	_, err := get(canceled, c, "/api/v1/pods")
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, before, c.Status(), "the caller has ended the request")
	server.Close()
	_, err = get(t.Context(), c, "/api/v1/pods")
	require.Error(t, err)
	assert.Equal(t, remote.ReachabilityRefused, c.Status().Reachability)
}

func TestStatusShowsRotationsAndCertificates(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	c := newCluster(t, dp, remote.Options{})
	wantExpiry := func(dp *v1alpha1.DataPlane) time.Time {
		expiry, err := helpers.CertificateExpiry(dp)
		require.NoError(t, err)
		return expiry.UTC()
	}
	assert.Equal(t, wantExpiry(dp), c.Status().CertificateExpiry)
	require.NoError(t, c.Update(dp))
	assert.Zero(t, c.Status().LastRotation, "nothing has changed")
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	rotatedAt := c.Status().LastRotation
	assert.WithinDuration(t, time.Now(), rotatedAt, time.Minute)
	broken := dp.DeepCopy()
	broken.Spec.KubernetesCluster.Credentials.ClientKey = "hunter2"
	require.Error(t, c.Update(broken))
	status := c.Status()
	assert.Equal(t, remote.ReachabilityInvalidCredentials, status.Reachability, "without a request")
	assert.Equal(t, rotatedAt, status.LastRotation)
	assert.Zero(t, status.CertificateExpiry, "none is in use")

	token := newCluster(t, dp, editConfig(func(config *rest.Config) {
		config.BearerToken, config.CertData, config.KeyData = "hunter2", nil, nil
	}))
	assert.Equal(t, remote.ConnectionStatus{}, token.Status())
}

func TestStatusFollowsAWatch(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		for {
			select {
			case event := <-next:
				if event == "cut" {
					panic(http.ErrAbortHandler)
				}
				_, _ = io.WriteString(w, event)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	resp, err := open(t.Context(), c, "/api/v1/pods?watch=true")
	require.NoError(t, err)
	started := c.Status()
	next <- "event"
	_, err = io.ReadFull(resp.Body, make([]byte, 5))
	require.NoError(t, err)
	assert.True(t, c.Status().LastSuccess.After(started.LastSuccess))
	next <- "cut"
	_, err = io.ReadAll(resp.Body)
	require.Error(t, err)
	assert.Equal(t, remote.ReachabilityRefused, c.Status().Reachability)
	require.NoError(t, resp.Body.Close())

	for name, end := range map[string]func(body io.Closer, cancel func()){
		"closes the body":    func(body io.Closer, _ func()) { _ = body.Close() },
		"cancels the watch":  func(_ io.Closer, cancel func()) { cancel() },
		"rotates the client": func(io.Closer, func()) { assert.NoError(t, c.Update(server.DataPlane("prod", "bob"))) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			resp, err := open(ctx, c, "/api/v1/pods?watch=true")
			require.NoError(t, err)
			ended := make(chan error, 1)
			go func() {
				_, err := io.ReadAll(resp.Body)
				ended <- err
			}()
			end(resp.Body, cancel)
			_ = testserver.Receive(t, ended)
			assert.Equal(t, remote.ReachabilityReachable, c.Status().Reachability, "%s", c.Status().LastError)
			_ = resp.Body.Close()
		})
	}
}

func TestStatusOfABodyThatStalls(t *testing.T) {
	t.Parallel()
	server := testserver.New(t, hang)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{StallTimeout: 3 * time.Second})
	_, err := get(t.Context(), c, "/api/v1/pods?start=1")
	require.Error(t, err)
	status := c.Status()
	assert.Equal(t, remote.ReachabilityTimeout, status.Reachability)
	assert.Equal(t, "data plane default/prod: request made no progress for 3s", status.LastError)
	assert.NotZero(t, status.LastSuccess, "the body had begun")
}

func TestStatusThroughTheGateway(t *testing.T) {
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	dp := dataplanetest.DataPlane("default", "prod", dataplanetest.V1)
	c := newCluster(t, dp, remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
	_, err := get(t.Context(), c, "/api/v1/pods?watch=true&sendInitialEvents=true")
	require.Error(t, err)
	assert.Empty(t, c.Status().Reachability, "nothing was sent")
	_, err = get(t.Context(), c, "/api/v1/pods")
	require.Error(t, err)
	status := c.Status()
	assert.Equal(t, remote.ReachabilityNoAgent, status.Reachability)
	assert.Contains(t, status.LastError, "the cluster gateway has no agent")
	assert.NotZero(t, status.CertificateExpiry, "of the program's certificate")
}

func TestStatusOfACacheHasThePlanesThatExist(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	f := newFixture(t, remote.Options{})
	names := func() (names []string) {
		for _, p := range f.Status().Planes {
			names = append(names, strings.TrimPrefix(p.Namespace+"/"+p.Name+" "+string(p.Reachability), "default/"))
		}
		return names
	}
	f.set(server.DataPlane("prod", "alice"))
	f.set(server.DataPlane("dev", "alice"))
	broken := f.set(dataplanetest.DataPlane("default", "broken", func(dp *v1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials.ClientKey = "hunter2"
	}))
	dev, brokenKey := types.NamespacedName{Namespace: "default", Name: "dev"}, types.NamespacedName{Namespace: "default", Name: "broken"}
	assert.Empty(t, names(), "before the first Get")
	f.requireUser("alice", f.mustGet(prod))
	f.mustGet(dev)
	_, err := f.Get(brokenKey)
	require.Error(t, err)
	assert.Equal(t, []string{"broken InvalidCredentials", "dev ", "prod Reachable"}, names())
	broken = broken.DeepCopy()
	broken.Labels = map[string]string{"a": "b"}
	f.Handler().OnUpdate(broken, f.set(broken))
	assert.Equal(t, []string{"broken InvalidCredentials", "dev ", "prod Reachable"}, names(), "the handler builds no client")

	f.onBuild = func(*remote.Cluster) error { return errors.New("no client") }
	broken = broken.DeepCopy()
	broken.Spec = server.DataPlane("broken", "alice").Spec
	f.set(broken)
	_, err = f.Get(brokenKey)
	require.Error(t, err)
	assert.Equal(t, "data plane default/broken: no client", f.Status().Planes[0].LastError)
	f.onBuild = nil
	f.mustGet(brokenKey)
	assert.Equal(t, []string{"broken ", "dev ", "prod Reachable"}, names())

	require.NoError(t, f.indexer.Delete(broken))
	f.Handler().OnDelete(broken)
	assert.Equal(t, []string{"dev ", "prod Reachable"}, names(), "the handler removes it")
	require.NoError(t, f.indexer.Delete(server.DataPlane("dev", "alice")))
	_, err = f.Get(dev)
	require.Error(t, err)
	assert.Equal(t, []string{"prod Reachable"}, names(), "Get removes it")
	f.Close()
	assert.Empty(t, names())
}

func TestStatusShowsNoSecret(t *testing.T) {
	const secret = "hunter2"
	server := testserver.New(t, testserver.WhoAmI)
	dead := testserver.New(t, testserver.WhoAmI)
	dead.Close()
	proxy := &url.URL{Scheme: "http", User: url.UserPassword("user", secret), Host: strings.TrimPrefix(dead.URL(), "https://")}
	socks := *proxy
	socks.Scheme = "socks5"
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	dp := server.DataPlane("prod", "alice")
	for name, test := range map[string]struct {
		edit   func(*v1alpha1.DataPlane)
		config func(*rest.Config)
	}{
		"the password of a proxy":       {config: func(config *rest.Config) { config.Proxy = http.ProxyURL(proxy) }},
		"the password of a SOCKS proxy": {config: func(config *rest.Config) { config.Proxy = http.ProxyURL(&socks) }},
		"a token":                       {config: func(config *rest.Config) { config.BearerToken = secret; config.CertData, config.KeyData = nil, nil }},
		"a key":                         {edit: func(dp *v1alpha1.DataPlane) { dp.Spec.KubernetesCluster.Credentials.ClientKey = encoded }},
		"a certificate":                 {edit: func(dp *v1alpha1.DataPlane) { dp.Spec.KubernetesCluster.Credentials.ClientCert = encoded }},
		"a password in the address": {edit: func(dp *v1alpha1.DataPlane) {
			dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://user:" + secret + "@127.0.0.1:1"
		}},
		"nothing": {},
	} {
		t.Run(name, func(t *testing.T) {
			dp := dp.DeepCopy()
			if test.edit != nil {
				test.edit(dp)
			}
			f := newFixture(t, editConfig(func(config *rest.Config) {
				if test.config != nil {
					test.config(config)
				}
			}))
			f.set(dp)
			if c, err := f.Get(prod); err == nil {
				_ = c.Probe(t.Context())
				_, _ = get(t.Context(), c.Cluster, "/")
			}
			status := f.Status()
			require.Len(t, status.Planes, 1)
			require.NotEmpty(t, status.Planes[0].Reachability)
			data, err := json.Marshal(status)
			require.NoError(t, err)
			for _, text := range []string{string(data), fmt.Sprintf("%+v", status)} {
				assert.NotContains(t, text, secret)
				assert.NotContains(t, text, encoded)
			}
		})
	}
}
