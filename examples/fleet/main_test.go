// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
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
	t.Parallel()
	p := demotest.Start(t, program)
	for _, title := range []string{"the Fleet starts", "2 Deployments", "1 Deployment", "its run goes on", "target-2 stops", "target-2 starts", "a DataPlane of target-1 is deleted", "the Fleet's own status", "the Fleet ends"} {
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
		"9 Deployments in 6 of 6 data planes",
		"9 Deployments in 3 of 6 data planes",
		"12 Deployments in 6 of 6 data planes",
		"9 Deployments in 5 of 5 data planes",
	}, sums)
	for _, want := range []string{
		`target-1-b +Rotated`,
		`target-2-a +Retrying .*connection refused`,
		`target-1-a +Gone +data plane was deleted`,
		`default +target-1-b +Running +\S+ +0 +-\n`,       // it goes on
		`default +target-2-a +Running +\S+ +[1-9]\d* +\w`, // it had to start again
		`Stopped +fleet is stopped.*\(all: 0 Deployments in 0 of 0 data planes\)\n$`,
	} {
		assert.Regexp(t, want, p.Stdout())
	}
	p.LeavesNothing()
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program, "--replicas=3")
	for _, title := range []string{"share 12 shards", "(SIGKILL)", "(SIGSTOP)", "(SIGCONT)", "is added", "(SIGTERM)", "the others delete", "all replicas end"} {
		p.WaitFor(title)
	}
	require.Zero(t, p.Wait(), p)
	assert.Regexp(t, `there are 2 member Leases, and 2 replicas\n`, p.Stdout())
	assert.Regexp(t, `the Leases of all 12 shards are free, and there are no member Leases\n$`, p.Stdout())
	subject := func(pattern string) string {
		return regexp.MustCompile(`(?m)^# (replica-\d) ` + pattern).FindStringSubmatch(p.Stdout())[1]
	}
	killed, suspended, ended := subject("is killed"), subject("is suspended"), subject("ends")

	tables := tables(p)
	require.Len(t, tables, 6, p)
	owners := map[string]string{}
	for i, replicas := range []int{3, 2, 1, 2, 3, 2} {
		table := tables[i]
		assert.Equal(t, map[string]int{
			"default/target-1-a": 1, "default/target-1-b": 1, "default/target-1-c": 1,
			"default/target-2-a": 1, "default/target-2-b": 1, "default/target-2-c": 1,
		}, table.planes, "table %d", i)
		assert.Equal(t, fmt.Sprintf("%d Deployments in 6 of 6 data planes", 3*(i+2)), table.sum)

		// What it says to have moved is what leads from the owners before to those after.
		for _, move := range table.moves {
			for _, subject := range move.subjects {
				assert.Equal(t, move.from, cmp.Or(owners[subject], "nobody"), "%s in step %d", subject, i)
				owners[subject] = move.to
			}
		}
		shards := map[string]int{}
		for subject, owner := range owners {
			if strings.HasPrefix(subject, "shard ") {
				shards[owner]++
			} else {
				assert.Equal(t, table.owners[subject], owner, "%s in step %d", subject, i)
			}
		}
		assert.Len(t, owners, 12+6)
		assert.Len(t, shards, replicas, "replicas that lead shards in step %d", i)
		for _, n := range shards {
			assert.Equal(t, 12/replicas, n, "shards of a replica in step %d", i)
		}
		switch i {
		case 1:
			assert.NotContains(t, shards, killed)
			assert.GreaterOrEqual(t, table.seconds, 3-0.4, "a Lease is kept for a replica that is gone") // it was renewed every 0.4 s
		case 2:
			assert.NotContains(t, shards, suspended)
			assert.GreaterOrEqual(t, table.seconds, 3-0.4)
		case 3:
			assert.Contains(t, shards, suspended)
		case 4:
			assert.Contains(t, shards, "replica-4")
		case 5:
			assert.NotContains(t, shards, ended)
		}
	}
	p.LeavesNothing()
}

func TestInterruptEndsReplicas(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program, "--replicas=3", "--lease-duration=4s")
	p.WaitFor("(SIGSTOP)") // one of them can't react to it
	p.Signal(os.Interrupt)
	assert.Equal(t, 130, p.Wait(), p)
	assert.NotContains(t, p.String(), "fleet: ", "an interrupt is no error")
	p.LeavesNothing()
}

