// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package examples_test runs the templates as users do: built, as processes.
package examples_test

import (
	"crypto/tls"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

func TestMain(m *testing.M) {
	demotest.Main(m, "./apply", "./connect", "./list", "./register", "./wait")
}

// Without --kubeconfig, a template starts a cluster and removes it.
func TestTemplatesOnTheirOwnCluster(t *testing.T) {
	t.Parallel()
	for program, test := range map[string]struct {
		args   []string
		stdout string
	}{
		"list": {nil, `^NAMESPACE +NAME +READY +CODE +REASON +CREDENTIALS EXPIRE\n` +
			`default +production +true +Current +DataPlaneCreated +20\d\d-\S+Z\n$`},
		"apply":    {[]string{"--secret-ref=registry-credentials"}, `^DataPlane production: secretRef is "registry-credentials", managed by \[apply-example\]\n$`},
		"register": {append(registration, "--name=staging"), `^created DataPlane default/staging for https://\S+\n$`},
		"wait":     {nil, "^waiting for DataPlane default/production\nDataPlane production is ready at generation 1\n$"},
		"connect":  {nil, `production: 4 namespaces\n(?s).*production: new credentials\n`},
	} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			if program != "list" && testing.Short() {
				t.Skip("it starts a control plane of its own")
			}
			p := demotest.Start(t, program, test.args...)
			if program == "connect" {
				p.WaitFor("production: 4 namespaces\n")
				p.Type("\n")
				p.WaitFor("production: new credentials\n")
				p.Signal(os.Interrupt)
			}
			require.Zero(t, p.Wait(), p)
			assert.Regexp(t, test.stdout, p.Stdout())
			p.LeavesNothing()
		})
	}
}

// A flag behind an argument would be ignored, and the wrong cluster be changed.
func TestTemplatesRefuseBadArguments(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ command, want string }{
		{"apply production --kubeconfig=other", `unexpected argument "production"`},
		{"connect production", `unexpected argument "production"`},
		{"list production", `unexpected argument "production"`},
		{"wait production", `unexpected argument "production"`},
		{"register production", `unexpected argument "production"`},
		{"register", "--name is required"},
		{"connect --gateway=https://gateway.example.com --gateway-ca=missing", "no such file"},
		{"list --kubeconfig=missing", "missing: no such file or directory"},
	} {
		args := strings.Fields(test.command)
		p := demotest.Start(t, args[0], args[1:]...)
		assert.Equal(t, 1, p.Wait(), p)
		assert.Regexp(t, "^.*"+test.want+".*\n$", p.String())
	}
}

func TestTemplatesOnAnExistingCluster(t *testing.T) {
	t.Parallel()
	shared := demotest.Clusters(t, 0)
	for name, test := range map[string]func(*testing.T, *demo.Clusters){
		"apply": testApply, "connect": testConnect, "register": testRegister, "wait": testWait,
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
	for _, dp := range []*openchoreov1alpha1.DataPlane{
		dataplanetest.DataPlane(clusters.Namespace, "direct", dataplanetest.WithCredentials(clusters.Management)),
		dataplanetest.DataPlane(clusters.Namespace, "agent", withoutCredentials),
		dataplanetest.DataPlane(clusters.Namespace, "no-agent", withoutCredentials),
	} {
		_, err := clusters.DataPlanes.Create(t.Context(), dp, metav1.CreateOptions{})
		require.NoError(t, err)
	}

	t.Run("with credentials", func(t *testing.T) {
		t.Parallel()
		p := demotest.Start(t, "connect", clusters.Args()...)
		p.WaitFor("direct" + answer)
		p.WaitFor("agent: InvalidCredentials: data plane connect/agent: data plane has no credentials")
		p.Signal(syscall.SIGTERM)
		assert.Zero(t, p.Wait(), p)
	})

	t.Run("through the cluster gateway", func(t *testing.T) {
		t.Parallel()
		gateway := dataplanetest.NewGateway(func(s *httptest.Server) { s.TLS.ClientAuth = tls.NoClientCert })
		t.Cleanup(gateway.Close)
		gateway.Connect("agent", dataplanetest.Agent(clusters.Management))
		ca := filepath.Join(t.TempDir(), "ca.crt")
		require.NoError(t, os.WriteFile(ca, gateway.Config().CAData, 0o600))

		p := demotest.Start(t, "connect", append(clusters.Args(), "--gateway="+gateway.Config().Host, "--gateway-ca="+ca)...)
		p.WaitFor("\nagent" + answer)
		p.WaitFor("no-agent: NoAgent: ")
		p.Signal(os.Interrupt)
		assert.Zero(t, p.Wait(), p)
	})
}

// withoutCredentials makes a DataPlane that only the gateway reaches, in the shape of v0.3, which
// the API server serves here.
func withoutCredentials(dp *openchoreov1alpha1.DataPlane) {
	dp.Spec.KubernetesCluster = openchoreov1alpha1.KubernetesClusterSpec{}
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
		{"clusters/revoked", 1, "cluster is Unauthorized: "},
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
		assert.Contains(t, p.Stdout(), "DataPlane new is ready at generation 1\n")
	})

	t.Run("says what is missing", func(t *testing.T) {
		t.Parallel()
		_, err := clusters.DataPlanes.Create(t.Context(), dataplanetest.DataPlane(clusters.Namespace, "unready"), metav1.CreateOptions{})
		require.NoError(t, err)
		p := demotest.Start(t, "wait", append(clusters.Args(), "--name=unready", "--timeout=10s")...)
		assert.Equal(t, 1, p.Wait(), p)
		assert.Regexp(t, `data plane wait/unready: waited \S+s for Ready=True: Ready=Unknown by Created; not reported: Connected, GatewayProvisioned, Created`, p.String())
	})
}
