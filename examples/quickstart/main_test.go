// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

// These tests run the program as users do: built, as a process.

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait for processes to be ready, more than they compute.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "quickstart-test-*")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "quickstart")
		if output, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
			panic(string(output))
		}
		// The build of the binaries, if there is one, is not a part of any test.
		if _, err := controlplane.Binaries(context.Background(), os.Stderr); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

var program string

func TestQuickstartTakesEveryStep(t *testing.T) {
	t.Parallel()
	r := start(t)
	code := r.wait()
	require.Zero(t, code, r)
	for _, want := range []string{
		"dataplanes.openchoreo.dev is installed and served",
		"informer: production-dataplane has arrived",
		`conflict with "quickstart": .spec.registry.secretRef`,
		`as "openchoreo-deployer"`,
		"deployed Deployment workloads/greeter, image docker.io/myorg/greeter:1.0",
		`User "openchoreo-deployer" cannot patch resource "configmaps"`,
		"Ready               True     Current",
		"Ready               Unknown  Stale",
		"GatewayProvisioned  Unknown  NotReported",
		`the same client is user "openchoreo-successor" now`,
		"has seen ConfigMap workloads/farewell",
		"Done: ",
	} {
		assert.Contains(t, r.String(), want)
	}
	assert.NotContains(t, r.String(), "PRIVATE KEY")
	assert.NotContains(t, r.String(), "LS0tLS1", "base64 of PEM")
	r.leavesNothing()
}

func TestQuickstartEndsCleanlyWhenInterrupted(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{
		"at once":                   "",
		"while the clusters start":  " 1. ",
		"when the clusters are up":  "target ",
		"while the user is at work": " 8. ",
		"in the last step":          "11. ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			if at != "" {
				r.waitFor(at)
			}
			require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
			code := r.wait()
			// Without a handler yet, the signal itself ends the process.
			if at == "" && code == -1 {
				r.leavesNothing()
				return
			}
			assert.Equal(t, 130, code, r)
			assert.Contains(t, r.String(), "interrupted; everything is stopped and removed")
			r.leavesNothing()
		})
	}
}

func TestQuickstartOnAnExistingCluster(t *testing.T) {
	t.Parallel()
	existing := newExistingCluster(t)

	t.Run("removes what it has created", func(t *testing.T) {
		r := start(t, "--kubeconfig", existing.kubeconfig, "--context", "controlplane")
		require.Zero(t, r.wait(), r)
		assert.Contains(t, r.String(), "management  "+existing.URL())
		r.leavesNothing()
		existing.isAsBefore(t)
	})

	for kind, path := range map[string]string{
		"namespace":  "/namespaces",
		"definition": "/customresourcedefinitions",
		"DataPlane":  "/dataplanes",
	} {
		t.Run("removes the "+kind+" that it was creating when interrupted", func(t *testing.T) {
			slow := newSlowCluster(t, existing, http.MethodPost, path)
			r := start(t, "--kubeconfig", slow.kubeconfig)
			slow.waitUntilHeld(t)
			require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
			r.waitFor("interrupted; cleaning up")
			time.Sleep(200 * time.Millisecond) // a request that the interrupt ends has ended by then
			slow.release()
			assert.Equal(t, 130, r.wait(), r)
			assert.Contains(t, r.String(), "interrupted; everything is stopped and removed")
			r.leavesNothing()
			existing.isAsBefore(t)
		})
	}
}

func TestQuickstartOnAClusterThatStopsAnswering(t *testing.T) {
	t.Parallel()
	existing := newExistingCluster(t)

	t.Run("fails", func(t *testing.T) {
		slow := newSlowCluster(t, existing, http.MethodGet, "/dataplanes")
		var out output
		q := &quickstart{
			printer:  &printer{out: &out},
			existing: existingCluster{kubeconfig: slow.kubeconfig},
			patience: 15 * time.Second, // the other requests of the step have to be done by then
		}
		err := q.run(t.Context())
		assert.ErrorIs(t, err, context.DeadlineExceeded, &out)
		assert.ErrorContains(t, err, "step 2")
		require.NoError(t, q.cleanUp())
		existing.isAsBefore(t)
	})

	t.Run("ends at once when interrupted while it cleans up", func(t *testing.T) {
		slow := newSlowCluster(t, existing, http.MethodDelete, "/"+dataPlaneName)
		r := start(t, "--kubeconfig", slow.kubeconfig)
		r.waitFor(" 5. ")
		require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
		slow.waitUntilHeld(t)
		require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
		assert.Equal(t, -1, r.wait(), r)
		assert.NotContains(t, r.String(), "everything is stopped and removed")
		if runtime.GOOS == "linux" {
			assert.Eventually(t, func() bool { return len(r.processes()) == 0 }, demotest.Patience, 10*time.Millisecond)
		}
	})
}

