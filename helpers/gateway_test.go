// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
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

// oneConfigMap is an API server that has one ConfigMap.
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

func TestGatewayConfigForServesAClientset(t *testing.T) {
	for name, test := range map[string]struct {
		dp      *v1alpha1.DataPlane
		planeID string
		path    string
	}{
		"a data plane whose plane has its name": {agentDataPlane(), "prod", "/prod/acme/prod"},
		"a data plane with a plane ID":          {agentDataPlane(planeID("shared")), "shared", "/shared/acme/prod"},
		"a cluster data plane":                  {agentDataPlane(noNamespace, planeID("shared")), "shared", "/shared/_cluster/prod"},
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

// A gateway counts as a stream what says so in so many letters. What it takes for a stream
// it refuses; what it doesn't, though it is one, hangs in the agent.
func TestWatchesThroughTheGatewayAreBounded(t *testing.T) {
	const path = "/api/v1/namespaces/apps/configmaps"
	for name, test := range map[string]struct{ request, want string }{
		"a watch":                           {path + "?watch=true", path + "?timeoutSeconds=5&watch=1"},
		"another spelling":                  {path + "?watch=1", path + "?timeoutSeconds=5&watch=1"},
		"a capital letter":                  {path + "?watch=True", path + "?timeoutSeconds=5&watch=1"},
		"no value":                          {path + "?watch", path + "?timeoutSeconds=5&watch=1"},
		"any other value":                   {path + "?watch=yes", path + "?timeoutSeconds=5&watch=1"},
		"a longer time":                     {path + "?timeoutSeconds=423&watch=true", path + "?timeoutSeconds=5&watch=1"},
		"a time of 0, which is none":        {path + "?timeoutSeconds=0&watch=true", path + "?timeoutSeconds=5&watch=1"},
		"a shorter time stays":              {path + "?timeoutSeconds=2&watch=true", path + "?timeoutSeconds=2&watch=1"},
		"a time that is refused stays":      {path + "?timeoutSeconds=x&watch=true", path + "?timeoutSeconds=x&watch=1"},
		"other parameters stay":             {path + "?watch=true&labelSelector=watch%3Dtrue", path + "?labelSelector=watch%3Dtrue&timeoutSeconds=5&watch=1"},
		"an old path":                       {"/api/v1/watch/namespaces/apps/configmaps", "/api/v1/watch/namespaces/apps/configmaps?timeoutSeconds=5"},
		"a group":                           {"/apis/apps/v1/deployments?watch=true", "/apis/apps/v1/deployments?timeoutSeconds=5&watch=1"},
		"no initial events":                 {path + "?sendInitialEvents=false&watch=true", path + "?sendInitialEvents=false&timeoutSeconds=5&watch=1"},
		"a list stays":                      {path + "?watch=false", path + "?watch=false"},
		"zero is false":                     {path + "?watch=0", path + "?watch=0"},
		"a list of a time":                  {path + "?timeoutSeconds=60", path + "?timeoutSeconds=60"},
		"a parameter of a proxied service":  {"/api/v1/namespaces/apps/services/web/proxy/?watch=1", "/api/v1/namespaces/apps/services/web/proxy/?watch=1"},
		"a parameter of no resource's path": {"/readyz?watch=1", "/readyz?watch=1"},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := newGateway(t)
			var asked string
			gateway.Connect("prod", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = r.RequestURI }))
			config, err := helpers.GatewayConfigFor(agentDataPlane(), gateway.Config())
			require.NoError(t, err)
			client, err := rest.HTTPClientFor(config)
			require.NoError(t, err)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+test.request, nil)
			require.NoError(t, err)
			before := req.URL.String()
			resp, err := client.Do(req)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, http.StatusOK, resp.StatusCode)
			assert.Equal(t, test.want, asked)
			assert.Equal(t, before, req.URL.String(), "the caller's request stays as it is")
		})
	}
}

func TestWatchThatBeginsWithAllObjectsIsRefusedWithoutARequest(t *testing.T) {
	gateway := newGateway(t)
	gateway.Connect("prod", http.HandlerFunc(oneConfigMap))
	yes := true
	_, err := clientThrough(t, gateway.Config(), agentDataPlane()).CoreV1().ConfigMaps("").Watch(t.Context(), metav1.ListOptions{
		SendInitialEvents: &yes, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true,
	})
	assert.True(t, apierrors.IsInvalid(err), "reflectors list first: %v", err)
	assert.Empty(t, gateway.Requests())
}

