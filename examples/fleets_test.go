// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package examples_test

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// The templates with a Fleet share a separate management cluster, because they add namespaces to it.
func TestFleetTemplates(t *testing.T) {
	t.Parallel()
	shared := demotest.Clusters(t, 0)
	require.NoError(t, shared.Plane.InstallCRDs(t.Context(), crds.ClusterDataPlane()))
	for name, test := range map[string]func(*testing.T, *demo.Clusters){
		"watch-workloads": testWatchWorkloads, "sharded": testShardedFleet,
	} {
		clusters, err := shared.InNamespace(t.Context(), name)
		require.NoError(t, err)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, clusters)
		})
	}
}

// behindGateway creates the DataPlane direct and a ClusterDataPlane that has the name of the namespace, and returns a gateway
// for it. Both describe the management cluster.
func behindGateway(t *testing.T, clusters *demo.Clusters) *dataplanetest.Gateway {
	t.Helper()
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	gateway.Connect(clusters.Namespace, dataplanetest.Agent(clusters.Management))
	createClusterDataPlane(t, clusters, clusters.Namespace)
	direct := dataplanetest.DataPlane(clusters.Namespace, "direct", dataplanetest.WithCredentials(clusters.Management))
	_, err := clusters.DataPlanes.Create(t.Context(), direct, metav1.CreateOptions{})
	require.NoError(t, err)
	return gateway
}

