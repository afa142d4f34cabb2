// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
)

// startTest starts a control plane that the test ends.
func startTest(t *testing.T, opts ...Option) *ControlPlane {
	t.Helper()
	cp, err := Start(t.Context(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cp.Stop()) })
	return cp
}

func clientFor(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return client
}

func TestTwoControlPlanesAtOnce(t *testing.T) {
	var planes [2]*ControlPlane
	var errs [2]error
	var group sync.WaitGroup
	for i := range planes {
		group.Go(func() { planes[i], errs[i] = Start(t.Context()) })
	}
	group.Wait()
	for i, cp := range planes {
		require.NoError(t, errs[i])
		t.Cleanup(func() { require.NoError(t, cp.Stop()) })
	}
	require.NotEqual(t, planes[0].URL(), planes[1].URL())
	for i, cp := range planes {
		client := clientFor(t, cp.Config())
		version, err := client.Discovery().ServerVersion()
		require.NoError(t, err)
		if cp.binaries.builder != nil {
			assert.Equal(t, kubernetesVersion, version.GitVersion)
		}
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "which"}, Data: map[string]string{"url": cp.URL()}}
		_, err = client.CoreV1().ConfigMaps("default").Create(t.Context(), object, metav1.CreateOptions{})
		require.NoError(t, err, "control plane %d has the other's objects", i)
	}

	foreign := planes[0].Config()
	foreign.Host = planes[1].URL()
	_, err := clientFor(t, foreign).Discovery().ServerVersion()
	require.ErrorContains(t, err, "certificate", "each has different authorities")
}

func TestAUserWithoutAGroupMayDoNothing(t *testing.T) {
	cp := startTest(t)
	user, err := cp.AddUser("jane")
	require.NoError(t, err)
	kubeconfig, err := user.Kubeconfig()
	require.NoError(t, err)
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	require.NoError(t, err)
	_, err = clientFor(t, config).CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, `User "jane"`)
	_, err = cp.AddUser("")
	require.Error(t, err)
}

func TestInstallCRDs(t *testing.T) {
	cp := startTest(t)
	require.NoError(t, cp.InstallCRDs(t.Context(), crds.DataPlane()))
	require.NoError(t, cp.InstallCRDs(t.Context(), crds.DataPlane()), "again")
	client, err := dynamic.NewForConfig(cp.Config())
	require.NoError(t, err)
	resource := schema.GroupVersionResource{Group: "openchoreo.dev", Version: "v1alpha1", Resource: "dataplanes"}
	_, err = client.Resource(resource).Namespace("default").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)

	err = cp.InstallCRDs(t.Context(), []byte("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n"))
	require.True(t, apierrors.IsBadRequest(err), "%v", err)
}