func TestStreamsAreRefusedByTheGateway(t *testing.T) {
	gateway := newGateway(t)
	gateway.Connect("prod", http.HandlerFunc(oneConfigMap))
	logs := clientThrough(t, gateway.Config(), agentDataPlane()).CoreV1().Pods("apps").GetLogs("pod", &corev1.PodLogOptions{Follow: true})
	_, err := logs.Stream(t.Context())
	assert.Equal(t, int32(http.StatusNotImplemented), statusOf(t, err).Code)
}

func statusOf(t *testing.T, err error) metav1.Status {
	t.Helper()
	var status apierrors.APIStatus
	require.ErrorAs(t, err, &status)
	return status.Status()
}

func TestAnswersOfTheGatewayAreNotTakenForAnAPIServers(t *testing.T) {
	ours := func(gateway *dataplanetest.Gateway) { gateway.Connect("prod", http.HandlerFunc(oneConfigMap)) }
	answering := func(code int, body string) func(*dataplanetest.Gateway) {
		return func(gateway *dataplanetest.Gateway) {
			gateway.Connect("prod", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, code) }))
		}
	}
	for name, test := range map[string]struct {
		prepare func(*dataplanetest.Gateway)
		edit    func(*rest.Config)
		path    string
		code    int32
		reason  metav1.StatusReason
		cause   metav1.CauseType
		says    string
	}{
		"no agent": {
			prepare: func(*dataplanetest.Gateway) {},
			code:    502, reason: metav1.StatusReasonServiceUnavailable, cause: "ClusterGatewayNoAgent",
			says: "the cluster gateway has no agent that may act for this data plane: no agents found for plane",
		},
		"an agent that may not act for the object": {
			prepare: func(gateway *dataplanetest.Gateway) { ours(gateway); gateway.Refuse(agentDataPlane()) },
			code:    502, reason: metav1.StatusReasonServiceUnavailable, cause: "ClusterGatewayNoAgent",
			says: "no agent that may act for this data plane: Agent not authorized",
		},
		"an agent that does not answer": {
			prepare: func(gateway *dataplanetest.Gateway) {
				gateway.SetTimeout(time.Millisecond)
				gateway.Connect("prod", dataplanetest.Hang())
			},
			code: 504, reason: metav1.StatusReasonTimeout, cause: "ClusterGateway",
			says: "a write may have been carried out",
		},
		"an API server that the agent can't reach": {
			prepare: func(gateway *dataplanetest.Gateway) {
				gateway.Connect("prod", dataplanetest.Agent(&rest.Config{Host: "http://127.0.0.1:1"}))
			},
			code: 502, reason: metav1.StatusReasonServiceUnavailable, cause: "ClusterGateway",
			says: "the agent of the data plane can't reach its API server",
		},
		"a path that is blocked": {
			prepare: ours, path: "/api/v1/namespaces/kube-system/secrets",
			code: 403, reason: metav1.StatusReasonForbidden, cause: "ClusterGateway",
			says: "Access to path is blocked",
		},
		"a port that serves agents": {
			prepare: ours, edit: func(config *rest.Config) { config.Host += "/elsewhere" },
			code: 503, reason: metav1.StatusReasonServiceUnavailable, cause: "ClusterGateway",
			says: "8444",
		},
		"an API server's own 404": {
			prepare: ours, path: "/api/v1/namespaces/apps/secrets/missing",
			code: 404, reason: metav1.StatusReasonNotFound,
		},
		"an API server's 404 as text": {
			prepare: answering(404, "404 page not found"),
			code:    404, reason: metav1.StatusReasonNotFound, cause: metav1.CauseTypeUnexpectedServerResponse,
		},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := newGateway(t)
			test.prepare(gateway)
			config := gateway.Config()
			if test.edit != nil {
				test.edit(config)
			}
			if test.path == "" {
				test.path = "/api/v1/namespaces/apps/configmaps/settings"
				if strings.HasPrefix(name, "an API server's") {
					test.path = "/apis/missing.example.com/v1/things"
				}
			}
			client := clientThrough(t, config, agentDataPlane())
			err := client.CoreV1().RESTClient().Get().AbsPath(test.path).Do(t.Context()).Error()
			status := statusOf(t, err)
			assert.Equal(t, test.code, status.Code)
			assert.Equal(t, test.reason, status.Reason)
			assert.ErrorContains(t, err, test.says)
			if test.cause != "" {
				require.Len(t, status.Details.Causes, 1)
				assert.Equal(t, test.cause, status.Details.Causes[0].Type)
			}
			if strings.HasPrefix(string(test.cause), "ClusterGateway") {
				assert.False(t, apierrors.IsNotFound(err))
				// What client-go reads as text keeps the text.
				if !strings.HasPrefix(name, "a path") {
					_, err = client.Discovery().ServerVersion()
					status = statusOf(t, err)
					assert.Equal(t, test.code, status.Code)
					assert.Contains(t, status.Details.Causes[0].Message, test.says)
				}
			}
		})
	}
}

