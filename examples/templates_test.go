// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package examples_test runs the templates as users do: built, as processes.
package examples_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

var programs string // the folder where they are

func TestMain(m *testing.M) {
	demotest.MainOf(m, &programs, []string{"./apply", "./connect", "./list", "./register", "./wait"})
}

func start(t *testing.T, program string, args ...string) *demotest.Process {
	t.Helper()
	return demotest.Start(t, filepath.Join(programs, program), args...)
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
		"wait":     {nil, "DataPlane production is ready at generation 1\n"},
	} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			if program != "list" {
				demotest.SkipIfShort(t)
			}
			p := start(t, program, test.args...)
			require.Zero(t, p.Wait(), p)
			assert.Regexp(t, test.stdout, p.Stdout())
			p.LeavesNothing()
		})
	}
	t.Run("connect", func(t *testing.T) {
		t.Parallel()
		demotest.SkipIfShort(t)
		p := start(t, "connect")
		p.WaitFor("while this runs: export KUBECONFIG=/")
		p.WaitFor("production: 4 namespaces\n")
		p.Signal(os.Interrupt)
		assert.Equal(t, 130, p.Wait(), p)
		p.LeavesNothing()
	})
}

func TestListReportsErrors(t *testing.T) {
	p := start(t, "list", "--kubeconfig=missing")
	assert.Equal(t, 1, p.Wait(), p)
	assert.Contains(t, p.String(), "missing: no such file or directory")

	broken := filepath.Join(t.TempDir(), "broken")
	require.NoError(t, os.WriteFile(broken, []byte("broken"), 0o600))
	t.Setenv("KUBECONFIG", broken) // as for kubectl
	p = start(t, "list", "--kubeconfig=")
	assert.Equal(t, 1, p.Wait(), p)
	assert.Contains(t, p.String(), broken)
}

func TestTemplatesOnAnExistingCluster(t *testing.T) {
	t.Parallel()
	shared := demotest.Cluster(t)
	for name, test := range map[string]func(*testing.T, *demo.Clusters, openchoreotyped.DataPlaneInterface){
		"apply": testApply, "connect": testConnect, "register": testRegister, "wait": testWait,
	} {
		clusters, dataPlanes := demotest.InNamespace(t, shared, name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, clusters, dataPlanes)
		})
	}
}

func testApply(t *testing.T, clusters *demo.Clusters, dataPlanes openchoreotyped.DataPlaneInterface) {
	dp := dataplanetest.DataPlane(clusters.Namespace, "production")
	dp.Spec.Registry.SecretRef = "old"
	_, err := dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{FieldManager: "operator"})
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
		p := start(t, "apply", append(clusters.Args(), step.args...)...)
		assert.Equal(t, step.code, p.Wait(), p)
		assert.Contains(t, p.String(), step.want)
	}
}

func testConnect(t *testing.T, clusters *demo.Clusters, dataPlanes openchoreotyped.DataPlaneInterface) {
	all, err := kubernetes.NewForConfigOrDie(clusters.Management).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	answer := fmt.Sprintf(": %d namespaces\n", len(all.Items))
	for _, dp := range []*openchoreov1alpha1.DataPlane{
		dataplanetest.DataPlane(clusters.Namespace, "direct", dataplanetest.CredentialsFor(clusters.Management)),
		dataplanetest.DataPlane(clusters.Namespace, "agent", withoutCredentials),
		dataplanetest.DataPlane(clusters.Namespace, "no-agent", withoutCredentials),
	} {
		_, err := dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{})
		require.NoError(t, err)
	}

	t.Run("with credentials", func(t *testing.T) {
		t.Parallel()
		p := start(t, "connect", clusters.Args()...)
		p.WaitFor("direct" + answer)
		p.WaitFor("agent: InvalidCredentials: data plane connect/agent: data plane has no credentials")
		p.Signal(os.Interrupt)
		assert.Zero(t, p.Wait(), p)
	})

	t.Run("through the cluster gateway", func(t *testing.T) {
		t.Parallel()
		gateway := dataplanetest.NewGateway(func(s *httptest.Server) { s.TLS.ClientAuth = tls.NoClientCert })
		t.Cleanup(gateway.Close)
		gateway.Connect("agent", dataplanetest.Agent(clusters.Management))
		ca := filepath.Join(t.TempDir(), "ca.crt")
		require.NoError(t, os.WriteFile(ca, gateway.Config().CAData, 0o600))

		p := start(t, "connect", append(clusters.Args(), "--gateway="+gateway.Config().Host, "--gateway-ca="+ca)...)
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

func testRegister(t *testing.T, clusters *demo.Clusters, dataPlanes openchoreotyped.DataPlaneInterface) {
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
		return start(t, "register", append(append(more, "--kubeconfig="+file, "--namespace="+clusters.Namespace), registration...)...)
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

func testWait(t *testing.T, clusters *demo.Clusters, dataPlanes openchoreotyped.DataPlaneInterface) {
	t.Run("waits until the DataPlane exists and is ready", func(t *testing.T) {
		t.Parallel()
		p := start(t, "wait", append(clusters.Args(), "--name=new", "--timeout=3m")...)
		p.WaitFor("waiting for DataPlane wait/new\n")
		dp, err := dataPlanes.Create(t.Context(), dataplanetest.DataPlane(clusters.Namespace, "new"), metav1.CreateOptions{})
		require.NoError(t, err)
		dataplanetest.Ready(dp)
		_, err = dataPlanes.UpdateStatus(t.Context(), dp, metav1.UpdateOptions{})
		require.NoError(t, err)
		assert.Zero(t, p.Wait(), p)
		assert.Contains(t, p.Stdout(), "DataPlane new is ready at generation 1\n")
	})

	t.Run("says what is missing", func(t *testing.T) {
		t.Parallel()
		_, err := dataPlanes.Create(t.Context(), dataplanetest.DataPlane(clusters.Namespace, "unready"), metav1.CreateOptions{})
		require.NoError(t, err)
		p := start(t, "wait", append(clusters.Args(), "--name=unready", "--timeout=10s")...)
		assert.Equal(t, 1, p.Wait(), p)
		assert.Regexp(t, `data plane wait/unready: waited \S+s for Ready=True: Ready=Unknown by Created; not reported: Connected, GatewayProvisioned, Created`, p.String())
	})
}
