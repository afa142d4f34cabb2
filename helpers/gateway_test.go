// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func agentDataPlane(edits ...func(*v1alpha1.DataPlane)) *v1alpha1.DataPlane {
	dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "acme", Name: "prod"}}
	dp.Spec.ClusterAgent = &v1alpha1.ClusterAgentConfig{ClientCA: v1alpha1.ValueFrom{Value: "ca"}}
	for _, edit := range edits {
		edit(dp)
	}
	return dp
}

func planeID(id string) func(*v1alpha1.DataPlane) {
	return func(dp *v1alpha1.DataPlane) { dp.Spec.PlaneID = id }
}

func noNamespace(dp *v1alpha1.DataPlane) { dp.Namespace = "" }

func newGateway(t *testing.T, edits ...func(*httptest.Server)) *dataplanetest.Gateway {
	t.Helper()
	gateway := dataplanetest.NewGateway(edits...)
	t.Cleanup(gateway.Close)
	return gateway
}

func clientThrough(t *testing.T, gateway *rest.Config, dp *v1alpha1.DataPlane) *kubernetes.Clientset {
	t.Helper()
	config, err := helpers.GatewayConfigFor(dp, gateway)
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return client
}

// oneConfigMap serves one ConfigMap like an API server.
func oneConfigMap(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/version":
		_, _ = w.Write([]byte(`{"gitVersion":"v1.33.0"}`))
	case r.URL.Path != "/api/v1/namespaces/apps/configmaps":
		dataplanetest.Status(http.StatusNotFound).ServeHTTP(w, r)
	case r.Method == http.MethodPost:
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"made"}}`))
	default:
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"ConfigMapList","items":[{"metadata":{"name":"settings"}}]}`))
	}
}

func TestGatewayConfigForServesAClientset(t *testing.T) {
	for name, test := range map[string]struct {
		dp      *v1alpha1.DataPlane
		planeID string
		path    string
	}{
		"a data plane without a plane ID": {agentDataPlane(), "prod", "/prod/acme/prod"},
		"a data plane with a plane ID":    {agentDataPlane(planeID("shared")), "shared", "/shared/acme/prod"},
		"a cluster data plane":            {agentDataPlane(noNamespace, planeID("shared")), "shared", "/shared/_cluster/prod"},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := newGateway(t)
			gateway.Connect(test.planeID, http.HandlerFunc(oneConfigMap))
			client := clientThrough(t, gateway.Config(), test.dp)

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
			for _, request := range gateway.Requests() {
				assert.True(t, strings.HasPrefix(request.URI, "/api/proxy/dataplane"+test.path+"/k8s/"), request.URI)
			}
		})
	}
}

func TestGatewayConfigForHost(t *testing.T) {
	withTLS := rest.TLSClientConfig{CAData: []byte("ca")}
	for name, test := range map[string]struct {
		gateway rest.Config
		dp      *v1alpha1.DataPlane
		want    string
	}{
		"a URL":             {rest.Config{Host: "https://gateway:8444"}, agentDataPlane(), "https://gateway:8444/api/proxy/dataplane/prod/acme/prod/k8s"},
		"a URL with a path": {rest.Config{Host: "https://gateway/base/"}, agentDataPlane(), "https://gateway/base/api/proxy/dataplane/prod/acme/prod/k8s"},
		"a host with TLS":   {rest.Config{Host: "gateway:8444", TLSClientConfig: withTLS}, agentDataPlane(), "https://gateway:8444/api/proxy/dataplane/prod/acme/prod/k8s"},
		"another plane ID":  {rest.Config{Host: "https://gateway"}, agentDataPlane(planeID("shared")), "https://gateway/api/proxy/dataplane/shared/acme/prod/k8s"},
		"a cluster data plane": {
			rest.Config{Host: "https://gateway"}, agentDataPlane(noNamespace), "https://gateway/api/proxy/dataplane/prod/_cluster/prod/k8s",
		},
		"a plane ID that needs escaping": {
			rest.Config{Host: "https://gateway"}, agentDataPlane(planeID("a b?c")), "https://gateway/api/proxy/dataplane/a%20b%3Fc/acme/prod/k8s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.gateway.UserAgent, test.gateway.Impersonate.UserName, test.gateway.Burst = "tool/v1", "alice", 7
			before := test.gateway
			config, err := helpers.GatewayConfigFor(test.dp, &test.gateway)
			require.NoError(t, err)
			assert.Equal(t, before, test.gateway, "the gateway's configuration stays as it is")
			assert.NotNil(t, config.WrapTransport)
			before.Host, before.QPS, config.WrapTransport = test.want, 50, nil
			assert.Equal(t, before, *config, "little else differs")
		})
	}
}

