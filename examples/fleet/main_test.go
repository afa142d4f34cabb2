// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// These tests run the program as users do: built, as a process. They don't run in parallel,
// because a story takes three control planes.

var program string

func TestMain(m *testing.M) { demotest.Main(m, "fleet", &program) }

func TestStory(t *testing.T) {
	p := demotest.Start(t, program)
	for _, title := range []string{"the Fleet starts", "2 Deployments", "1 Deployment", "other credentials", "target-2 stops", "target-2 starts", "a DataPlane of target-1 is deleted", "the Fleet's own status", "the Fleet ends"} {
		p.WaitFor(title)
	}
	require.Zero(t, p.Wait(), p)
	var sums []string
	for _, table := range tables(p) {
		sums = append(sums, table.sum)
	}
	assert.Equal(t, []string{
		"0 Deployments in 6 of 6 data planes",
		"9 Deployments in 6 of 6 data planes",
		"6 Deployments in 6 of 6 data planes",
		"6 Deployments in 6 of 6 data planes",
		"6 Deployments in 3 of 6 data planes",
		"9 Deployments in 6 of 6 data planes",
		"7 Deployments in 5 of 5 data planes",
	}, sums)
	for _, want := range []string{
		`target-1-b +Starting +credentials of the data plane have changed`,
		`target-2-a +Retrying .*connection refused`,
		`target-1-a +Gone`,
		`default +target-2-a +Running +\S+ +\d+ +- +.*\d+s ago\)\n`,
		`target-2-c +Stopped +\(all: 0 Deployments in 0 of 0 data planes\)\n$`,
	} {
		assert.Regexp(t, want, p.Stdout())
	}
	p.LeavesNothing()
}

func TestKilledReplica(t *testing.T) {
	p := demotest.Start(t, program, "--replicas=3")
	for _, text := range []string{"replicas share", "is killed", "after the kill", "after the signal", "are free"} {
		p.WaitFor(text)
	}
	require.Zero(t, p.Wait(), p)
	tables := tables(p)
	require.Len(t, tables, 3, p)
	for i, table := range tables {
		assert.Equal(t, map[string]int{
			"default/target-1-a": 1, "default/target-1-b": 1, "default/target-1-c": 1,
			"default/target-2-a": 1, "default/target-2-b": 1, "default/target-2-c": 1,
		}, table.planes, "table %d", i)
		assert.Equal(t, "9 Deployments in 6 of 6 data planes", table.sum)
		assert.LessOrEqual(t, len(table.replicas), 3-i)
	}
	killed := regexp.MustCompile(`# (replica-\d) is killed`).FindStringSubmatch(p.Stdout())[1]
	assert.True(t, tables[0].replicas[killed], "it ran data planes")
	assert.False(t, tables[1].replicas[killed])
	p.LeavesNothing()
}

func TestInterruptEndsReplicas(t *testing.T) {
	p := demotest.Start(t, program, "--replicas=3", "--lease-duration=4s")
	p.WaitFor("9 Deployments in 6 of 6 data planes")
	p.Signal(os.Interrupt)
	assert.Equal(t, 130, p.Wait(), p)
	assert.NotContains(t, p.String(), "fleet: ", "an interrupt is no error")
	p.LeavesNothing()
}

func TestReplicasEndWithAKilledParent(t *testing.T) {
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("only Linux has /proc")
	}
	p := demotest.Start(t, program, "--replicas=3", "--lease-duration=20s") // long enough that nothing else is printed meanwhile
	p.WaitFor("is killed")
	kubeconfig := regexp.MustCompile(`--kubeconfig (\S+)`).FindStringSubmatch(p.Stdout())[1]
	require.NotEmpty(t, processesOf(t, kubeconfig))
	p.Kill()
	require.Eventually(t, func() bool { return len(processesOf(t, kubeconfig)) == 0 }, demotest.Patience, 50*time.Millisecond)
}