// A cluster with OpenChoreo already has the definition, with an atomic list of conditions in
// some releases, and a controller that writes to every DataPlane.
func TestQuickstartBesideAController(t *testing.T) {
	t.Parallel()
	existing := newExistingCluster(t)
	atomic := bytes.ReplaceAll(crds.DataPlane(), []byte(`
                x-kubernetes-list-map-keys:
                - type
                x-kubernetes-list-type: map`), nil)
	require.NotEqual(t, crds.DataPlane(), atomic)
	require.NoError(t, existing.InstallCRDs(t.Context(), atomic))
	reconcileDataPlanes(t, existing.dataPlanes)
	for _, test := range []struct {
		name string
		crd  []byte
	}{
		{"atomic list of conditions", atomic},
		{"map of conditions", crds.DataPlane()},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.NoError(t, existing.InstallCRDs(t.Context(), test.crd))
			r := start(t, "--kubeconfig", existing.kubeconfig)
			require.Zero(t, r.wait(), r)
			assert.Contains(t, r.String(), "exists already; the quickstart leaves it as it is")
			_, table, _ := strings.Cut(r.String(), "10. ")
			assert.Equal(t, 2, strings.Count(table, "DataPlaneCreated"), table)
			r.leavesNothing()

			list, err := existing.dataPlanes.DataPlanes("").List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err, "the definition stays")
			assert.Empty(t, list.Items)
		})
	}
}

// reconcileDataPlanes acts like OpenChoreo's controller until the end of the test: it adds a
// finalizer to DataPlanes and writes a condition.
func reconcileDataPlanes(t *testing.T, client openchoreotyped.DataPlanesGetter) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
			list, err := client.DataPlanes("").List(ctx, metav1.ListOptions{})
			if err != nil {
				continue
			}
			// The next round retries failures.
			for i := range list.Items {
				dp := &list.Items[i]
				switch {
				case dp.DeletionTimestamp != nil:
					dp.Finalizers = nil
					_, _ = client.DataPlanes(dp.Namespace).Update(ctx, dp, metav1.UpdateOptions{})
				case len(dp.Finalizers) == 0:
					dp.Finalizers = []string{"openchoreo.dev/dataplane-cleanup"}
					_, _ = client.DataPlanes(dp.Namespace).Update(ctx, dp, metav1.UpdateOptions{})
				case meta.SetStatusCondition(&dp.Status.Conditions, metav1.Condition{
					Type: "Created", Status: metav1.ConditionTrue, Reason: "DataPlaneCreated", ObservedGeneration: dp.Generation,
				}):
					_, _ = client.DataPlanes(dp.Namespace).UpdateStatus(ctx, dp, metav1.UpdateOptions{})
				}
			}
		}
	}()
}

func TestQuickstartKeepsADefinitionThatOthersMayUse(t *testing.T) {
	t.Parallel()
	existing := newExistingCluster(t)

	t.Run("because it may not list DataPlanes", func(t *testing.T) {
		r := start(t, "--kubeconfig", existing.kubeconfigOf(t, "installer", []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"create", "delete"}},
			{APIGroups: []string{"apiextensions.k8s.io"}, Resources: []string{"customresourcedefinitions"}, Verbs: []string{"create", "get", "delete"}},
		}))
		assert.Equal(t, 1, r.wait(), r)
		assert.Contains(t, r.String(), "cleaning up: dataplanes.openchoreo.dev stays, because it may be in use: ")
		r.leavesNothing()
		_, err := existing.crds.Get(t.Context(), crds.DataPlaneName, metav1.GetOptions{})
		require.NoError(t, err)
	})

	require.NoError(t, existing.crds.Delete(t.Context(), crds.DataPlaneName, metav1.DeleteOptions{}))
	existing.isAsBefore(t)
	t.Run("because others have created DataPlanes meanwhile", func(t *testing.T) {
		r := start(t, "--kubeconfig", existing.kubeconfig)
		r.waitFor(" 2. ")
		theirs := &openchoreov1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}}
		require.Eventually(t, func() bool {
			_, err := existing.dataPlanes.DataPlanes("default").Create(t.Context(), theirs, metav1.CreateOptions{})
			return err == nil
		}, demotest.Patience, time.Millisecond)
		assert.Equal(t, 1, r.wait(), r)
		assert.Contains(t, r.String(), "dataplanes.openchoreo.dev stays, because of DataPlane default/theirs")
		r.leavesNothing()
		_, err := existing.dataPlanes.DataPlanes("default").Get(t.Context(), "theirs", metav1.GetOptions{})
		require.NoError(t, err)
	})
}