// A wrapper in the gateway's configuration, such as a circuit breaker, may answer by itself.
func TestAnswersThatAWrapperMakesUpAreTheGateways(t *testing.T) {
	config := newGateway(t).Config()
	config.Wrap(func(http.RoundTripper) http.RoundTripper {
		return roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusServiceUnavailable}, nil
		})
	})
	_, err := clientThrough(t, config, agentDataPlane()).CoreV1().ConfigMaps("apps").List(t.Context(), metav1.ListOptions{})
	require.ErrorContains(t, err, "the cluster gateway answers 503")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestErrorsOfTheGatewaysConfigurationSayWhatToDo(t *testing.T) {
	gateway, other := newGateway(t), newGateway(t)
	gateway.Connect("prod", http.HandlerFunc(oneConfigMap))
	for name, test := range map[string]struct {
		edit func(*rest.Config)
		want string
	}{
		"no client certificate": {func(c *rest.Config) { c.CertData, c.KeyData = nil, nil }, "cluster-gateway-internal-ca"},
		"another client certificate": {func(c *rest.Config) {
			from := other.Config()
			c.CertData, c.KeyData = from.CertData, from.KeyData
		}, "cluster-gateway-internal-ca"},
		"another CA":   {func(c *rest.Config) { c.CAData = other.Config().CAData }, "cluster-gateway-ca"},
		"another name": {func(c *rest.Config) { c.ServerName = "gateway.example.com" }, "ServerName"},
	} {
		t.Run(name, func(t *testing.T) {
			config := gateway.Config()
			test.edit(config)
			_, err := clientThrough(t, config, agentDataPlane()).Discovery().ServerVersion()
			require.ErrorContains(t, err, test.want)
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
			test.gateway.UserAgent, test.gateway.BearerToken, test.gateway.Burst = "tool/v1", "token", 7
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
	gateway := &rest.Config{Host: "https://gateway"}
	for name, test := range map[string]struct {
		dp      *v1alpha1.DataPlane
		gateway *rest.Config
		want    string
	}{
		"no data plane":           {nil, gateway, "nil data plane"},
		"no gateway":              {agentDataPlane(), nil, "nil gateway configuration"},
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

func TestConfigForServesBothGenerations(t *testing.T) {
	gateway := &rest.Config{Host: "https://gateway"}
	configFor := helpers.ConfigFor(gateway)
	gateway.Host = "https://changed" // which concerns nobody

	config, err := configFor(dataplanetest.DataPlane("acme", "old"))
	require.NoError(t, err)
	assert.Equal(t, "https://k8s-api.example.com:6443", config.Host)

	config, err = configFor(agentDataPlane())
	require.NoError(t, err)
	assert.Equal(t, "https://gateway/api/proxy/dataplane/prod/acme/prod/k8s", config.Host)

	config, err = configFor(dataplanetest.DataPlane("acme", "old", func(dp *v1alpha1.DataPlane) {
		dp.Spec.ClusterAgent = agentDataPlane().Spec.ClusterAgent
	}))
	require.NoError(t, err)
	assert.Equal(t, "https://k8s-api.example.com:6443", config.Host, "credentials are the shorter way")

	_, err = configFor(&v1alpha1.DataPlane{})
	require.ErrorIs(t, err, helpers.ErrNoCredentials)
	_, err = configFor(nil)
	require.EqualError(t, err, "nil data plane")
	_, err = helpers.ConfigFor(nil)(agentDataPlane())
	require.EqualError(t, err, "nil gateway configuration")
}
