// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func TestAClusterTakesItsOwnDataPlaneOnly(t *testing.T) {
	_, err := remote.NewCluster(nil, remote.Options{})
	require.EqualError(t, err, "nil data plane")
	c := newCluster(t, dataplanetest.DataPlane("default", "production-dataplane"), remote.Options{})
	require.EqualError(t, c.Update(nil), "data plane default/production-dataplane: nil data plane")
	other := dataplanetest.DataPlane("default", "production-dataplane")
	other.Name = "other"
	require.EqualError(t, c.Update(other), "data plane default/production-dataplane: got data plane default/other")
}

// The agent of a cluster that was built anew under the former plane ID has a certificate of another CA.
func TestAnAgentWithOtherKeysIsAnotherServer(t *testing.T) {
	pem := func(certificates ...*x509.Certificate) v1alpha1.ValueFrom {
		return v1alpha1.ValueFrom{Value: string(pki.Certificates(certificates...))}
	}
	const junk = "-----BEGIN CERTIFICATE-----\nanVuaw==\n-----END CERTIFICATE-----\n"
	authority, key := pki.New(), pki.ECDSAKey()
	a, b, renewed := authority.Issue("agent", key), pki.New().Cert, authority.Issue("agent", key)
	for name, test := range map[string]struct {
		clientCA []v1alpha1.ValueFrom
		want     error // of the last
	}{
		"another certificate":          {[]v1alpha1.ValueFrom{pem(a), pem(b)}, remote.ErrServerChanged},
		"the same with another text":   {[]v1alpha1.ValueFrom{pem(a), {Value: "agent\n" + pem(a).Value}}, nil},
		"renewed, with the same key":   {[]v1alpha1.ValueFrom{pem(a), pem(renewed)}, nil},
		"another one added":            {[]v1alpha1.ValueFrom{pem(a), pem(a, b)}, nil},
		"rotated by way of both":       {[]v1alpha1.ValueFrom{pem(a), pem(a, b), pem(b)}, nil},
		"moved to a Secret":            {[]v1alpha1.ValueFrom{pem(a), {SecretKeyRef: &v1alpha1.SecretKeyReference{Name: "ca", Key: "ca.crt"}}}, nil},
		"back from a Secret, the same": {[]v1alpha1.ValueFrom{pem(a), {}, pem(a)}, nil},
		"back from a Secret, another":  {[]v1alpha1.ValueFrom{pem(a), {}, pem(b)}, remote.ErrServerChanged},
		"moved behind another":         {[]v1alpha1.ValueFrom{pem(a), {Value: pem(b).Value + junk + pem(a).Value}}, nil},
		"moved behind an unreadable":   {[]v1alpha1.ValueFrom{pem(a), {Value: junk + pem(b).Value}}, remote.ErrServerChanged},
		"unreadable":                   {[]v1alpha1.ValueFrom{pem(a), {Value: "x"}}, nil},
		"the former one again":         {[]v1alpha1.ValueFrom{pem(a), pem(b), pem(a)}, nil},
		"the first one":                {[]v1alpha1.ValueFrom{{}, pem(b)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := &rest.Config{Host: "https://gateway.example.com:8444"}
			dp := dataplanetest.DataPlane("default", "a", dataplanetest.V1)
			dp.Spec.ClusterAgent.ClientCA = test.clientCA[0]
			c := newCluster(t, dp, remote.Options{ConfigFor: helpers.ConfigFor(gateway)})
			var err error
			for _, clientCA := range test.clientCA[1:] {
				dp = dp.DeepCopy()
				dp.Spec.ClusterAgent.ClientCA = clientCA
				err = c.Update(dp)
			}
			require.ErrorIs(t, err, test.want)
		})
	}
}

