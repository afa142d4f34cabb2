// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package examples_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

func TestTemplatesOnAnExistingCluster(t *testing.T) {
	t.Parallel()
	shared := demotest.Clusters(t, 0)
	p := demotest.Start(t, "list", shared.Args()...)
	require.Zero(t, p.Wait(), p)
	assert.Contains(t, p.String(), "no ClusterDataPlanes: the server could not find the requested resource")

	require.NoError(t, shared.Plane.InstallCRDs(t.Context(), crds.ClusterDataPlane()))
	for name, test := range map[string]func(*testing.T, *demo.Clusters){
		"apply": testApply, "connect": testConnect, "dead": testDead, "list": testList, "register": testRegister, "wait": testWait,
	} {
		clusters, err := shared.InNamespace(t.Context(), name)
		require.NoError(t, err)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, clusters)
		})
	}
}

func testApply(t *testing.T, clusters *demo.Clusters) {
	dp := dataplanetest.DataPlane(clusters.Namespace, "production")
	dp.Spec.Registry.SecretRef = "old"
	_, err := clusters.DataPlanes.Create(t.Context(), dp, metav1.CreateOptions{FieldManager: "operator"})
	require.NoError(t, err)

	for _, step := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--secret-ref=new"}, 1, `conflict with "operator" using openchoreo.dev/v1alpha1: .spec.registry.secretRef`},
		{[]string{"--secret-ref=new", "--force"}, 0, `secretRef is "new", managed by [apply-example]`},
		{nil, 0, `secretRef is "", managed by []`},
		{[]string{"--name=missing", "--secret-ref=new"}, 1, "Required value"},
	} {
		p := demotest.Start(t, "apply", append(clusters.Args(), step.args...)...)
		assert.Equal(t, step.code, p.Wait(), p)
		assert.Contains(t, p.String(), step.want)
	}
}

func testConnect(t *testing.T, clusters *demo.Clusters) {
	all, err := clusters.Core.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	answer := fmt.Sprintf(": %d namespaces\n", len(all.Items))
	direct := dataplanetest.DataPlane(clusters.Namespace, "direct", dataplanetest.WithCredentials(clusters.Management))
	_, err = clusters.DataPlanes.Create(t.Context(), direct, metav1.CreateOptions{})
	require.NoError(t, err)
	createClusterDataPlane(t, clusters, "agent")
	createClusterDataPlane(t, clusters, "no-agent")
	gateway := dataplanetest.NewGateway() // demands a client certificate
	t.Cleanup(gateway.Close)
	gateway.Connect("agent", dataplanetest.Agent(clusters.Management))

	t.Run("without a gateway", func(t *testing.T) {
		t.Parallel()
		p := demotest.Start(t, "connect", clusters.Args()...)
		p.WaitFor("connect/direct" + answer)
		p.WaitFor("clusterdataplane/agent: InvalidCredentials: data plane agent: gateway: must be set")
		p.Signal(os.Interrupt)
		assert.Zero(t, p.Wait(), p)
	})

	t.Run("through the gateway, while certificates and credentials are replaced", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		flags, err := demo.GatewayFlags(gateway.Config(), dir)
		require.NoError(t, err)
		flags = append(flags, clusters.Args()...)
		p := demotest.Start(t, "connect", append(flags, "--gateway-server-name=cluster-gateway.openchoreo-control-plane.svc")...)
		p.WaitFor("connect/direct" + answer)
		p.WaitFor("clusterdataplane/agent" + answer)
		p.WaitFor("clusterdataplane/no-agent: NoAgent: ")

		gateway.RotateClients()
		_, err = demo.GatewayFlags(gateway.Config(), dir)
		require.NoError(t, err)
		gateway.CutConnections()
		p.WaitFor("clusterdataplane/agent: new credentials\n")
		before := len(gateway.Requests())
		assert.Eventually(t, func() bool { return len(gateway.Requests()) > before }, demotest.Patience, 10*time.Millisecond)

		credentials, err := clusters.Itself().Credentials(t.Context(), "another")
		require.NoError(t, err)
		_, err = clusters.Rotate(t.Context(), "direct", credentials)
		require.NoError(t, err)
		p.WaitFor("connect/direct: new credentials\n")
		p.WaitFor(`connect/direct: Forbidden: namespaces is forbidden: User "another"`)
		p.Signal(syscall.SIGTERM)
		assert.Zero(t, p.Wait(), p)

		p = demotest.Start(t, "connect", append(flags, "--gateway-server-name=gateway.example.com")...)
		p.WaitFor("clusterdataplane/agent: TLSFailure: ")
		p.Signal(syscall.SIGTERM)
		assert.Zero(t, p.Wait(), p)
	})

	t.Run("where one kind may be listed", func(t *testing.T) {
		t.Parallel()
		p := demotest.Start(t, "connect", "--kubeconfig="+userOf(t, clusters, "connects-clusters", "clusterdataplanes"))
		p.WaitFor("no DataPlanes: dataplanes.openchoreo.dev is forbidden")
		p.WaitFor("clusterdataplane/agent: ")
		p.Signal(syscall.SIGTERM)
		assert.Zero(t, p.Wait(), p)
		p = demotest.Start(t, "connect", "--kubeconfig="+userOf(t, clusters, "connects-nothing"))
		assert.Equal(t, 1, p.Wait(), p)
		assert.Regexp(t, "dataplanes.openchoreo.dev is forbidden.*clusterdataplanes.openchoreo.dev is forbidden", p.String())
	})
}

