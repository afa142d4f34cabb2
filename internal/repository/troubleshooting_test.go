// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package repository_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/jsonpath"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

// TestTroubleshootingQuotesWhatIsPrinted causes each error that is a heading in
// docs/troubleshooting.md.
func TestTroubleshootingQuotesWhatIsPrinted(t *testing.T) {
	inRoot(t)
	page := readFile(t, "docs/troubleshooting.md")
	cases := map[string]func(t *testing.T) error{
		"data plane has no credentials in": func(*testing.T) error {
			_, err := helpers.RESTConfigFor(dataplanetest.DataPlane("default", "prod", dataplanetest.V1))
			return err
		},
		"clientKey: InvalidBase64": func(*testing.T) error {
			_, err := helpers.RESTConfigFor(dataplanetest.DataPlane("default", "prod", func(dp *v1alpha1.DataPlane) {
				dp.Spec.KubernetesCluster.Credentials.ClientKey = "-----BEGIN"
			}))
			return err
		},
		"clientKey: KeyMismatch": func(*testing.T) error {
			other := dataplanetest.DataPlane("default", "other")
			_, err := helpers.RESTConfigFor(dataplanetest.DataPlane("default", "prod", func(dp *v1alpha1.DataPlane) {
				dp.Spec.KubernetesCluster.Credentials.ClientKey = other.Spec.KubernetesCluster.Credentials.ClientKey
			}))
			return err
		},
		"secrets of the data plane were dropped": func(*testing.T) error {
			_, err := helpers.RESTConfigFor(dataplanetest.DataPlane("default", "prod").Redacted())
			return err
		},
		"signed by unknown authority": func(t *testing.T) error {
			server, other := newServer(t), newServer(t)
			dp := dataplanetest.DataPlane("default", "prod", server.As("user"))
			dp.Spec.KubernetesCluster.Credentials.CACert = dataplanetest.DataPlane("default", "prod", other.As("user")).Spec.KubernetesCluster.Credentials.CACert
			return probe(t, dp, remote.Options{})
		},
		"client certificate expired at": func(t *testing.T) error { return probe(t, expired(newServer(t)), remote.Options{}) },
		"does not accept the credentials": func(t *testing.T) error {
			server := newServer(t)
			dp := dataplanetest.DataPlane("default", "prod", server.As("user"))
			server.RotateClients()
			return probe(t, dp, remote.Options{})
		},
		"has asked for the client to provide credentials": func(t *testing.T) error {
			server := newServer(t)
			dp := dataplanetest.DataPlane("default", "prod", server.As("user"))
			server.RotateClients()
			cluster, err := remote.NewCluster(dp, remote.Options{})
			require.NoError(t, err)
			t.Cleanup(cluster.Abort)
			client, err := discovery.NewDiscoveryClientForConfigAndClient(cluster.Config(), cluster.HTTPClient())
			require.NoError(t, err)
			_, err = client.ServerVersion()
			return err
		},
		"connection refused": func(t *testing.T) error {
			server := newServer(t)
			dp := dataplanetest.DataPlane("default", "prod", server.As("user"))
			server.Close()
			return probe(t, dp, remote.Options{})
		},
		"no such host": func(t *testing.T) error {
			gateway := dataplanetest.NewGateway()
			t.Cleanup(gateway.Close)
			outside := gateway.Config()
			outside.Host = "https://cluster-gateway.openchoreo-control-plane.svc.invalid:8444" // .invalid never exists, RFC 2606
			return probe(t, dataplanetest.ClusterDataPlane("prod").AsDataPlane(), remote.Options{ConfigFor: helpers.ConfigFor(outside)})
		},
		"server gave HTTP response": func(t *testing.T) error {
			plain := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(plain.Close)
			return probe(t, dataplanetest.DataPlane("default", "prod", newServer(t).As("user"), func(dp *v1alpha1.DataPlane) {
				dp.Spec.KubernetesCluster.Credentials.APIServerURL = strings.Replace(plain.URL, "http:", "https:", 1)
			}), remote.Options{})
		},
		"no such file or directory": func(*testing.T) error {
			_, err := remote.NewCluster(dataplanetest.ClusterDataPlane("prod").AsDataPlane(), remote.Options{ConfigFor: helpers.ConfigFor(&rest.Config{
				Host: "https://127.0.0.1:8444", TLSClientConfig: rest.TLSClientConfig{CertFile: "missing/tls.crt", KeyFile: "missing/tls.key"},
			})})
			return err
		},
		"no response headers within": func(t *testing.T) error {
			server := newServer(t)
			server.SetHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
			dp := dataplanetest.DataPlane("default", "prod", server.As("user"))
			return get(t, dp, remote.Options{HeaderTimeout: 10 * time.Millisecond}, "/api/v1/pods?watch=1")
		},
		"context deadline exceeded": func(t *testing.T) error {
			server := newServer(t)
			server.SetHandler(dataplanetest.Hang())
			cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("user")), remote.Options{})
			require.NoError(t, err)
			t.Cleanup(cluster.Close)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			return cluster.Probe(ctx)
		},
		"not tried again for": func(t *testing.T) error {
			cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", newServer(t).As("user")), remote.Options{
				ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
					config, err := helpers.RESTConfigFor(dp)
					if err == nil {
						config.Dial = func(context.Context, string, string) (net.Conn, error) {
							time.Sleep(1100 * time.Millisecond) // as long as makes a server silent
							return nil, os.ErrDeadlineExceeded
						}
					}
					return config, err
				},
			})
			require.NoError(t, err)
			t.Cleanup(cluster.Abort)
			client, err := coordinationv1client.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
			require.NoError(t, err)
			_, err = client.Leases("default").List(t.Context(), metav1.ListOptions{})
			require.Error(t, err)
			_, err = client.Leases("default").List(t.Context(), metav1.ListOptions{})
			return err
		},
		"request made no progress": func(t *testing.T) error {
			server := newServer(t)
			server.SetHandler(dataplanetest.Hang())
			return probe(t, dataplanetest.DataPlane("default", "prod", server.As("user")), remote.Options{StallTimeout: 10 * time.Millisecond})
		},
		"data plane has another API server": func(t *testing.T) error {
			cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", newServer(t).As("user")), remote.Options{})
			require.NoError(t, err)
			t.Cleanup(cluster.Abort)
			return cluster.Update(dataplanetest.DataPlane("default", "prod", newServer(t).As("user")))
		},
		"dataplanes.openchoreo.dev": func(t *testing.T) error {
			server := newServer(t)
			server.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				status := apierrors.NewForbidden(v1alpha1.Resource("dataplanes"), "prod", errors.New("no right")).Status()
				status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusForbidden)
				_ = json.NewEncoder(w).Encode(status)
			}))
			client, err := openchoreoclient.NewForConfig(server.Config("user"))
			require.NoError(t, err)
			_, err = client.OpenChoreoV1alpha1().DataPlanes("default").Get(t.Context(), "prod", metav1.GetOptions{})
			return err
		},
		"the proxy does not connect": func(t *testing.T) error {
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusProxyAuthRequired)
			}))
			t.Cleanup(proxy.Close)
			address, err := url.Parse(proxy.URL)
			require.NoError(t, err)
			return probe(t, dataplanetest.DataPlane("default", "prod", newServer(t).As("user")), remote.Options{
				ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
					config, err := helpers.RESTConfigFor(dp)
					if err == nil {
						config.Proxy = http.ProxyURL(address)
					}
					return config, err
				},
			})
		},
		"so it is no API server": func(t *testing.T) error {
			server := newServer(t)
			server.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/html") }))
			return probe(t, dataplanetest.DataPlane("default", "prod", server.As("user")), remote.Options{})
		},
		"the server redirects": func(t *testing.T) error {
			server := newServer(t)
			server.SetHandler(http.RedirectHandler("https://127.0.0.1/", http.StatusFound))
			return probe(t, dataplanetest.DataPlane("default", "prod", server.As("user")), remote.Options{})
		},
		"connection to data plane is closed": func(t *testing.T) error {
			cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", newServer(t).As("user")), remote.Options{})
			require.NoError(t, err)
			cluster.Close()
			return cluster.Probe(t.Context())
		},
		"credentials of data plane were rotated": rotated,

		"gateway: must be set": func(*testing.T) error {
			_, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", dataplanetest.V1), remote.Options{ConfigFor: helpers.ConfigFor(nil)})
			return err
		},
		"no agents found": func(t *testing.T) error {
			return throughGateway(t, nil, func(gateway *dataplanetest.Gateway, _ *rest.Config) { gateway.Disconnect("prod") })
		},
		"Agent not authorized": func(t *testing.T) error {
			return throughGateway(t, nil, func(gateway *dataplanetest.Gateway, _ *rest.Config) {
				gateway.Refuse(dataplanetest.ClusterDataPlane("prod").AsDataPlane())
			})
		},
		"the agent of the data plane did not answer": func(t *testing.T) error {
			slow := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
			return throughGateway(t, slow, func(gateway *dataplanetest.Gateway, _ *rest.Config) { gateway.SetTimeout(time.Millisecond) })
		},
		"can't reach its API server": func(t *testing.T) error {
			return throughGateway(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }), func(*dataplanetest.Gateway, *rest.Config) {})
		},
		"its API is on port 8444": func(t *testing.T) error {
			return throughGateway(t, nil, func(_ *dataplanetest.Gateway, config *rest.Config) {
				port := httptest.NewUnstartedServer(http.NotFoundHandler()) // the port of the agents
				port.StartTLS()
				t.Cleanup(port.Close)
				config.Host, config.CAData = port.URL, pki.Certificates(port.Certificate())
				config.ServerName = "example.com"
			})
		},
		"so it is not the cluster gateway": func(t *testing.T) error {
			management := newServer(t) // an API server that forbids its users what it doesn't know
			management.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Audit-Id", "1")
				w.WriteHeader(http.StatusForbidden)
				_ = json.NewEncoder(w).Encode(metav1.Status{
					TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Code: http.StatusForbidden,
					Message: `dataplane "prod" is forbidden: User "user" cannot get resource "dataplane/_cluster" in API group "" at the cluster scope`,
				})
			}))
			return probe(t, dataplanetest.ClusterDataPlane("prod").AsDataPlane(), remote.Options{ConfigFor: helpers.ConfigFor(management.Config("user"))})
		},
		"the cluster gateway does not accept the client certificate": func(t *testing.T) error {
			return throughGateway(t, nil, func(_ *dataplanetest.Gateway, config *rest.Config) { config.CertData, config.KeyData = nil, nil },
				func(s *httptest.Server) { s.EnableHTTP2 = false })
		},
		"restart the cluster gateway": expiredGateway,
		"set CAFile to ca.crt": func(t *testing.T) error {
			return throughGateway(t, nil, func(_ *dataplanetest.Gateway, config *rest.Config) {
				other := dataplanetest.NewGateway()
				t.Cleanup(other.Close)
				config.CAData = other.Config().CAData
			})
		},
		"set Host or ServerName": func(t *testing.T) error {
			return throughGateway(t, nil, func(_ *dataplanetest.Gateway, config *rest.Config) { config.ServerName = "gateway.example.com" })
		},
		"Access to path is blocked": func(t *testing.T) error { return through(t, "/api/v1/namespaces/kube-system/secrets") },
		"answers 501":               func(t *testing.T) error { return through(t, "/api/v1/namespaces/default/pods/app/log?follow=true") },

		"see helpers.Stock": func(t *testing.T) error {
			return waited(t, await.True("Ready"), dataplanetest.Condition("Created", metav1.ConditionTrue))
		},
		"did you mean Ready?": func(t *testing.T) error { return waited(t, await.True("ready"), dataplanetest.Ready) },
		"the API server doesn't serve ClusterDataPlanes": func(t *testing.T) error {
			server := newServer(t)
			server.SetHandler(http.NotFoundHandler())
			client, err := openchoreoclient.NewForConfig(server.Config("user"))
			require.NoError(t, err)
			_, err = await.For(t.Context(), client.OpenChoreoV1alpha1().ClusterDataPlanes(), "prod", await.True("Ready"))
			return err
		},

		"a right is missing": func(t *testing.T) error {
			server := newServer(t)
			server.SetHandler(dataplanetest.Status(http.StatusForbidden))
			leases, err := coordinationv1client.NewForConfig(server.Config("user"))
			require.NoError(t, err)
			return newFleet(t, fleet.Options{Sharding: &fleet.Sharding{
				Leases: leases, Namespace: "default", Name: "program", Identity: "a", Shards: 1, LeaseDuration: 3 * time.Second,
			}}, nil).Run(t.Context())
		},
		"another number of shards": func(t *testing.T) error {
			return shardingError(t, newLeases("program-8-member-bcdfghjklm", "b_bcdfghjklm"), "another number of shards")
		},
		"which is no replica": func(t *testing.T) error {
			return shardingError(t, newLeases("program-1-0", "somebody"), "is held by")
		},
		"the API server doesn't answer": func(t *testing.T) error {
			silent := newLeases("", "")
			silent.silent = true
			return shardingError(t, silent, "answer")
		},
		"run did not return in time": func(t *testing.T) error {
			started, release := make(chan struct{}), make(chan struct{})
			t.Cleanup(func() { close(release) })
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-started; cancel() }()
			return newFleet(t, fleet.Options{StopGrace: time.Millisecond}, func(context.Context, *remote.Cluster) error {
				close(started)
				<-release
				return nil
			}).Run(ctx)
		},

		"metadata.resourceVersion: must be set": func(*testing.T) error {
			dp := dataplanetest.DataPlane("default", "prod", func(dp *v1alpha1.DataPlane) { dp.ResourceVersion = "" })
			_, err := helpers.MergePatch(dp, dp)
			return err
		},
		"Apply failed with 1 conflict": func(t *testing.T) error {
			dataPlanes := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod")).OpenChoreoV1alpha1().DataPlanes("default")
			apply := func(manager, prefix string) error {
				_, err := dataPlanes.Apply(t.Context(), openchoreoapply.DataPlane("prod", "default").WithSpec(
					openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithPrefix(prefix))), metav1.ApplyOptions{FieldManager: manager, Force: manager == "a"})
				return err
			}
			require.NoError(t, apply("a", "registry.example.com/a"))
			return apply("b", "registry.example.com/b")
		},
	}
	used := map[string]bool{}
	for _, heading := range regexp.MustCompile("(?m)^### `(.+)`\n\n(?:\\((\\w+)\\))?").FindAllStringSubmatch(page, -1) {
		t.Run(heading[1], func(t *testing.T) {
			for key, makeError := range cases {
				if strings.Contains(heading[1], key) {
					used[key] = true
					err := makeError(t)
					require.Error(t, err)
					for _, part := range strings.Split(heading[1], "…") {
						assert.Contains(t, err.Error(), strings.TrimSpace(part))
					}
					if heading[2] != "" {
						assert.Equal(t, heading[2], string(remote.Classify(err)))
					}
					return
				}
			}
			t.Error("no case causes this error")
		})
	}
	for key := range cases {
		assert.True(t, used[key], "no heading quotes %q", key)
	}
}

// The page's queries return the pinned certificates and, of each data plane, the client certificate.
func TestTroubleshootingQueries(t *testing.T) {
	inRoot(t)
	dp := dataplanetest.DataPlane("default", "prod", dataplanetest.V1)
	dp.Spec.ClusterAgent.ClientCA.Value = "pinned"
	dp.Spec.KubernetesCluster.Credentials.ClientCert = "cli\nent" // as GNU base64 prints a longer value
	stored, err := runtime.DefaultUnstructuredConverter.ToUnstructured(dp)
	require.NoError(t, err)
	stored["items"] = []any{stored}
	var results []string
	for _, query := range regexp.MustCompile(`(?s)jsonpath='(.+?)'`).FindAllStringSubmatch(readFile(t, "docs/troubleshooting.md"), -1) {
		parsed := jsonpath.New("page")
		require.NoError(t, parsed.Parse(query[1]))
		var out strings.Builder
		require.NoError(t, parsed.Execute(&out, stored))
		results = append(results, out.String())
	}
	require.Equal(t, []string{"default/prod pinned;", "default/prod cli\nent;"}, results)
}