func TestQuickstartSaysWhyAStepFailedWhenInterruptedAfterwards(t *testing.T) {
	t.Parallel()
	existing := newExistingCluster(t)
	// A cluster that serves DataPlanes of another shape.
	other := bytes.ReplaceAll(crds.DataPlane(), []byte("- kubernetesCluster\n"), []byte("- clusterAgent\n"))
	other = bytes.ReplaceAll(other, []byte("              kubernetesCluster:\n"), []byte("              clusterAgent:\n"))
	require.NoError(t, existing.InstallCRDs(t.Context(), other))
	slow := newSlowCluster(t, existing, http.MethodDelete, "")
	r := start(t, "--kubeconfig", slow.kubeconfig)
	slow.waitUntilHeld(t)
	require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
	r.waitFor("interrupted; cleaning up")
	slow.release()
	assert.Equal(t, 130, r.wait(), r)
	assert.Contains(t, r.String(), "step 4")
	assert.Contains(t, r.String(), "spec.clusterAgent: Required value")
	r.leavesNothing()
}

func TestQuickstartRefusesBadFlags(t *testing.T) {
	t.Parallel()
	r := start(t, "--kubeconfig", filepath.Join(t.TempDir(), "absent"))
	assert.Equal(t, 1, r.wait(), r)
	assert.Contains(t, r.String(), "absent: no such file or directory")
	r.leavesNothing()

	r = start(t, "--context", "no-such-context", "--kubeconfig", os.DevNull)
	assert.Equal(t, 1, r.wait(), r)
	assert.Contains(t, r.String(), `context "no-such-context" does not exist`)

	assert.Equal(t, 2, start(t, "surplus").wait())
}

func TestQuickstartAsksTheExistingClusterFirst(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	server.Close()
	// Without binaries in this folder, no control plane can start.
	r := startWith(t, []string{controlplane.AssetsEnv + "=" + t.TempDir()}, "--kubeconfig", kubeconfigFor(t, server.URL))
	assert.Equal(t, 1, r.wait(), r)
	assert.Contains(t, r.String(), "management cluster at "+server.URL)
	assert.Contains(t, r.String(), "connection refused")
	assert.NotContains(t, r.String(), controlplane.AssetsEnv)
	r.leavesNothing()
}

// existing is an existing cluster.
type existing struct {
	*controlplane.ControlPlane
	kubeconfig string // of an administrator
	core       kubernetes.Interface
	crds       dynamic.ResourceInterface
	dataPlanes openchoreotyped.DataPlanesGetter
}

func newExistingCluster(t *testing.T) *existing {
	t.Helper()
	cp, err := controlplane.Start(t.Context(), controlplane.WithName("existing cluster"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cp.Stop()) })
	data, err := cp.Kubeconfig()
	require.NoError(t, err)
	e := &existing{ControlPlane: cp, kubeconfig: writeFile(t, data)}
	e.core, err = kubernetes.NewForConfig(cp.Config())
	require.NoError(t, err)
	anything, err := dynamic.NewForConfig(cp.Config())
	require.NoError(t, err)
	e.crds = anything.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	client, err := openchoreoclient.NewForConfig(cp.Config())
	require.NoError(t, err)
	e.dataPlanes = client.OpenChoreoV1alpha1()
	return e
}

// kubeconfigOf returns the kubeconfig file of a new user with the rights in rules.
func (e *existing) kubeconfigOf(t *testing.T, name string, rules []rbacv1.PolicyRule) string {
	t.Helper()
	user, err := e.AddUser(name)
	require.NoError(t, err)
	named := metav1.ObjectMeta{Name: name}
	_, err = e.core.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: named, Rules: rules}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = e.core.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: named,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	data, err := user.Kubeconfig()
	require.NoError(t, err)
	return writeFile(t, data)
}