// processesOf returns the processes whose command lines name a file.
func processesOf(t *testing.T, file string) (found []string) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, path := range all {
		// A process may have ended meanwhile.
		if command, err := os.ReadFile(path); err == nil && strings.Contains(string(command), file) {
			found = append(found, path)
		}
	}
	return found
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"extra"},
		{"-o=yaml"},
		{"-A"},
		{"--shards=2"},
		{"--replicas=1"},
		{"--kubeconfig=x", "--replicas=3"},
		{"--kubeconfig=x", "--replica=a"},
	} {
		p := demotest.Start(t, program, args...)
		assert.Equal(t, 2, p.Wait(), args)
	}
	p := demotest.Start(t, program, "--kubeconfig="+filepath.Join(t.TempDir(), "none"))
	assert.Equal(t, 1, p.Wait())
	assert.Contains(t, p.String(), "no such file")
}

// TestExistingCluster uses one control plane, whose DataPlanes describe itself.
func TestExistingCluster(t *testing.T) {
	ctx := t.Context()
	c := newCluster(t)
	dataPlanes := rbacv1.PolicyRule{APIGroups: []string{"openchoreo.dev"}, Resources: []string{"dataplanes"}, Verbs: []string{"list", "watch"}}
	leases := rbacv1.PolicyRule{
		APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"},
		Verbs: []string{"create", "get", "list", "update", "delete"},
	}
	nobody := c.kubeconfig(t, "nobody")
	reader := c.kubeconfig(t, "reader", dataPlanes)
	replica := c.kubeconfig(t, "replica", dataPlanes, leases)
	c.create(t, "one", mayCount)
	c.create(t, "two", mayCount)
	require.NoError(t, createDeployments(ctx, map[*demo.Target][]string{c.Target: {"shop", "cart"}}))

	t.Run("without the rights", func(t *testing.T) {
		p := demotest.Start(t, program, "--kubeconfig="+nobody)
		assert.Equal(t, 1, p.Wait())
		assert.Contains(t, p.String(), "fleet: listing DataPlanes: dataplanes.openchoreo.dev is forbidden")
		p = demotest.Start(t, program, "--kubeconfig="+reader, "--shards=2")
		assert.Equal(t, 1, p.Wait())
		assert.Contains(t, p.String(), "fleet: listing leases: leases.coordination.k8s.io is forbidden")
	})

	t.Run("alone", func(t *testing.T) {
		p := demotest.Start(t, program, "--kubeconfig="+reader, "-A")
		p.WaitFor("4 Deployments in 2 of 2 data planes")

		c.create(t, "cut-short", mayCount)
		c.create(t, "no-rights")
		dp, err := c.dataPlanes.Get(ctx, "cut-short", metav1.GetOptions{})
		require.NoError(t, err)
		dp.Spec.KubernetesCluster.Credentials.ClientKey = "!"
		_, err = c.dataPlanes.Update(ctx, dp, metav1.UpdateOptions{})
		require.NoError(t, err)
		p.WaitFor("no-rights     Retrying")
		assert.Regexp(t, `no-rights +Retrying .*User "no-rights" cannot list resource "deployments"`, p.Stdout())
		p.WaitFor("cut-short     Failed")
		assert.Regexp(t, `cut-short +Failed .*spec\.kubernetesCluster\.credentials\.clientKey`, p.Stdout())

		_, err = c.DataPlane(ctx, c.Target, "no-rights", mayCount) // grants them
		require.NoError(t, err)
		p.WaitFor("6 Deployments in 3 of 4 data planes")
		require.NoError(t, deleteDeployment(ctx, c.Target, "cart"))
		p.WaitFor("3 Deployments in 3 of 4 data planes")
		for _, name := range []string{"cut-short", "no-rights"} {
			require.NoError(t, c.dataPlanes.Delete(ctx, name, metav1.DeleteOptions{}))
		}
		p.WaitFor("2 Deployments in 2 of 2 data planes")
		p.Signal(os.Interrupt)
		assert.Equal(t, 130, p.Wait())
		p.LeavesNothing()
	})

	t.Run("replicas", func(t *testing.T) {
		args := []string{"--kubeconfig=" + replica, "--shards=4", "--lease-duration=5s", "-o=json"}
		a := demotest.Start(t, program, append(args, "--replica=a")...)
		waitForEvents(t, a, 2, func(e Event) bool { return e.State == fleet.StateRunning && e.Replica == "a" && e.Deployments == 1 })
		b := demotest.Start(t, program, append(args, "--replica=b")...)
		waitForEvents(t, b, 2, func(e Event) bool { return e.Shard != "" && e.State == leads })
		a.Signal(syscall.SIGTERM)
		assert.Equal(t, 130, a.Wait())
		planes := map[string]bool{}
		waitForEvents(t, b, 2, func(e Event) bool {
			planes[e.DataPlane] = true
			return e.State == fleet.StateRunning && e.Replica == "b"
		})
		b.Signal(syscall.SIGTERM)
		assert.Equal(t, 130, b.Wait())
		text := demotest.Start(t, program, "--kubeconfig="+replica, "--shards=4", "--lease-duration=5s", "--replica=c")
		text.WaitFor("c  shard 3 of 4          Leading")
		text.WaitFor("2 Deployments in 2 of 2 data planes")
		text.Signal(syscall.SIGTERM)
		assert.Equal(t, 130, text.Wait())
		left, err := c.core.CoordinationV1().Leases("default").List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		require.Len(t, left.Items, 4)
		for i := range left.Items {
			assert.Empty(t, *left.Items[i].Spec.HolderIdentity)
		}
	})
}