func TestReplicasEndWithAKilledParent(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	for _, args := range [][]string{
		{"extra"},
		{"-o=yaml"},
		{"-A"},
		{"--shards=2"},
		{"--replicas=2"},
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
	t.Parallel()
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
	require.NoError(t, createDeployment(ctx, c.Target, "shop"))
	require.NoError(t, createDeployment(ctx, c.Target, "cart"))

	t.Run("without the rights", func(t *testing.T) {
		p := demotest.Start(t, program, "--kubeconfig="+nobody)
		assert.Equal(t, 1, p.Wait())
		assert.Contains(t, p.String(), "fleet: listing DataPlanes: dataplanes.openchoreo.dev is forbidden")
		p = demotest.Start(t, program, "--kubeconfig="+reader, "--shards=2", "--lease-duration=2s")
		assert.Equal(t, 1, p.Wait())
		assert.Contains(t, p.String(), `a right is missing: leases.coordination.k8s.io is forbidden: User "reader" cannot list resource "leases"`)
	})

	t.Run("alone", func(t *testing.T) {
		p := demotest.Start(t, program, "--kubeconfig="+reader, "-A", "--metrics=127.0.0.1:0")
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
		p.WaitFor("cut-short     Retrying")
		assert.Regexp(t, `cut-short +(Rotated|Retrying) .*spec\.kubernetesCluster\.credentials\.clientKey`, p.Stdout())

		_, err = c.DataPlane(ctx, c.Target, "no-rights", mayCount) // grants them
		require.NoError(t, err)
		p.WaitFor("6 Deployments in 3 of 4 data planes")
		require.NoError(t, deleteDeployment(ctx, c.Target, "cart"))
		p.WaitFor("3 Deployments in 3 of 4 data planes")
		waitForMetrics(t, p,
			`fleet_running{name="cut-short",namespace="default"} 0`,
			`fleet_running{name="no-rights",namespace="default"} 1`,
			`fleet_running{name="one",namespace="default"} 1`)
		assert.Regexp(t, `(?m)^fleet_retries_total\{name="no-rights",namespace="default"\} [1-9]`, metricsOf(t, p))
		assert.Regexp(t, `(?m)^fleet_runs_ended_total\{outcome="failed"\} [1-9]`, metricsOf(t, p))
		for _, name := range []string{"cut-short", "no-rights"} {
			require.NoError(t, c.dataPlanes.Delete(ctx, name, metav1.DeleteOptions{}))
		}
		p.WaitFor("2 Deployments in 2 of 2 data planes")
		waitForMetrics(t, p, "fleet_removed_total 2", `fleet_runs_ended_total{outcome="deleted"} 1`, "fleet_shards_led 0")
		assert.NotContains(t, metricsOf(t, p), "no-rights")
		assert.NotContains(t, metricsOf(t, p), "cut-short")

		rotated, err := c.DataPlane(ctx, c.Target, "one", mayCount)
		require.NoError(t, err)
		dp, err = c.dataPlanes.Get(ctx, "one", metav1.GetOptions{})
		require.NoError(t, err)
		dp.Spec = rotated.Spec
		_, err = c.dataPlanes.Update(ctx, dp, metav1.UpdateOptions{})
		require.NoError(t, err)
		waitForMetrics(t, p, `fleet_rotations_total{name="one",namespace="default"} 1`, `fleet_running{name="one",namespace="default"} 1`)
		p.Signal(os.Interrupt)
		assert.Equal(t, 130, p.Wait())
		p.LeavesNothing()
	})

	t.Run("replicas", func(t *testing.T) {
		args := []string{"--kubeconfig=" + replica, "--shards=4", "--lease-duration=5s", "-o=json", "--metrics=127.0.0.1:0"}
		a := demotest.Start(t, program, append(args, "--replica=a")...)
		waitForEvents(t, a, 2, func(e Event) bool { return e.State == fleet.StateRunning && e.Replica == "a" && e.Deployments == 1 })
		b := demotest.Start(t, program, append(args, "--replica=b")...)
		waitForEvents(t, b, 2, func(e Event) bool { return e.Shard != nil && e.State == leading })
		waitForMetrics(t, a, "fleet_shards_led 2")
		waitForMetrics(t, b, "fleet_shards_led 2")
		for _, name := range []string{"one", "two"} {
			series := fmt.Sprintf(`fleet_running{name=%q,namespace="default"} 1`, name)
			require.Eventually(t, func() bool {
				return strings.Count(metricsOf(t, a)+metricsOf(t, b), series) == 1
			}, demotest.Patience, 50*time.Millisecond, "each data plane has metrics at one replica")
		}
		a.Signal(syscall.SIGTERM)
		assert.Equal(t, 130, a.Wait())
		waitForMetrics(t, b, `fleet_running{name="one",namespace="default"} 1`, `fleet_running{name="two",namespace="default"} 1`)
		b.Signal(syscall.SIGTERM)
		assert.Equal(t, 130, b.Wait())
		text := demotest.Start(t, program, "--kubeconfig="+replica, "--shards=4", "--lease-duration=5s", "--replica=c")
		text.WaitFor("c  shard 3               Leading")
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

// metricsOf returns what a process serves at the address that it has printed.
func metricsOf(t *testing.T, p *demotest.Process) string {
	t.Helper()
	url := regexp.MustCompile(`metrics: (\S+)`).FindStringSubmatch(p.String())[1]
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}

// waitForMetrics waits until a process serves all these lines.
func waitForMetrics(t *testing.T, p *demotest.Process, lines ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
		metrics := metricsOf(t, p)
		return !slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(metrics, line+"\n") })
	}, demotest.Patience, 50*time.Millisecond, lines)
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

// table is a table in the output, with what comes right before it.
type table struct {
	planes  map[string]int    // lines of each that runs
	owners  map[string]string // replicas of the data planes
	sum     string
	seconds float64 // that the step took
	moves   []move
}

type move struct {
	from, to string
	subjects []string
}

func tables(p *demotest.Process) (result []table) {
	parts := strings.Split(p.Stdout(), "REPLICA\n")
	for i, text := range parts[1:] {
		t := table{planes: map[string]int{}, owners: map[string]string{}}
		for line := range strings.Lines(text) {
			fields := strings.Fields(line)
			if fields[1] == "Deployments" {
				t.sum = strings.TrimSpace(line)
				break
			}
			if fields[1] == string(fleet.StateRunning) {
				t.planes[fields[0]]++
				t.owners[fields[0]] = fields[3]
			}
		}
		step := parts[i][strings.LastIndex(parts[i], "\n# "):]
		if took := regexp.MustCompile(`(\S+) s later, all data planes are counted`).FindStringSubmatch(step); took != nil {
			t.seconds, _ = strconv.ParseFloat(took[1], 64)
		}
		for _, m := range regexp.MustCompile(`(?m)^  from (\S+) to (\S+): (.+)$`).FindAllStringSubmatch(step, -1) {
			t.moves = append(t.moves, move{m[1], m[2], strings.Split(m[3], ", ")})
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