func TestKeysOfAnAgentAreComparedEvenIfConfigForFails(t *testing.T) {
	a, b := pki.New().Cert, pki.New().Cert
	missing := errors.New("no such Secret")
	for name, test := range map[string]struct {
		during []*x509.Certificate // while ConfigFor fails
		want   error
		after  error // of an Update to b, when it works again
	}{
		"moved":   {[]*x509.Certificate{b}, remote.ErrServerChanged, remote.ErrServerChanged},
		"renewed": {[]*x509.Certificate{a, b}, missing, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var fails bool
			with := func(certificates ...*x509.Certificate) *v1alpha1.DataPlane {
				dp := dataplanetest.DataPlane("default", "a", dataplanetest.V1)
				dp.Spec.ClusterAgent.ClientCA = v1alpha1.ValueFrom{Value: string(pki.Certificates(certificates...))}
				return dp
			}
			c := newCluster(t, with(a), remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
				if fails {
					return nil, missing
				}
				return &rest.Config{Host: "https://127.0.0.1:1"}, nil
			}})
			fails = true
			require.ErrorIs(t, c.Update(with(test.during...)), test.want)
			fails = false
			require.ErrorIs(t, c.Update(with(b)), test.after)
		})
	}
}

func TestAClusterStartsNothingBeforeItIsUsed(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	before, unchanged := runtime.NumGoroutine(), dp.DeepCopy()
	clusters := make([]*remote.Cluster, 100)
	for i := range clusters {
		clusters[i] = newCluster(t, dp, remote.Options{})
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
	assert.Zero(t, server.Accepted())
	for _, c := range clusters {
		c.Close()
	}
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
	assert.Equal(t, unchanged, dp)
}

func TestEveryKindOfClientSharesTheConnection(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/version":
			_, _ = io.WriteString(w, `{"gitVersion":"v1.36.3"}`)
		case strings.Contains(r.Header.Get("Accept"), "PartialObjectMetadataList"):
			_, _ = io.WriteString(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[]}`)
		default:
			_, _ = io.WriteString(w, `{"kind":"ConfigMapList","apiVersion":"v1","items":[]}`)
		}
	})
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	configMaps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

	typed, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	_, err = typed.CoreV1().ConfigMaps("x").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	untyped, err := dynamic.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	_, err = untyped.Resource(configMaps).Namespace("x").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	meta, err := metadata.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	_, err = meta.Resource(configMaps).Namespace("x").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	disco, err := discovery.NewDiscoveryClientForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	version, err := disco.ServerVersion()
	require.NoError(t, err)
	assert.Equal(t, "v1.36.3", version.GitVersion)

	assert.Equal(t, 1, server.Accepted())
	c.Close()
	server.RequireNoConnections()
}

func TestConfigIsCompleteAndTheCallers(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	config := c.Config()
	assert.Equal(t, rest.DefaultKubernetesUserAgent(), config.UserAgent)
	assert.Zero(t, config.Timeout)
	tlsConfig, err := rest.TLSConfigFor(config) // as SPDY and WebSocket clients do
	require.NoError(t, err)
	require.NotNil(t, tlsConfig.GetClientCertificate)

	clear(config.KeyData)
	clear(config.CertData)
	clear(config.CAData)
	config.Host = "https://elsewhere"
	c.HTTPClient().Timeout = time.Nanosecond
	c.HTTPClient().Transport = nil
	user, err := get(t.Context(), c, "/")
	require.NoError(t, err)
	assert.Equal(t, "alice", user)
	assert.NotEqual(t, config.KeyData, c.Config().KeyData)
}

func TestNothingOfConfigIsShared(t *testing.T) {
	server := testserver.New(t, echoHeader)
	c := newCluster(t, server.DataPlane("prod", "alice"), editConfig(func(config *rest.Config) {
		config.Impersonate = rest.ImpersonationConfig{
			UserName: "u", Groups: []string{"viewers"}, Extra: map[string][]string{"scope": {"view"}},
		}
	}))
	config := c.Config()
	config.Impersonate.Groups[0] = "system:masters"
	config.Impersonate.Extra["scope"][0] = "admin"
	for header, want := range map[string]string{"Impersonate-Group": "viewers", "Impersonate-Extra-Scope": "view"} {
		sent, err := get(t.Context(), c, "/"+header)
		require.NoError(t, err)
		assert.Equal(t, want, sent)
	}
}

func TestConfigHoldsTheNewestCredentials(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	token := "first"
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{
		ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			config, err := helpers.RESTConfigFor(dp)
			if err == nil {
				config.BearerToken, config.Impersonate.UserName = token, "carol"
			}
			return config, err
		},
	})
	bob := server.DataPlane("prod", "bob")
	token = "second"
	require.NoError(t, c.Update(bob))
	config := c.Config()
	assert.Equal(t, bob.Spec.KubernetesCluster.Credentials.ClientKey, pki.Encode(config.KeyData))
	assert.Equal(t, "second", config.BearerToken)
	assert.Equal(t, "carol", config.Impersonate.UserName)

	require.Error(t, c.Update(nil))
	withoutCredentials := func() {
		config := c.Config()
		assert.Equal(t, server.URL(), config.Host)
		assert.Empty(t, config.KeyData)
		assert.Empty(t, config.CertData)
		assert.Empty(t, config.BearerToken)
	}
	withoutCredentials()
	require.NoError(t, c.Update(bob))
	assert.NotEmpty(t, c.Config().KeyData)
	c.Close()
	withoutCredentials()
}

func TestConfigForMayLookAtTheCluster(t *testing.T) {
	var c *remote.Cluster
	c = newCluster(t, dataplanetest.DataPlane("default", "production-dataplane"), editConfig(func(config *rest.Config) {
		if c != nil {
			config.UserAgent = c.Config().UserAgent + c.Key().Name + c.String()
		}
	}))
	soon(t, func() { assert.NoError(t, c.Update(dataplanetest.DataPlane("default", "production-dataplane"))) })
}

func TestCloseRefusesNewRequests(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{})
	require.NoError(t, c.Probe(t.Context()))
	c.Close()
	c.Close()
	testserver.Receive(t, c.Done())
	server.RequireNoConnections()
	_, err := get(t.Context(), c, "/")
	require.ErrorIs(t, err, remote.ErrClosed)
	assertClassified(t, remote.ReachabilityClosed, err)
	assert.Contains(t, err.Error(), "data plane default/prod")
	assertClassified(t, remote.ReachabilityClosed, c.Probe(t.Context()))
	body := &closeRecorder{Reader: strings.NewReader("x")}
	_, err = c.HTTPClient().Post(server.URL(), "", body)
	require.ErrorIs(t, err, remote.ErrClosed)
	assert.True(t, body.closed, "as a RoundTripper must")
}

type closeRecorder struct {
	io.Reader
	closed bool
}

func (r *closeRecorder) Close() error { r.closed = true; return nil }

func TestCloseLetsUnaryRequestsEndWithinTheGrace(t *testing.T) {
	h := newHold()
	server := testserver.New(t, h.serve)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Minute})
	// Requests from before a rotation have the grace, too.
	var results []<-chan result
	for i := range 3 {
		require.NoError(t, c.Update(server.DataPlane("prod", fmt.Sprintf("user-%d", i))))
		results = append(results, h.start(t, c))
	}
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	testserver.Receive(t, c.Done())
	_, err := get(t.Context(), c, "/")
	require.ErrorIs(t, err, remote.ErrClosed)
	select {
	case <-closed:
		t.Error("Close has not waited")
	default:
	}
	close(h.answer)
	for i, done := range results {
		result := testserver.Receive(t, done)
		require.NoError(t, result.err)
		assert.Equal(t, fmt.Sprintf("user-%d", i), result.body, "each request keeps its user")
	}
	testserver.Receive(t, closed)
	server.RequireNoConnections()
}

func TestAbortCutsWhatCloseWaitsFor(t *testing.T) {
	h := newHold()
	server := testserver.New(t, h.serve)
	c := newCluster(t, server.DataPlane("prod", "alice"), remote.Options{Grace: time.Hour})
	before := h.start(t, c)
	require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
	after := h.start(t, c)
	closed := make(chan struct{})
	go func() { c.Close(); close(closed) }()
	testserver.Receive(t, c.Done())
	c.Abort()
	server.RequireNoConnections()
	testserver.Receive(t, closed)
	for _, done := range []<-chan result{before, after} {
		require.ErrorIs(t, testserver.Receive(t, done).err, remote.ErrClosed)
	}
	c.Abort() // a second call returns
}

func TestCloseCutsWhatOutlastsTheGrace(t *testing.T) {
	for name, test := range map[string]struct {
		path  string
		grace time.Duration
	}{
		"no answer":                              {path: "/slow", grace: 20 * time.Millisecond},
		"half an answer":                         {path: "/half?start=1", grace: 20 * time.Millisecond},
		"no grace":                               {path: "/slow", grace: -1},
		"a watch, without waiting for the grace": {path: "/api/v1/pods?watch=true&start=1", grace: time.Hour},
		"a watch without headers":                {path: "/api/v1/pods?watch=true", grace: time.Hour},
		"a followed log":                         {path: "/api/v1/namespaces/x/pods/y/log?follow=1&start=1", grace: time.Hour},
	} {
		for _, rotated := range []bool{false, true} {
			for _, http2 := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, rotated=%t, http2=%t", name, rotated, http2), func(t *testing.T) {
					goroutines := runtime.NumGoroutine()
					arrived := make(chan struct{}, 2)
					server := testserver.New(t, func(w http.ResponseWriter, r *http.Request) {
						arrived <- struct{}{}
						hang(w, r)
					}, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
					options := remote.Options{Grace: test.grace, HeaderTimeout: time.Hour}
					c := newCluster(t, server.DataPlane("prod", "alice"), options)
					result := make(chan error, 1)
					go func() {
						_, err := get(context.Background(), c, test.path)
						result <- err
					}()
					testserver.Receive(t, arrived)
					if rotated && test.grace == time.Hour {
						require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
					}
					c.Close()
					server.RequireNoConnections()
					err := testserver.Receive(t, result)
					require.ErrorIs(t, err, remote.ErrClosed, "and not: context canceled")
					server.Close()
					testserver.RequireGoroutines(t, goroutines)
				})
			}
		}
	}
}

func TestAClusterAndItsErrorsShowNoSecret(t *testing.T) {
	server := testserver.New(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	dp := server.DataPlane("prod", "alice")
	const token = "hunter2"
	c := newCluster(t, dp, remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
		config, err := helpers.RESTConfigFor(dp)
		if err == nil {
			config.BearerToken = token
		}
		return config, err
	}})
	unauthorized := c.Probe(t.Context())
	mixed := server.DataPlane("prod", "bob")
	mixed.Spec.KubernetesCluster.Credentials.ClientKey = dp.Spec.KubernetesCluster.Credentials.ClientKey
	mismatch := c.Update(mixed)
	_, refused := get(t.Context(), c, "/")
	key := dp.Spec.KubernetesCluster.Credentials.ClientKey
	for _, value := range []any{c, unauthorized, mismatch, refused} {
		require.NotNil(t, value)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			text := fmt.Sprintf(verb, value)
			assert.NotContains(t, text, token, verb)
			assert.NotContains(t, text, key[100:120], verb)
			assert.NotContains(t, text, string(pki.Decode(key))[60:100], verb)
			assert.NotContains(t, text, fmt.Sprintf("%#v", pki.Decode(key)[60:70])[8:60], verb)
		}
	}
	assert.Equal(t, "data plane default/prod at "+server.URL(), c.String())
}
