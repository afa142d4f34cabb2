// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

var program string

func TestMain(m *testing.M) { demotest.Main(m, "connect", &program) }

func TestConnect(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program)
	p.WaitFor("while this runs: export KUBECONFIG=/")
	p.WaitFor("production: 4 namespaces\n")
	p.Signal(os.Interrupt)
	assert.Equal(t, 130, p.Wait(), p)
	p.LeavesNothing()
}

func TestConnectOnExistingCluster(t *testing.T) {
	t.Parallel()
	clusters, dataPlanes := demotest.Cluster(t)
	for _, dp := range []*openchoreov1alpha1.DataPlane{
		dataplanetest.DataPlane(clusters.Namespace, "direct", dataplanetest.CredentialsFor(clusters.Management)),
		dataplanetest.DataPlane(clusters.Namespace, "agent", dataplanetest.Later),
		dataplanetest.DataPlane(clusters.Namespace, "no-agent", dataplanetest.Later),
	} {
		_, err := dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{})
		require.NoError(t, err)
	}

	t.Run("with credentials", func(t *testing.T) {
		t.Parallel()
		p := demotest.Start(t, program, clusters.Args()...)
		p.WaitFor("direct: 4 namespaces\n")
		p.WaitFor("agent: InvalidCredentials: data plane default/agent: data plane has no credentials")
		p.Signal(os.Interrupt)
		assert.Zero(t, p.Wait(), p)
	})

	t.Run("through the cluster gateway", func(t *testing.T) {
		t.Parallel()
		gateway := httptest.NewTLSServer(clusterGateway(t, clusters.Management, clusters.Namespace, "agent"))
		t.Cleanup(gateway.Close)
		ca := filepath.Join(t.TempDir(), "ca.crt")
		require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: gateway.Certificate().Raw}), 0o600))

		p := demotest.Start(t, program, append(clusters.Args(), "--gateway="+gateway.URL, "--gateway-ca="+ca)...)
		p.WaitFor("\nagent: 4 namespaces\n")
		p.WaitFor("no-agent: NotReady: ")
		p.Signal(os.Interrupt)
		assert.Zero(t, p.Wait(), p)
	})
}

// clusterGateway stands in for OpenChoreo's cluster gateway, with the agent of one data plane
// connected to it.
func clusterGateway(t *testing.T, target *rest.Config, namespace, name string) http.Handler {
	t.Helper()
	transport, err := rest.TransportFor(target)
	require.NoError(t, err)
	address, err := url.Parse(target.Host)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("/api/proxy/dataplane/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no agent is connected", http.StatusBadGateway)
	})
	prefix := "/api/proxy/dataplane/" + name + "/" + namespace + "/" + name + "/k8s"
	proxy := http.StripPrefix(prefix, &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(address) },
		Transport: transport,
	})
	mux.HandleFunc(prefix+"/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") == "true" {
			http.Error(w, "watch is not supported", http.StatusNotImplemented)
			return
		}
		proxy.ServeHTTP(w, r)
	})
	return mux
}