// isAsBefore asserts that the definition and the namespace of the quickstart are gone.
func (e *existing) isAsBefore(t *testing.T) {
	t.Helper()
	assert.Eventually(t, func() bool {
		_, err := e.crds.Get(t.Context(), crds.DataPlaneName, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	}, demotest.Patience, 50*time.Millisecond, "the definition is left")
	namespaces, err := e.core.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, namespace := range namespaces.Items {
		if strings.HasPrefix(namespace.Name, "dataplane-quickstart-") {
			// No controller finalizes namespaces here.
			assert.NotNil(t, namespace.DeletionTimestamp, namespace.Name)
		}
	}
}

// slowCluster is a proxy of a cluster. It holds back the answer to the first request that
// matches, until release is called.
type slowCluster struct {
	kubeconfig string
	held       chan struct{}
	release    func()
}

func newSlowCluster(t *testing.T, e *existing, method, pathEnd string) *slowCluster {
	t.Helper()
	address, err := url.Parse(e.URL())
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(address)
	proxy.FlushInterval = -1
	proxy.ErrorLog = log.New(io.Discard, "", 0)
	proxy.Transport, err = rest.TransportFor(e.Config())
	require.NoError(t, err)

	held, released := make(chan struct{}), make(chan struct{})
	var once sync.Once
	proxy.ModifyResponse = func(response *http.Response) error {
		request := response.Request
		if request.Method == method && strings.HasSuffix(request.URL.Path, pathEnd) {
			once.Do(func() {
				close(held)
				select {
				case <-released:
				case <-request.Context().Done():
				}
			})
		}
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return &slowCluster{
		kubeconfig: kubeconfigFor(t, server.URL),
		held:       held,
		release:    sync.OnceFunc(func() { close(released) }),
	}
}

func (s *slowCluster) waitUntilHeld(t *testing.T) {
	t.Helper()
	select {
	case <-s.held:
	case <-time.After(demotest.Patience):
		t.Fatal("the request never came")
	}
}

// kubeconfigFor returns a kubeconfig file without credentials.
func kubeconfigFor(t *testing.T, server string) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["proxy"] = &clientcmdapi.Cluster{Server: server}
	config.Contexts["proxy"] = &clientcmdapi.Context{Cluster: "proxy"}
	config.CurrentContext = "proxy"
	data, err := clientcmd.Write(*config)
	require.NoError(t, err)
	return writeFile(t, data)
}

func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	return file
}

// process is a run of the program, with a temporary folder of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	temp string
	out  output
	done chan struct{} // closed when it has ended
	err  error         // then
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startWith(t, nil, args...)
}

func startWith(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, temp: t.TempDir(), done: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.Background(), 2*demotest.Patience)
	t.Cleanup(cancel)
	p.cmd = exec.CommandContext(ctx, program, args...)
	p.cmd.Env = append(append(os.Environ(), "TMPDIR="+p.temp), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	require.NoError(t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// wait returns the exit code, or -1 when a signal ended the process.
func (p *process) wait() int {
	p.t.Helper()
	<-p.done
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		p.t.Fatal(p.err)
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		assert.Equal(p.t, syscall.SIGINT, status.Signal(), "it took too long: %s", p)
	}
	return p.cmd.ProcessState.ExitCode()
}

// waitFor returns once the program has printed the text.
func (p *process) waitFor(text string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		select {
		case <-p.done:
			return true
		default:
			return strings.Contains(p.String(), text)
		}
	}, demotest.Patience, time.Millisecond, "the program should print %q; it has printed: %s", text, p)
	require.Contains(p.t, p.String(), text)
}

func (p *process) String() string { return p.out.String() }

// leavesNothing requires that no file is left in the temporary folder, and no process
// that was started with a path in it.
func (p *process) leavesNothing() {
	p.t.Helper()
	entries, err := os.ReadDir(p.temp)
	require.NoError(p.t, err)
	assert.Empty(p.t, entries)

	assert.Empty(p.t, p.processes())
}

// processes returns the command lines that name the temporary folder; none but on Linux.
func (p *process) processes() []string {
	p.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(p.t, err)
	var found []string
	for _, file := range files {
		// A process may have ended meanwhile.
		if command, err := os.ReadFile(file); err == nil && bytes.Contains(command, []byte(p.temp)) {
			found = append(found, string(command))
		}
	}
	return found
}

// output stores the output of a process, for concurrent readers.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

var _ io.Writer = (*output)(nil)

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(data)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