// waitForEvents waits until a process has printed n wanted events.
func waitForEvents(t *testing.T, p *demotest.Process, n int, wanted func(Event) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		found := 0
		decoder := json.NewDecoder(strings.NewReader(p.Stdout()))
		for {
			var event Event
			if decoder.Decode(&event) != nil { // the end, or half a line
				return found >= n
			}
			if wanted(event) {
				found++
			}
		}
	}, demotest.Patience, 10*time.Millisecond, p)
}

// table is a table in the output.
type table struct {
	planes   map[string]int // lines of each that runs
	replicas map[string]bool
	sum      string
}

func tables(p *demotest.Process) (result []table) {
	for _, text := range strings.Split(p.Stdout(), "REPLICA\n")[1:] {
		t := table{planes: map[string]int{}, replicas: map[string]bool{}}
		for line := range strings.Lines(text) {
			fields := strings.Fields(line)
			if fields[1] == "Deployments" {
				t.sum = strings.TrimSpace(line)
				break
			}
			if fields[1] == string(fleet.StateRunning) {
				t.planes[fields[0]]++
				t.replicas[fields[3]] = true
			}
		}
		result = append(result, t)
	}
	return result
}

// cluster stores DataPlanes that describe itself.
type cluster struct {
	*demo.Clusters
	*demo.Target
	core       kubernetes.Interface
	dataPlanes openchoreotyped.DataPlaneInterface
}

func newCluster(t *testing.T) *cluster {
	cp, err := controlplane.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cp.Stop()) })
	require.NoError(t, cp.InstallCRDs(t.Context(), crds.DataPlane()))
	core, err := kubernetes.NewForConfig(cp.Config())
	require.NoError(t, err)
	client, err := openchoreoclient.NewForConfig(cp.Config())
	require.NoError(t, err)
	return &cluster{
		&demo.Clusters{Namespace: "default"}, &demo.Target{ControlPlane: cp, Name: "itself"},
		core, client.OpenChoreoV1alpha1().DataPlanes("default"),
	}
}

// create creates a DataPlane with a new user.
func (c *cluster) create(t *testing.T, name string, rules ...rbacv1.PolicyRule) {
	dp, err := c.DataPlane(t.Context(), c.Target, name, rules...)
	require.NoError(t, err)
	_, err = c.dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{})
	require.NoError(t, err)
}

// kubeconfig writes a kubeconfig file for a user with the rights in rules.
func (c *cluster) kubeconfig(t *testing.T, name string, rules ...rbacv1.PolicyRule) string {
	_, err := c.DataPlane(t.Context(), c.Target, name, rules...) // grants it
	require.NoError(t, err)
	user, err := c.AddUser(name)
	require.NoError(t, err)
	data, err := user.Kubeconfig()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}