func TestKubectl(t *testing.T) {
	cp := startTest(t)
	t.Setenv("KUBECONFIG", "/nowhere/of/the/user")
	// The first call may build kubectl, with Go's caches in the home folder.
	_, err := cp.KubectlCommand(t.Context())
	require.NoError(t, err)
	home := t.TempDir()
	t.Setenv("HOME", home)
	cmd, err := cp.KubectlCommand(t.Context(), "apply", "-f", "-")
	require.NoError(t, err)
	cmd.Stdin = strings.NewReader(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}}`)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	stdout, stderr, err := cp.Kubectl(t.Context(), "get", "configmap", "applied", "-o", "name")
	require.NoError(t, err, stderr)
	assert.Equal(t, "configmap/applied\n", stdout)
	assert.Empty(t, stderr)

	_, stderr, err = cp.Kubectl(t.Context(), "get", "configmap", "none")
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.ErrorContains(t, err, "NotFound")
	assert.Contains(t, stderr, "NotFound")

	entries, err := os.ReadDir(home)
	require.NoError(t, err)
	assert.Empty(t, entries, "kubectl wrote to the user's home")
}

func TestRestartsKeepUsersPortAndData(t *testing.T) {
	cp := startTest(t)
	url := cp.URL()
	user, err := cp.AddUser("jane", "system:masters")
	require.NoError(t, err)
	client := clientFor(t, user.Config()).CoreV1().ConfigMaps("default")
	_, err = client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	// An open watch delays the end of an API server.
	watch, err := client.Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	defer watch.Stop()

	ctx := t.Context()
	for _, step := range []struct {
		name string
		do   func() error
		down bool
	}{
		{name: "restart the API server", do: func() error { return cp.APIServer.Restart(ctx) }},
		{name: "kill the API server", do: cp.APIServer.Kill, down: true},
		{name: "kill it again", do: cp.APIServer.Kill, down: true},
		{name: "start the API server", do: func() error { return cp.APIServer.Start(ctx) }},
		{name: "start it again", do: func() error { return cp.APIServer.Start(ctx) }},
		{name: "stop the API server", do: cp.APIServer.Stop, down: true},
		{name: "start the API server after that", do: func() error { return cp.APIServer.Start(ctx) }},
		{name: "kill etcd", do: cp.Etcd.Kill, down: true},
		{name: "start etcd", do: func() error { return cp.Etcd.Start(ctx) }},
		{name: "restart etcd", do: func() error { return cp.Etcd.Restart(ctx) }},
	} {
		require.NoError(t, step.do(), step.name)
		if step.down {
			require.Error(t, cp.ready(ctx), step.name)
			continue
		}
		require.NoError(t, poll(ctx, cp.ready), step.name)
		_, err := client.Get(ctx, "kept", metav1.GetOptions{})
		require.NoError(t, err, step.name)
		require.Equal(t, url, cp.URL())
	}
}

func TestTakenPortIsAnErrorUntilItIsFree(t *testing.T) {
	cp := startTest(t)
	require.NoError(t, cp.APIServer.Kill())
	listener, err := net.Listen("tcp", strings.TrimPrefix(cp.URL(), "https://"))
	require.NoError(t, err)
	require.ErrorIs(t, cp.APIServer.Start(t.Context()), syscall.EADDRINUSE)
	require.NoError(t, listener.Close())
	require.NoError(t, cp.APIServer.Start(t.Context()))
}

func TestStop(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cp := startTest(t)
	watch, err := clientFor(t, cp.Config()).CoreV1().ConfigMaps("").Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	defer watch.Stop()
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { assert.NoError(t, cp.Stop()) })
	}
	group.Wait()
	require.Error(t, cp.APIServer.Start(t.Context()))
	require.Error(t, cp.Etcd.Restart(t.Context()))
	requireNothingLeft(t, os.Getenv("TMPDIR"))
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("processesOf knows Linux only")
	}
	for running, name := range []string{"etcd", "kube-apiserver"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				defer cancel()
				for len(processesOf(os.Getenv("TMPDIR"))) <= running && ctx.Err() == nil {
					time.Sleep(tick)
				}
			}()
			_, err := Start(ctx)
			require.ErrorIs(t, err, context.Canceled)
			requireNothingLeft(t, os.Getenv("TMPDIR"))
		})
	}
}

func TestFailedStartSaysWhyAndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, err := Start(t.Context(), WithName("two"), WithAPIServerFlags("--no-such-flag"))
	require.ErrorContains(t, err, "start two: kube-apiserver: ended before it was ready: exit status 1")
	require.ErrorContains(t, err, "unknown flag: --no-such-flag")
	requireNothingLeft(t, os.Getenv("TMPDIR"))
}

func TestProcessesEndWithAKilledProgram(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends the children of a killed process")
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	var output syncBuffer
	cmd := child("start", &output)
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return strings.Contains(output.String(), "started") }, startTimeout, tick, &output)
	require.Len(t, processesOf(temp), 2)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Eventually(t, func() bool { return len(processesOf(temp)) == 0 }, eventually, tick)
}

// requireNothingLeft requires that dir is empty and that no process uses it.
func requireNothingLeft(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.Empty(t, processesOf(dir))
}

// processesOf returns the command lines of processes with a path below dir as an argument. It finds
// them on Linux only.
func processesOf(dir string) []string {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline") // fails for a bad pattern only
	var found []string
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(line), "="+dir) { // err is set if the process has just ended
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
