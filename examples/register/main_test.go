// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

var program string

func TestMain(m *testing.M) { demotest.Main(m, "register", &program) }

var args = []string{"--registry=registry.example.com", "--public-host=api.example.com", "--organization-host=internal.example.com"}

func TestRegister(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program, append(args, "--name=staging")...)
	require.Zero(t, p.Wait(), p)
	assert.Regexp(t, `^created DataPlane default/staging for https://\S+\n$`, p.Stdout())
	p.LeavesNothing()
}

func TestRegisterOnExistingCluster(t *testing.T) {
	t.Parallel()
	clusters, dataPlanes := demotest.Cluster(t)

	server := dataplanetest.NewServer(nil)
	t.Cleanup(server.Close)
	failing := dataplanetest.NewServer(dataplanetest.Status(http.StatusServiceUnavailable))
	t.Cleanup(failing.Close)

	kubeconfig, err := clientcmd.LoadFromFile(clusters.Kubeconfig)
	require.NoError(t, err)
	known := dataplanetest.DataPlane("clusters", "known", server.As("alice"))
	addContext(t, kubeconfig, known)
	revoked := dataplanetest.DataPlane("clusters", "revoked", failing.As("alice"))
	failing.RotateClients()
	addContext(t, kubeconfig, revoked)
	addContext(t, kubeconfig, dataplanetest.DataPlane("clusters", "not-ready", failing.As("alice")))
	kubeconfig.AuthInfos["token"] = &clientcmdapi.AuthInfo{Token: "secret"}
	kubeconfig.Contexts["token"] = &clientcmdapi.Context{Cluster: "clusters/known", AuthInfo: "token"}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*kubeconfig, file))

	register := func(t *testing.T, more ...string) *demotest.Process {
		t.Helper()
		return demotest.Start(t, program, append(append(more, "--kubeconfig="+file), args...)...)
	}

	p := register(t, "--name=known", "--context=clusters/known")
	require.Zero(t, p.Wait(), p)
	stored, err := dataPlanes.Get(t.Context(), "known", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, helpers.Fingerprint(known), helpers.Fingerprint(stored))

	for context, want := range map[string]string{
		"clusters/revoked":   "cluster is Unauthorized: ",
		"clusters/not-ready": "cluster is NotReady: ",
		"token":              "BearerToken",
		"missing":            `context "missing" does not exist`,
	} {
		p := register(t, "--name=refused", "--context="+context)
		assert.Equal(t, 1, p.Wait(), p)
		assert.Contains(t, p.String(), want)
		assert.NotContains(t, p.String(), "secret")
	}
	p = register(t)
	assert.Equal(t, 1, p.Wait(), p)
	assert.Contains(t, p.String(), "--name is required")

	list, err := dataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Len(t, list.Items, 1, "nothing is created unless everything is checked")
}

// addContext adds a context named after dp.
func addContext(t *testing.T, kubeconfig *clientcmdapi.Config, dp *openchoreov1alpha1.DataPlane) {
	t.Helper()
	from, err := helpers.KubeconfigFor(dp)
	require.NoError(t, err)
	name := dp.Namespace + "/" + dp.Name
	kubeconfig.Clusters[name] = from.Clusters[name]
	kubeconfig.AuthInfos[name] = from.AuthInfos[name]
	kubeconfig.Contexts[name] = from.Contexts[name]
}