// testDead requires that connect asks all clusters at the same time.
func testDead(t *testing.T, clusters *demo.Clusters) {
	const dead = 5
	var waiting atomic.Int32
	server := dataplanetest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		waiting.Add(1)
		<-r.Context().Done()
		waiting.Add(-1)
	}))
	t.Cleanup(server.Close)
	for i := range dead {
		dp := dataplanetest.DataPlane(clusters.Namespace, fmt.Sprintf("dead-%d", i), server.As("alice"))
		_, err := clusters.DataPlanes.Create(t.Context(), dp, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	p := demotest.Start(t, "connect", clusters.Args()...)
	require.Eventually(t, func() bool { return waiting.Load() == dead }, demotest.Patience, 10*time.Millisecond, p)
	p.WaitFor("dead/dead-0: Timeout: ")
	p.Signal(syscall.SIGTERM)
	assert.Zero(t, p.Wait(), p)
}

func testList(t *testing.T, clusters *demo.Clusters) {
	_, err := clusters.DataPlanes.Create(t.Context(), dataplanetest.DataPlane(clusters.Namespace, "production"), metav1.CreateOptions{})
	require.NoError(t, err)
	createClusterDataPlane(t, clusters, "listed")
	createClusterDataPlane(t, clusters, "list-hung", dataplanetest.HeartbeatAgo(time.Hour))
	const (
		hung             = `(?m)^<none> +clusterdataplane/list-hung +false +Stale +Connected +<none> +20`
		dataPlane        = `(?m)^list +production +false +NotReported +Created +<none> +20`
		clusterDataPlane = `(?m)^<none> +clusterdataplane/listed +true +Current +Connected +<none> +20`
	)
	for name, test := range map[string]struct {
		may  []string
		want []string
		not  string
	}{
		"both":              {[]string{"dataplanes", "clusterdataplanes"}, []string{dataPlane, clusterDataPlane}, "no "},
		"DataPlanes":        {[]string{"dataplanes"}, []string{dataPlane, "no ClusterDataPlanes: .*is forbidden"}, "listed"},
		"ClusterDataPlanes": {[]string{"clusterdataplanes"}, []string{clusterDataPlane, hung, "no DataPlanes: .*is forbidden"}, "production"},
		"neither":           {nil, []string{`"dataplanes" in .*; .*"clusterdataplanes" in `}, "NAMESPACE"},
	} {
		t.Run("where the user may list "+name, func(t *testing.T) {
			t.Parallel()
			p := demotest.Start(t, "list", "--kubeconfig="+userOf(t, clusters, "lists-"+strings.ToLower(name), test.may...))
			code := 0
			if name == "neither" {
				code = 1
			}
			assert.Equal(t, code, p.Wait(), p)
			for _, want := range test.want {
				assert.Regexp(t, want, p.String())
			}
			assert.NotContains(t, p.String(), test.not)
		})
	}
	p := demotest.Start(t, "list", "--kubeconfig=missing")
	assert.Equal(t, 1, p.Wait(), p)
	assert.Contains(t, p.String(), "missing: no such file or directory")
}

// createClusterDataPlane creates a ClusterDataPlane whose agent is connected, as OpenChoreo reports it, unless an edit changes that.
func createClusterDataPlane(t *testing.T, clusters *demo.Clusters, name string, edits ...func(*openchoreov1alpha1.DataPlane)) {
	t.Helper()
	clusterDataPlanes := clusters.Client.OpenChoreoV1alpha1().ClusterDataPlanes()
	stored, err := clusterDataPlanes.Create(t.Context(), dataplanetest.ClusterDataPlane(name), metav1.CreateOptions{})
	require.NoError(t, err)
	stored.Status = dataplanetest.ClusterDataPlane(name, edits...).Status
	_, err = clusterDataPlanes.UpdateStatus(t.Context(), stored, metav1.UpdateOptions{})
	require.NoError(t, err)
}

// userOf returns the kubeconfig file of a user who may list and watch these resources of OpenChoreo.
func userOf(t *testing.T, clusters *demo.Clusters, name string, resources ...string) string {
	t.Helper()
	if len(resources) > 0 {
		rule := rbacv1.PolicyRule{APIGroups: []string{openchoreov1alpha1.GroupName}, Resources: resources, Verbs: []string{"list", "watch"}}
		_, err := clusters.Itself().Credentials(t.Context(), name, rule)
		require.NoError(t, err)
	}
	return demotest.Kubeconfig(t, clusters, clusters.Namespace, name)
}

var registration = []string{"--registry=registry.example.com", "--public-host=api.example.com", "--organization-host=internal.example.com"}

func testRegister(t *testing.T, clusters *demo.Clusters) {
	server := dataplanetest.NewServer(nil)
	t.Cleanup(server.Close)
	kubeconfig, err := clientcmd.LoadFromFile(clusters.Plane.KubeconfigFile())
	require.NoError(t, err)
	revoked, known := dataplanetest.DataPlane("clusters", "revoked", server.As("alice")), dataplanetest.DataPlane("clusters", "known")
	server.RotateClients()
	server.As("alice")(known)
	for _, dp := range []*openchoreov1alpha1.DataPlane{revoked, known} {
		from, err := helpers.KubeconfigFor(dp)
		require.NoError(t, err)
		name := from.CurrentContext
		kubeconfig.Clusters[name], kubeconfig.AuthInfos[name], kubeconfig.Contexts[name] = from.Clusters[name], from.AuthInfos[name], from.Contexts[name]
	}
	kubeconfig.AuthInfos["token"] = &clientcmdapi.AuthInfo{Token: "secret"}
	kubeconfig.Contexts["token"] = &clientcmdapi.Context{Cluster: "clusters/known", AuthInfo: "token"}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*kubeconfig, file))

	for _, test := range []struct {
		context string
		code    int
		want    string
	}{
		{"clusters/revoked", 1, "probe of the cluster: Unauthorized: "},
		{"token", 1, "BearerToken"},
		{"missing", 1, `context "missing" does not exist`},
		{"clusters/known", 0, "created DataPlane register/new"},
	} {
		p := demotest.Start(t, "register", append(registration, "--name=new", "--context="+test.context, "--kubeconfig="+file, "--namespace="+clusters.Namespace)...)
		assert.Equal(t, test.code, p.Wait(), p)
		assert.Contains(t, p.String(), test.want)
		assert.NotContains(t, p.String(), "secret")
	}
	stored, err := clusters.DataPlanes.Get(t.Context(), "new", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, helpers.Fingerprint(known), helpers.Fingerprint(stored))
}