func testWatchWorkloads(t *testing.T, clusters *demo.Clusters) {
	gateway := behindGateway(t, clusters)
	agent := dataplanetest.Agent(clusters.Management)
	server := dataplanetest.NewServer(agent)
	t.Cleanup(server.Close)
	var probes atomic.Int32
	restarting := dataplanetest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" && probes.Add(1) <= 2 {
			http.Error(w, "restarting", http.StatusInternalServerError)
			return
		}
		agent.ServeHTTP(w, r)
	}))
	t.Cleanup(restarting.Close)
	down := dataplanetest.NewServer(nil)
	down.Close()
	for name, server := range map[string]*dataplanetest.Server{"away": server, "restarting": restarting, "down": down} {
		_, err := clusters.DataPlanes.Create(t.Context(), dataplanetest.DataPlane(clusters.Namespace, name, server.As("anybody")), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	_, err := clusters.Create(t.Context(), clusters.Itself(), "unprivileged", nil)
	require.NoError(t, err)
	flags, err := demo.GatewayFlags(gateway.Config(), t.TempDir())
	require.NoError(t, err)
	direct, away, behind := clusters.Namespace+"/direct: ", clusters.Namespace+"/away: ", "clusterdataplane/"+clusters.Namespace+": "

	streamsLists := []string{"KUBE_FEATURE_WatchListClient=true"} // the default from client-go 0.35 on
	p := demotest.StartWith(t, streamsLists, "watch-workloads", append(flags, "--kubeconfig="+clusters.Plane.KubeconfigFile())...)
	for _, dataPlane := range []string{direct, away, behind} {
		p.WaitFor(dataPlane + "watching, ")
	}
	require.NoError(t, demo.CreateDeployment(t.Context(), clusters.Core, "watched"))
	require.NoError(t, clusters.Core.AppsV1().Deployments(metav1.NamespaceDefault).Delete(t.Context(), "watched", metav1.DeleteOptions{}))
	for _, dataPlane := range []string{direct, away, behind} {
		p.WaitFor(dataPlane + "Deployment default/watched created\n")
		p.WaitFor(dataPlane + "Deployment default/watched deleted\n")
	}

	const failed = "not watched, next attempt in "
	p.WaitFor(clusters.Namespace + "/unprivileged: " + failed)
	p.WaitFor(`User "unprivileged" cannot list resource "deployments"`)
	if !testing.Short() { // the program waits a while before it reports silence
		const silent = "no answer, so changes are printed later: "
		gateway.Disconnect(clusters.Namespace)
		p.WaitFor(behind + silent)
		p.WaitFor(clusters.Namespace + "/down: " + silent)
		server.Close() // an informer alone would report nothing
		p.WaitFor(away + silent)
		p.WaitFor("connection refused")
		require.Eventually(t, func() bool { return probes.Load() >= 3 }, demotest.Patience, 10*time.Millisecond)
		assert.NotContains(t, p.String(), clusters.Namespace+"/restarting: "+silent, "two failed probes may be a restart")
		require.NoError(t, demo.CreateDeployment(t.Context(), clusters.Core, "in-between"))
		p.WaitFor(direct + "Deployment default/in-between created\n")
		gateway.Connect(clusters.Namespace, agent)
		p.WaitFor(behind + "answers again\n")
		p.WaitFor(behind + "Deployment default/in-between created\n")
	}

	require.NoError(t, clusters.DataPlanes.Delete(t.Context(), "direct", metav1.DeleteOptions{}))
	p.WaitFor(direct + "deleted\n")
	p.Signal(syscall.SIGTERM)
	assert.Zero(t, p.Wait(), p)
}

// testShardedFleet runs the program with the rights, arguments and variables of its manifest.
func testShardedFleet(t *testing.T, clusters *demo.Clusters) {
	program, err := os.ReadFile("sharded-fleet/main.go")
	require.NoError(t, err)
	assert.NotContains(t, string(program), "examples/internal", "it is copied alone")
	const podNamespace = "openchoreo-control-plane"
	_, err = clusters.Core.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: podNamespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	var documents []string
	var certificate string
	for _, document := range strings.Split(demotest.ReadFile(t, "sharded-fleet/manifest.yaml"), "---\n") {
		if strings.Contains(document, "cert-manager.io/") { // which isn't installed
			certificate = document
			continue
		}
		documents = append(documents, document)
	}
	manifest, verbs := strings.Join(documents, "---\n"), []string{"get", "list", "create", "update", "delete"}
	verbsOf := func(verbs []string) string { return "[" + strings.Join(verbs, ", ") + "]" }
	require.Contains(t, manifest, verbsOf(verbs))
	manifests := []string{manifest}
	for _, verb := range verbs {
		others := slices.DeleteFunc(slices.Clone(verbs), func(other string) bool { return other == verb })
		manifests = append(manifests, strings.NewReplacer("sharded-fleet", "without-"+verb, verbsOf(verbs), verbsOf(others)).Replace(manifest))
	}
	demotest.Apply(t, clusters, strings.Join(manifests, "---\n"))

	gateway, folder := behindGateway(t, clusters), t.TempDir()
	_, err = demo.GatewayFlags(gateway.Config(), folder)
	require.NoError(t, err)
	deployment, err := clusters.Core.AppsV1().Deployments(podNamespace).Get(t.Context(), "sharded-fleet", metav1.GetOptions{})
	require.NoError(t, err)
	container := deployment.Spec.Template.Spec.Containers[0]
	assert.Contains(t, certificate, "  secretName: "+deployment.Spec.Template.Spec.Volumes[0].Projected.Sources[0].Secret.Name+"\n")
	const address = "https://cluster-gateway.openchoreo-control-plane.svc.cluster.local:8444"
	// start starts a Pod, with a ServiceAccount.
	start := func(pod, account string, args ...string) *demotest.Process {
		kubeconfig := demotest.Kubeconfig(t, clusters, podNamespace, "system:serviceaccount:"+podNamespace+":"+account,
			"system:serviceaccounts", "system:serviceaccounts:"+podNamespace)
		args = append(args, "--kubeconfig="+kubeconfig)
		for _, arg := range container.Args {
			args = append(args, strings.NewReplacer(address, gateway.Config().Host, "/gateway", folder).Replace(arg))
		}
		var env []string
		for _, variable := range container.Env {
			env = append(env, variable.Name+"="+pod)
		}
		return demotest.StartWith(t, env, "sharded-fleet", args...)
	}

	t.Run("shares data planes of both kinds with the rights of its manifest", func(t *testing.T) {
		t.Parallel()
		gains := func(p *demotest.Process, shards int) {
			t.Helper()
			require.Eventually(t, func() bool { return strings.Count(p.String(), ": gained\n") >= shards }, demotest.Patience, 10*time.Millisecond, p)
		}
		first := start("first", "sharded-fleet")
		gains(first, 16)
		second := start("second", "sharded-fleet")
		gains(second, 8)
		first.Signal(syscall.SIGTERM)
		assert.Zero(t, first.Wait(), first)
		gains(second, 16)
		for _, name := range []string{clusters.Namespace, clusters.Namespace + "/direct"} {
			second.WaitFor("data plane " + name + " at ")
			assert.NotContains(t, second.String(), "data plane "+name+": ended")
		}
		second.Signal(syscall.SIGTERM)
		assert.Zero(t, second.Wait(), second)
	})

	for _, verb := range verbs {
		t.Run("ends without the right to "+verb+" Leases", func(t *testing.T) {
			t.Parallel()
			name := "without-" + verb
			p := start("pod", name, "--lease-namespace="+name)
			assert.Equal(t, 1, p.Wait(), p)
			assert.Regexp(t, `a right is missing: .*cannot `+verb+` resource "leases"`, p.String())
		})
	}
}
