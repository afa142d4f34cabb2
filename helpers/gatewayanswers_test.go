// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"fmt"
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

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// The gateway recognizes a watch by its text, and refuses it. An unbounded watch in another
// spelling hangs in the agent. The agent holds each answer in memory.
func TestListsAndWatchesThroughTheGatewayAreBounded(t *testing.T) {
	const path = "/api/v1/namespaces/apps/configmaps"
	for name, test := range map[string]struct{ request, want string }{
		"a watch":                           {path + "?watch=true", path + "?timeoutSeconds=5&watch=1"},
		"another spelling":                  {path + "?watch=1", path + "?timeoutSeconds=5&watch=1"},
		"a capital letter":                  {path + "?watch=True", path + "?timeoutSeconds=5&watch=1"},
		"no value":                          {path + "?watch", path + "?timeoutSeconds=5&watch=1"},
		"any other value":                   {path + "?watch=yes", path + "?timeoutSeconds=5&watch=1"},
		"a longer time":                     {path + "?timeoutSeconds=423&watch=true", path + "?timeoutSeconds=5&watch=1"},
		"a time of 0 means no time":         {path + "?timeoutSeconds=0&watch=true", path + "?timeoutSeconds=5&watch=1"},
		"a shorter time stays":              {path + "?timeoutSeconds=2&watch=true", path + "?timeoutSeconds=2&watch=1"},
		"an invalid time stays":             {path + "?timeoutSeconds=x&watch=true", path + "?timeoutSeconds=x&watch=1"},
		"other parameters stay":             {path + "?watch=true&labelSelector=watch%3Dtrue", path + "?labelSelector=watch%3Dtrue&timeoutSeconds=5&watch=1"},
		"an old path":                       {"/api/v1/watch/namespaces/apps/configmaps", "/api/v1/watch/namespaces/apps/configmaps?timeoutSeconds=5"},
		"a group":                           {"/apis/apps/v1/deployments?watch=true", "/apis/apps/v1/deployments?timeoutSeconds=5&watch=1"},
		"no initial events":                 {path + "?sendInitialEvents=false&watch=true", path + "?sendInitialEvents=false&timeoutSeconds=5&watch=1"},
		"a list stays":                      {path + "?watch=false", path + "?watch=false"},
		"zero is false":                     {path + "?watch=0", path + "?watch=0"},
		"a list in pages":                   {path + "?limit=500&resourceVersion=0", path + "?limit=500"},
		"a later list in pages":             {path + "?limit=500&resourceVersion=17", path + "?limit=500"},
		"a list without pages stays":        {path + "?resourceVersion=0", path + "?resourceVersion=0"},
		"the next page stays":               {path + "?continue=next&limit=500", path + "?continue=next&limit=500"},
		"a list at an exact version stays":  {path + "?limit=500&resourceVersion=17&resourceVersionMatch=Exact", path + "?limit=500&resourceVersion=17&resourceVersionMatch=Exact"},
		"a list with a time":                {path + "?timeoutSeconds=60", path + "?timeoutSeconds=60"},
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

// Reflectors try a watch again after IsTooManyRequests, and list after other errors.
func TestErrorOfAWatchDecidesWhetherReflectorsList(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(*dataplanetest.Gateway)
		want    remote.Reachability
		is      func(error) bool
	}{
		"no agent": {func(*dataplanetest.Gateway) {}, remote.ReachabilityNoAgent, apierrors.IsTooManyRequests},
		"an agent that may not act for the object": {func(gateway *dataplanetest.Gateway) {
			gateway.Connect("prod", http.HandlerFunc(oneConfigMap))
			gateway.Refuse(agentDataPlane())
		}, remote.ReachabilityNoAgent, apierrors.IsTooManyRequests},
		"an agent that does not answer": {func(gateway *dataplanetest.Gateway) {
			gateway.SetTimeout(time.Millisecond)
			gateway.Connect("prod", dataplanetest.Hang())
		}, remote.ReachabilityTimeout, apierrors.IsTimeout},
		"an API server that the agent can't reach": {func(gateway *dataplanetest.Gateway) {
			gateway.Connect("prod", dataplanetest.Agent(&rest.Config{Host: "http://127.0.0.1:1"}))
		}, remote.ReachabilityNotReady, apierrors.IsTooManyRequests},
		"an agent whose connection breaks": {func(gateway *dataplanetest.Gateway) {
			gateway.Connect("prod", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "proxy request failed: failed to send HTTP tunnel request: broken pipe", http.StatusBadGateway)
			}))
		}, remote.ReachabilityNotReady, apierrors.IsTooManyRequests},
		"an agent whose connection accepts no more data": {func(gateway *dataplanetest.Gateway) {
			gateway.Connect("prod", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "proxy request failed: failed to send HTTP tunnel request: i/o timeout", http.StatusBadGateway)
			}))
		}, remote.ReachabilityNotReady, apierrors.IsTooManyRequests},
	} {
		t.Run(name, func(t *testing.T) {
			gateway := newGateway(t)
			test.prepare(gateway)
			cluster, err := remote.NewCluster(agentDataPlane(), remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
			require.NoError(t, err)
			defer cluster.Close()
			client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
			require.NoError(t, err)
			_, err = client.CoreV1().ConfigMaps("apps").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "17"})
			assert.True(t, test.is(err), "%v", err)
			assert.Equal(t, test.want, remote.Classify(err))
			assert.Equal(t, test.want, cluster.Status().Reachability)
		})
	}
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
			says: "the cluster gateway has no agent that may act for this data plane: proxy request failed: no agents found for plane",
		},
		"an agent that may not act for the object": {
			prepare: func(gateway *dataplanetest.Gateway) { ours(gateway); gateway.Refuse(agentDataPlane()) },
			code:    502, reason: metav1.StatusReasonServiceUnavailable, cause: "ClusterGatewayNoAgent",
			says: "no agent that may act for this data plane: Forbidden: Agent not authorized",
		},
		"an agent that does not answer": {
			prepare: func(gateway *dataplanetest.Gateway) {
				gateway.SetTimeout(time.Millisecond)
				gateway.Connect("prod", dataplanetest.Hang())
			},
			code: 504, reason: metav1.StatusReasonTimeout, cause: "ClusterGateway",
			says: "the agent of the data plane did not answer in time",
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
			code: 502, reason: metav1.StatusReasonServiceUnavailable, cause: "ClusterGateway",
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
				// client-go reads the answer to /version as text.
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

func TestOnlyAWriteMayHaveBeenCarriedOut(t *testing.T) {
	breaksOff := dataplanetest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(breaksOff.Close)
	for name, agent := range map[string]http.Handler{
		"no answer in time":         dataplanetest.Hang(),
		"an answer that breaks off": dataplanetest.Agent(breaksOff.Config("agent")),
	} {
		t.Run(name, func(t *testing.T) {
			gateway := newGateway(t)
			gateway.SetTimeout(100 * time.Millisecond)
			gateway.Connect("prod", agent)
			configMaps := clientThrough(t, gateway.Config(), agentDataPlane()).CoreV1().ConfigMaps("apps")
			_, err := configMaps.Create(t.Context(), &corev1.ConfigMap{}, metav1.CreateOptions{})
			require.ErrorContains(t, err, "the write may have been carried out")
			_, err = configMaps.List(t.Context(), metav1.ListOptions{})
			require.Error(t, err)
			require.NotContains(t, err.Error(), "write")
		})
	}
}

// The gateway has accepted the client certificate before, so a restart must not look like a wrong one.
func TestRestartOfTheGatewayIsNotBlamedOnTheCertificate(t *testing.T) {
	for _, http2 := range []bool{true, false} {
		t.Run(fmt.Sprintf("HTTP/2 %t", http2), func(t *testing.T) {
			gateway := newGateway(t, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
			gateway.Connect("prod", http.HandlerFunc(oneConfigMap))
			configMaps := clientThrough(t, gateway.Config(), agentDataPlane()).CoreV1().ConfigMaps("apps")
			_, err := configMaps.List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err)

			arrived := make(chan struct{})
			gateway.Connect("prod", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(arrived)
				dataplanetest.Hang().ServeHTTP(w, r)
			}))
			go func() {
				<-arrived
				gateway.Stop()
			}()
			_, err = configMaps.Create(t.Context(), &corev1.ConfigMap{}, metav1.CreateOptions{})
			require.Error(t, err)
			require.NotContains(t, err.Error(), "certificate")
		})
	}
}

// A wrapper in the gateway's configuration, such as a circuit breaker, may answer a request itself.
func TestAnswersOfAWrapperCountAsTheGateways(t *testing.T) {
	config := newGateway(t).Config()
	config.Wrap(func(http.RoundTripper) http.RoundTripper {
		return roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusServiceUnavailable}, nil
		})
	})
	configMaps := clientThrough(t, config, agentDataPlane()).CoreV1().ConfigMaps("apps")
	_, err := configMaps.List(t.Context(), metav1.ListOptions{})
	require.ErrorContains(t, err, "the cluster gateway answers 503")
	assert.False(t, apierrors.IsTooManyRequests(err), "%v", err)
	_, err = configMaps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "17"})
	require.ErrorContains(t, err, "the cluster gateway answers 503")
	assert.True(t, apierrors.IsTooManyRequests(err), "reflectors try the watch again: %v", err)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
