// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

// These tests run the program as a user does: built, as a process of its own.

func TestMain(m *testing.M) {
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
		"That is all",
	} {
		assert.Contains(t, r.String(), want)
	}
	assert.NotContains(t, r.String(), "PRIVATE KEY")
	assert.NotContains(t, r.String(), "LS0tLS1", "base64 of PEM")
	r.leavesNothing()
}

func TestQuickstartEndsCleanlyWhenInterrupted(t *testing.T) {
	for name, at := range map[string]string{
		"at once":                   "",
		"while the clusters start":  " 1. ",
		"when the clusters are up":  "target ",
		"while the informer syncs":  " 4. ",
		"while the user is at work": " 8. ",
		"in the last step":          "10. ",
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
			assert.Contains(t, r.String(), "interrupted; everything that it started is stopped and removed")
			r.leavesNothing()
		})
	}
}

func TestQuickstartOnAnExistingCluster(t *testing.T) {
	existing, kubeconfig := existingControlPlane(t)
	r := start(t, "--kubeconfig", kubeconfig, "--context", "controlplane")
	require.Zero(t, r.wait(), r)
	assert.Contains(t, r.String(), "management  "+existing.URL())
	r.leavesNothing()

	client, err := openchoreoclient.NewForConfig(existing.Config())
	require.NoError(t, err)
	eventuallyNotFound(t, func() error { // the CRD was not there before
		_, err := client.OpenChoreoV1alpha1().DataPlanes("").List(t.Context(), metav1.ListOptions{})
		return err
	})
	core, err := kubernetes.NewForConfig(existing.Config())
	require.NoError(t, err)
	namespaces, err := core.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, namespace := range namespaces.Items {
		if strings.HasPrefix(namespace.Name, "dataplane-quickstart-") {
			// No controller finalizes namespaces here.
			assert.NotNil(t, namespace.DeletionTimestamp, namespace.Name)
		}
	}
}

func TestQuickstartLeavesAnExistingDefinitionAlone(t *testing.T) {
	existing, kubeconfig := existingControlPlane(t)
	require.NoError(t, existing.InstallCRDs(t.Context(), crds.DataPlane()))
	r := start(t, "--kubeconfig", kubeconfig)
	require.Zero(t, r.wait(), r)
	assert.Contains(t, r.String(), "is there already; it stays as it is")

	client, err := openchoreoclient.NewForConfig(existing.Config())
	require.NoError(t, err)
	list, err := client.OpenChoreoV1alpha1().DataPlanes("").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err, "the definition stays")
	for _, dp := range list.Items {
		assert.NotNil(t, dp.DeletionTimestamp)
	}
}

func TestQuickstartFailsWhenAStepFails(t *testing.T) {
	existing, kubeconfig := existingControlPlane(t)
	// A cluster that serves DataPlanes of another shape.
	other := bytes.ReplaceAll(crds.DataPlane(), []byte("- kubernetesCluster\n"), []byte("- clusterAgent\n"))
	other = bytes.ReplaceAll(other, []byte("              kubernetesCluster:\n"), []byte("              clusterAgent:\n"))
	require.NoError(t, existing.InstallCRDs(t.Context(), other))
	r := start(t, "--kubeconfig", kubeconfig)
	assert.Equal(t, 1, r.wait(), r)
	assert.Contains(t, r.String(), "step 4")
	assert.Contains(t, r.String(), "spec.clusterAgent: Required value")
	r.leavesNothing()
}

func TestQuickstartRefusesBadFlags(t *testing.T) {
	r := start(t, "--kubeconfig", filepath.Join(t.TempDir(), "absent"))
	assert.Equal(t, 1, r.wait(), r)
	assert.Contains(t, r.String(), "absent: no such file or directory")
	r.leavesNothing()

	r = start(t, "--context", "no-such-context", "--kubeconfig", os.DevNull)
	assert.Equal(t, 1, r.wait(), r)
	assert.Contains(t, r.String(), `context "no-such-context" does not exist`)

	assert.Equal(t, 2, start(t, "surplus").wait())
}

func existingControlPlane(t *testing.T) (*controlplane.ControlPlane, string) {
	t.Helper()
	cp, err := controlplane.Start(t.Context(), controlplane.WithName("existing cluster"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cp.Stop()) })
	data, err := cp.Kubeconfig()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	return cp, file
}

func eventuallyNotFound(t *testing.T, get func() error) {
	t.Helper()
	require.Eventually(t, func() bool { return apierrors.IsNotFound(get()) }, 30*time.Second, 100*time.Millisecond)
}

// process is a run of the program, with a temporary folder of its own.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	temp string
	out  output
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, temp: t.TempDir()}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	p.cmd = exec.CommandContext(ctx, program, args...)
	p.cmd.Env = append(os.Environ(), "TMPDIR="+p.temp)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	require.NoError(t, p.cmd.Start())
	return p
}

// wait returns the exit code, or -1 when a signal ended the process.
func (p *process) wait() int {
	p.t.Helper()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		assert.Equal(p.t, syscall.SIGINT, status.Signal(), "it took too long: %s", p)
	}
	return p.cmd.ProcessState.ExitCode()
}

// waitFor returns once the program has printed the text.
func (p *process) waitFor(text string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Contains(p.String(), text) },
		time.Minute, time.Millisecond, "the program should print %q", text)
}

func (p *process) String() string { return p.out.String() }

// leavesNothing requires that no file is left in the temporary folder, and no process
// that was started with a path in it.
func (p *process) leavesNothing() {
	p.t.Helper()
	entries, err := os.ReadDir(p.temp)
	require.NoError(p.t, err)
	assert.Empty(p.t, entries)

	commands, err := filepath.Glob("/proc/[0-9]*/cmdline") // none but on Linux
	require.NoError(p.t, err)
	for _, file := range commands {
		command, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		assert.NotContains(p.t, string(command), p.temp, "a process is left")
	}
}

// output collects what a process prints while others read it.
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