func TestGatewayConfigForNamesTheFieldAtFault(t *testing.T) {
	const noTokens = "must not be set: the gateway takes client certificates, and sends tokens and passwords on to the agent of each data plane"
	gateway := &rest.Config{Host: "https://gateway"}
	for name, test := range map[string]struct {
		dp      *v1alpha1.DataPlane
		gateway *rest.Config
		want    string
	}{
		"no data plane":           {nil, gateway, "nil data plane"},
		"no gateway":              {agentDataPlane(), nil, "gateway: must be set: the data plane is reached through OpenChoreo's cluster gateway"},
		"no host":                 {agentDataPlane(), &rest.Config{}, "gateway.Host: must be set, to a URL such as https://host:6443"},
		"a host that is no URL":   {agentDataPlane(), &rest.Config{Host: "https://user:hunter2@[::1"}, "gateway.Host: can't be parsed; want a URL such as https://host:6443"},
		"an address with a path":  {agentDataPlane(), &rest.Config{Host: "10.0.0.1:80/hunter2"}, "gateway.Host: must be a URL or host:port"},
		"http":                    {agentDataPlane(), &rest.Config{Host: "http://gateway"}, "gateway.Host: must use https: credentials are sent only over TLS"},
		"an address without TLS":  {agentDataPlane(), &rest.Config{Host: "10.0.0.1:80"}, "gateway.Host: must use https: credentials are sent only over TLS"},
		"a query":                 {agentDataPlane(), &rest.Config{Host: "https://gateway?token=hunter2"}, "gateway.Host: must not contain a query or fragment"},
		"a fragment":              {agentDataPlane(), &rest.Config{Host: "https://gateway/#"}, "gateway.Host: must not contain a query or fragment"},
		"a user name":             {agentDataPlane(), &rest.Config{Host: "https://hunter2@gateway"}, "gateway.Host: must not contain a user name or password"},
		"a port that is none":     {agentDataPlane(), &rest.Config{Host: "https://gateway:99999"}, "gateway.Host: must have a port from 1 to 65535"},
		"an escaped slash":        {agentDataPlane(), &rest.Config{Host: "https://gateway/a%2Fb"}, "gateway.Host: must not contain an escaped slash (%2F): client-go would send it as a slash"},
		"a token":                 {agentDataPlane(), &rest.Config{Host: "https://gateway", BearerToken: "hunter2"}, "gateway.BearerToken: " + noTokens},
		"a file with a token":     {agentDataPlane(), &rest.Config{Host: "https://gateway", BearerTokenFile: "token"}, "gateway.BearerTokenFile: " + noTokens},
		"a user":                  {agentDataPlane(), &rest.Config{Host: "https://gateway", Username: "alice"}, "gateway.Username: " + noTokens},
		"a password":              {agentDataPlane(), &rest.Config{Host: "https://gateway", Password: "hunter2"}, "gateway.Password: " + noTokens},
		"an old plugin":           {agentDataPlane(), &rest.Config{Host: "https://gateway", AuthProvider: &clientcmdapi.AuthProviderConfig{}}, "gateway.AuthProvider: " + noTokens},
		"a plugin":                {agentDataPlane(), &rest.Config{Host: "https://gateway", ExecProvider: &clientcmdapi.ExecConfig{}}, "gateway.ExecProvider: " + noTokens},
		"no name":                 {agentDataPlane(planeID("prod"), func(dp *v1alpha1.DataPlane) { dp.Name = "" }), gateway, "metadata.name: must be set"},
		"a plane ID with a slash": {agentDataPlane(planeID("a/b")), gateway, "spec.planeID: may not contain '/'"},
		"a plane ID that climbs":  {agentDataPlane(planeID("..")), gateway, "spec.planeID: may not be '..'"},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := helpers.GatewayConfigFor(test.dp, test.gateway)
			assert.Nil(t, config)
			require.EqualError(t, err, test.want)
		})
	}
}

func TestErrorsOfTheGatewaysConfigurationSayWhatToDo(t *testing.T) {
	gateway, other := newGateway(t), newGateway(t)
	gateway.Connect("prod", http.HandlerFunc(oneConfigMap))
	authority, key := pki.New(), pki.ECDSAKey()
	old := newGateway(t, func(s *httptest.Server) {
		certificate := authority.Issue("gateway", key, pki.Expired, func(c *x509.Certificate) {
			c.ExtKeyUsage, c.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)}
		})
		s.TLS.Certificates = []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}
	})
	for name, test := range map[string]struct {
		edit func(*rest.Config)
		want string
	}{
		"no client certificate": {func(c *rest.Config) { c.CertData, c.KeyData = nil, nil }, "cluster-gateway-internal-ca"},
		"another client certificate": {func(c *rest.Config) {
			from := other.Config()
			c.CertData, c.KeyData = from.CertData, from.KeyData
		}, "cluster-gateway-internal-ca"},
		"a reset without an alert, on Windows": {func(c *rest.Config) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, os.NewSyscallError("wsarecv", syscall.Errno(10054))
			}
		}, "cluster-gateway-internal-ca"},
		"another CA":   {func(c *rest.Config) { c.CAData = other.Config().CAData }, "cluster-gateway-ca"},
		"another name": {func(c *rest.Config) { c.ServerName = "gateway.example.com" }, "ServerName"},
		"a gateway whose certificate has expired": {func(c *rest.Config) {
			*c = *old.Config()
			c.CAData = pki.Certificates(authority.Cert)
		}, "restart the cluster gateway"},
	} {
		t.Run(name, func(t *testing.T) {
			config := gateway.Config()
			test.edit(config)
			_, err := clientThrough(t, config, agentDataPlane()).Discovery().ServerVersion()
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestAnAlertThatIsNotAboutCertificatesBlamesNone(t *testing.T) {
	gateway := newGateway(t, func(s *httptest.Server) {
		s.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return nil, errors.New("no configuration") // the alert is an internal error
		}
	})
	_, err := clientThrough(t, gateway.Config(), agentDataPlane()).Discovery().ServerVersion()
	require.ErrorContains(t, err, "tls: internal error")
	require.NotContains(t, err.Error(), "certificate")
}
