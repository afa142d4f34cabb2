// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/pki"
)

func agentDataPlane() *v1alpha1.DataPlane {
	return &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "prod"}}
}

// serveGateway answers as OpenChoreo's cluster gateway does, with an agent of the plane
// "prod" and with an API server that has one ConfigMap.
func serveGateway(w http.ResponseWriter, r *http.Request) {
	path, found := strings.CutPrefix(r.URL.Path, "/api/proxy/dataplane/")
	plane, path, _ := strings.Cut(path, "/")
	path, ours := strings.CutPrefix(path, "acme/prod/k8s")
	query := r.URL.Query()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case !found || !ours:
		w.WriteHeader(http.StatusNotFound)
	case query.Get("watch") != "" || query.Get("follow") != "" || r.Header.Get("Upgrade") != "":
		w.WriteHeader(http.StatusNotImplemented)
	case plane != "prod":
		w.WriteHeader(http.StatusBadGateway)
	case path == "/version":
		_, _ = w.Write([]byte(`{"gitVersion":"v1.33.0"}`))
	case path == "/api/v1/namespaces/apps/configmaps" && r.Method == http.MethodPost:
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"made"}}`))
	case path == "/api/v1/namespaces/apps/configmaps":
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"ConfigMapList","items":[{"metadata":{"name":"settings"}}]}`))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func TestGatewayConfigForServesAClientset(t *testing.T) {
	config, err := helpers.GatewayConfigFor(agentDataPlane(), newGateway(t), "")
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)

	version, err := client.Discovery().ServerVersion()
	require.NoError(t, err)
	assert.Equal(t, "v1.33.0", version.GitVersion)
	configMaps := client.CoreV1().ConfigMaps("apps")
	list, err := configMaps.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	assert.Equal(t, "settings", list.Items[0].Name)
	made, err := configMaps.Create(t.Context(), &corev1.ConfigMap{}, metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Equal(t, "made", made.Name)

	_, err = configMaps.Watch(t.Context(), metav1.ListOptions{})
	assert.Equal(t, int32(http.StatusNotImplemented), codeOf(t, err))
	_, err = client.CoreV1().Pods("apps").GetLogs("pod", &corev1.PodLogOptions{Follow: true}).Stream(t.Context())
	assert.Equal(t, int32(http.StatusNotImplemented), codeOf(t, err))
}

func TestGatewayConfigForAnAgentThatIsMissing(t *testing.T) {
	config, err := helpers.GatewayConfigFor(agentDataPlane(), newGateway(t), "elsewhere")
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	_, err = client.CoreV1().ConfigMaps("apps").List(t.Context(), metav1.ListOptions{})
	assert.Equal(t, int32(http.StatusBadGateway), codeOf(t, err))
}

func newGateway(t *testing.T) *rest.Config {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(serveGateway))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAData: pki.Certificates(server.Certificate())}}
}

func codeOf(t *testing.T, err error) int32 {
	t.Helper()
	var status apierrors.APIStatus
	require.ErrorAs(t, err, &status)
	return status.Status().Code
}

func TestGatewayConfigForHost(t *testing.T) {
	withTLS := rest.TLSClientConfig{CAData: []byte("ca")}
	for name, test := range map[string]struct {
		gateway rest.Config
		planeID string
		want    string
	}{
		"a URL":             {rest.Config{Host: "https://gateway:8443"}, "", "https://gateway:8443/api/proxy/dataplane/prod/acme/prod/k8s"},
		"a URL with a path": {rest.Config{Host: "https://gateway/base/"}, "", "https://gateway/base/api/proxy/dataplane/prod/acme/prod/k8s"},
		"a host with TLS":   {rest.Config{Host: "gateway:8443", TLSClientConfig: withTLS}, "", "https://gateway:8443/api/proxy/dataplane/prod/acme/prod/k8s"},
		"another plane ID":  {rest.Config{Host: "https://gateway"}, "shared", "https://gateway/api/proxy/dataplane/shared/acme/prod/k8s"},
		"a plane ID that needs escaping": {
			rest.Config{Host: "https://gateway"}, "a b?c", "https://gateway/api/proxy/dataplane/a%20b%3Fc/acme/prod/k8s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.gateway.UserAgent, test.gateway.BearerToken = "tool/v1", "token"
			before := test.gateway
			config, err := helpers.GatewayConfigFor(agentDataPlane(), &test.gateway, test.planeID)
			require.NoError(t, err)
			assert.Equal(t, before, test.gateway, "the gateway's configuration stays as it is")
			before.Host = test.want
			assert.Equal(t, before, *config, "only Host differs")
		})
	}
}

func TestGatewayConfigForNamesTheFieldAtFault(t *testing.T) {
	gateway := &rest.Config{Host: "https://gateway"}
	unnamed, homeless := agentDataPlane(), agentDataPlane()
	unnamed.Name, homeless.Namespace = "", ""
	for name, test := range map[string]struct {
		dp      *v1alpha1.DataPlane
		gateway *rest.Config
		planeID string
		want    string
	}{
		"no data plane":           {nil, gateway, "", "nil data plane"},
		"no gateway":              {agentDataPlane(), nil, "", "nil gateway configuration"},
		"no host":                 {agentDataPlane(), &rest.Config{}, "", "gateway.Host: must be set, to a URL such as https://host:6443"},
		"a host that is no URL":   {agentDataPlane(), &rest.Config{Host: "https://user:hunter2@[::1"}, "", "gateway.Host: can't be parsed; want a URL such as https://host:6443"},
		"an address with a path":  {agentDataPlane(), &rest.Config{Host: "10.0.0.1:80/hunter2"}, "", "gateway.Host: must be a URL or host:port"},
		"http":                    {agentDataPlane(), &rest.Config{Host: "http://gateway"}, "", "gateway.Host: must use https: credentials are sent only over TLS"},
		"an address without TLS":  {agentDataPlane(), &rest.Config{Host: "10.0.0.1:80"}, "", "gateway.Host: must use https: credentials are sent only over TLS"},
		"a query":                 {agentDataPlane(), &rest.Config{Host: "https://gateway?token=hunter2"}, "", "gateway.Host: must not contain a query or fragment"},
		"a fragment":              {agentDataPlane(), &rest.Config{Host: "https://gateway/#"}, "", "gateway.Host: must not contain a query or fragment"},
		"a user name":             {agentDataPlane(), &rest.Config{Host: "https://hunter2@gateway"}, "", "gateway.Host: must not contain a user name or password"},
		"a port that is none":     {agentDataPlane(), &rest.Config{Host: "https://gateway:99999"}, "", "gateway.Host: must not have a port above 65535"},
		"an escaped slash":        {agentDataPlane(), &rest.Config{Host: "https://gateway/a%2Fb"}, "", "gateway.Host: must not contain an escaped slash (%2F): client-go would send it as a slash"},
		"no name":                 {unnamed, gateway, "", "metadata.name: must be set"},
		"no namespace":            {homeless, gateway, "", "metadata.namespace: must be set"},
		"a plane ID with a slash": {agentDataPlane(), gateway, "a/b", "planeID: may not contain '/'"},
		"a plane ID that climbs":  {agentDataPlane(), gateway, "..", "planeID: may not be '..'"},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := helpers.GatewayConfigFor(test.dp, test.gateway, test.planeID)
			assert.Nil(t, config)
			require.EqualError(t, err, test.want)
		})
	}
}