func testWait(t *testing.T, clusters *demo.Clusters) {
	t.Run("waits until the DataPlane exists and is ready", func(t *testing.T) {
		t.Parallel()
		p := demotest.Start(t, "wait", append(clusters.Args(), "--name=new", "--timeout=3m")...)
		p.WaitFor("waiting for DataPlane wait/new\n")
		dp, err := clusters.DataPlanes.Create(t.Context(), dataplanetest.DataPlane(clusters.Namespace, "new"), metav1.CreateOptions{})
		require.NoError(t, err)
		dataplanetest.Ready(dp)
		_, err = clusters.DataPlanes.UpdateStatus(t.Context(), dp, metav1.UpdateOptions{})
		require.NoError(t, err)
		assert.Zero(t, p.Wait(), p)
		assert.Contains(t, p.Stdout(), "new is ready at generation 1\n")
	})

	t.Run("waits for a ClusterDataPlane", func(t *testing.T) {
		t.Parallel()
		p := demotest.Start(t, "wait", append(clusters.Args(), "--name=cdp/new", "--timeout=3m")...)
		p.WaitFor("waiting for ClusterDataPlane new\n")
		createClusterDataPlane(t, clusters, "new")
		assert.Zero(t, p.Wait(), p)
		assert.Contains(t, p.Stdout(), "new is ready at generation 1\n")
	})

	t.Run("says what is missing", func(t *testing.T) {
		t.Parallel()
		_, err := clusters.DataPlanes.Create(t.Context(), dataplanetest.DataPlane(clusters.Namespace, "unready"), metav1.CreateOptions{})
		require.NoError(t, err)
		p := demotest.Start(t, "wait", append(clusters.Args(), "--name=unready", "--timeout=10s")...)
		assert.Equal(t, 1, p.Wait(), p)
		assert.Regexp(t, `data plane wait/unready: waited \S+s for Ready=True: Ready=Unknown by Created; not reported: Connected, GatewayProvisioned, Created`, p.String())
	})

	t.Run("does not trust an old heartbeat", func(t *testing.T) {
		t.Parallel()
		createClusterDataPlane(t, clusters, "wait-hung", dataplanetest.HeartbeatAgo(time.Hour))
		p := demotest.Start(t, "wait", append(clusters.Args(), "--name=cdp/wait-hung", "--timeout=10s")...)
		assert.Equal(t, 1, p.Wait(), p)
		assert.Contains(t, p.String(), "Connected=Unknown by status.agentConnection, stale (last heartbeat 60m ago)")
	})

	t.Run("does not succeed when it is interrupted", func(t *testing.T) {
		t.Parallel()
		p := demotest.Start(t, "wait", append(clusters.Args(), "--name=missing", "--timeout=3m")...)
		p.WaitFor("waiting for DataPlane wait/missing\n")
		p.Signal(syscall.SIGTERM)
		assert.Equal(t, 1, p.Wait(), p)
		assert.Contains(t, p.String(), "signal received")
	})
}
