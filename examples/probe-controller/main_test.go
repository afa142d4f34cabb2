// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, ".") }

func TestStory(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, name)
	require.Zero(t, p.Wait(), p)
	for _, want := range []string{
		`production +True +Reachable`,
		`staging +False +Refused`,
		`mixed-up +False +TLSFailure`,
		`cut-short +False +InvalidCredentials .*credentials\.clientKey`,
		`staging +True +Reachable`,
		`Warning +Refused +staging`,
		`Normal +Reachable +staging`,
	} {
		assert.Regexp(t, want, p.Stdout())
	}
	p.LeavesNothing()
}

func TestRefusesBadFlags(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"surplus", "--kubeconfig=x --workers=0", "--kubeconfig=x --min-backoff=2s --max-backoff=1s", "--namespace=team", "--kubeconfig=x"} {
		p := demotest.Start(t, name, strings.Fields(args)...)
		assert.Equal(t, 1, p.Wait(), args)
		assert.NotContains(t, strings.TrimSpace(p.String()), "\n", "one line")
	}
}

// TestReplicas runs two replicas with the rights of the manifest's ServiceAccount.
func TestReplicas(t *testing.T) {
	t.Parallel()
	c := cluster{demotest.Clusters(t, 1)}
	_, stderr, err := c.Plane.Kubectl(t.Context(), "apply", "-f", "manifest.yaml")
	require.NoError(t, err)
	require.Empty(t, stderr)
	kubeconfig := demotest.Kubeconfig(t, c.Clusters, "probe-controller",
		"system:serviceaccount:probe-controller:probe-controller", "system:serviceaccounts", "system:serviceaccounts:probe-controller")

	reasons := c.createDataPlanes(t)
	leader := startReplica(t, kubeconfig)
	leader.WaitFor("msg=leading")
	follower := startReplica(t, kubeconfig)
	follower.WaitFor("msg=following")

	t.Run("results become conditions and Events", func(t *testing.T) {
		for plane, reason := range reasons {
			c.waitForReason(t, plane, reason)
		}
		c.waitForEvents(t, len(reasons))
		for _, event := range c.events(t) {
			assert.Equal(t, reasons[event.Regarding.Name], event.Reason)
			assert.True(t, strings.HasPrefix(c.connected(t, event.Regarding.Name).Message, event.Note), event.Note)
		}
		assert.Regexp(t, `(?s)dataPlane=default/healthy.*reason=Timeout`, leader.String(), "a cluster that doesn't answer delays no other")
	})

	t.Run("nothing is written while nothing changes", func(t *testing.T) {
		versions := c.resourceVersions(t)
		for _, reason := range []string{"Reachable", "NotReady"} {
			const probes = `dataplane_probes_total{result="%s"} `
			before := leader.metric(t, probes, reason)
			require.Eventually(t, func() bool { return leader.metric(t, probes, reason) != before }, demotest.Patience, tick)
		}
		assert.Equal(t, versions, c.resourceVersions(t))
		assert.Len(t, c.events(t), len(reasons))
	})

	t.Run("the leader serves metrics of data planes", func(t *testing.T) {
		const connected = `dataplane_connected{name="%s",namespace="default"} `
		assert.Equal(t, "1", leader.metric(t, connected, "healthy"))
		assert.Equal(t, "0", leader.metric(t, connected, "silent"))
		assert.Empty(t, leader.metric(t, connected, "later"))
		assert.NotEmpty(t, leader.metric(t, `dataplane_client_certificate_expiry_seconds{name="healthy",namespace="default"} `))
		assert.NotEmpty(t, leader.metric(t, `dataplane_probe_duration_seconds_count{result="Timeout"} `))
		assert.Equal(t, "1", leader.metric(t, `leader_election_master_status{name="probe-controller"} `))

		require.NoError(t, c.DataPlanes.Delete(t.Context(), "silent", metav1.DeleteOptions{}))
		require.Eventually(t, func() bool { return leader.metric(t, connected, "silent") == "" }, demotest.Patience, tick)
	})

	t.Run("a follower is healthy and ready, and has no work", func(t *testing.T) {
		for _, path := range []string{"/healthz", "/readyz"} {
			assert.Equal(t, "ok\n", follower.fetch(t, path))
		}
		assert.Equal(t, "0", follower.metric(t, `leader_election_master_status{name="probe-controller"} `))
		assert.Equal(t, "0", follower.metric(t, `workqueue_depth{name="dataplanes"} `))
		assert.NotContains(t, follower.fetch(t, "/metrics"), "\ndataplane_")
	})

	t.Run("the follower takes over from a leader that was killed", func(t *testing.T) {
		leader.Kill()
		follower.WaitFor("msg=leading")
		before := len(c.events(t))
		require.NoError(t, c.Targets[0].APIServer.Stop())
		c.waitForReason(t, "healthy", "Refused")
		require.NoError(t, c.Targets[0].APIServer.Start(t.Context()))
		c.waitForReason(t, "healthy", "Reachable")
		c.waitForEvents(t, before+2) // at least: a server that starts may also be NotReady for a while
	})

	t.Run("replicas end after SIGTERM and release the Lease", func(t *testing.T) {
		second := startReplica(t, kubeconfig)
		second.WaitFor("msg=following")
		for _, replica := range []*replica{second, follower} {
			assert.NotEmpty(t, c.leaseHolder(t))
			replica.Signal(syscall.SIGTERM)
			assert.Zero(t, replica.Wait(), replica)
		}
		assert.Empty(t, c.leaseHolder(t))
	})
}

const tick = 50 * time.Millisecond

// cluster is a management cluster and one for data planes.
type cluster struct{ *demo.Clusters }

// createDataPlanes returns the expected reason for each.
func (c cluster) createDataPlanes(t *testing.T) map[string]string {
	// It is never ready. Each of its messages is new, and longer than an Event allows.
	var requests atomic.Int64
	unready := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, fmt.Sprintf("%d%s", requests.Add(1), strings.Repeat("é", maxNote)), http.StatusInternalServerError)
	}))
	t.Cleanup(unready.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never answers
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })

	for name, spoil := range map[string]func(*openchoreov1alpha1.APIServerCredentials){
		"healthy": func(*openchoreov1alpha1.APIServerCredentials) {},
		"unready": func(creds *openchoreov1alpha1.APIServerCredentials) {
			creds.APIServerURL = unready.URL
			creds.CACert = base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: unready.Certificate().Raw}))
		},
		"silent": func(creds *openchoreov1alpha1.APIServerCredentials) {
			creds.APIServerURL = "https://" + silent.Addr().String()
		},
		"later": func(creds *openchoreov1alpha1.APIServerCredentials) {
			*creds = openchoreov1alpha1.APIServerCredentials{}
		},
	} {
		_, err := c.Create(t.Context(), c.Targets[0], name, nil, func(dp *openchoreov1alpha1.DataPlane) {
			spoil(&dp.Spec.KubernetesCluster.Credentials)
		})
		require.NoError(t, err)
	}
	return map[string]string{"healthy": "Reachable", "unready": "NotReady", "silent": "Timeout", "later": reasonNoCredentials}
}

func (c cluster) connected(t *testing.T, plane string) *metav1.Condition {
	dp, err := c.DataPlanes.Get(t.Context(), plane, metav1.GetOptions{})
	require.NoError(t, err)
	return meta.FindStatusCondition(dp.Status.Conditions, openchoreov1alpha1.DataPlaneConditionConnected)
}

func (c cluster) waitForReason(t *testing.T, plane, reason string) {
	t.Helper()
	require.Eventually(t, func() bool {
		condition := c.connected(t, plane)
		return condition != nil && condition.Reason == reason
	}, demotest.Patience, tick, "%s should be %s", plane, reason)
}

// events returns the Events about DataPlanes.
func (c cluster) events(t *testing.T) (events []eventsv1.Event) {
	list, err := c.Core.EventsV1().Events(c.Namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, event := range list.Items {
		if event.Regarding.Kind == "DataPlane" {
			events = append(events, event)
		}
	}
	return events
}

func (c cluster) waitForEvents(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(c.events(t)) >= n }, demotest.Patience, tick)
}

func (c cluster) resourceVersions(t *testing.T) map[string]string {
	list, err := c.DataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	versions := map[string]string{}
	for i := range list.Items {
		versions[list.Items[i].Name] = list.Items[i].ResourceVersion
	}
	return versions
}

func (c cluster) leaseHolder(t *testing.T) string {
	lease, err := c.Core.CoordinationV1().Leases("probe-controller").Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// replica is a running process of the program.
type replica struct {
	*demotest.Process
	address string
}

func startReplica(t *testing.T, kubeconfig string) *replica {
	p := demotest.Start(t, name, "--kubeconfig="+kubeconfig, "--listen=127.0.0.1:0", "--interval=200ms", "--min-backoff=100ms", "--max-backoff=400ms")
	p.WaitFor("msg=listening")
	p.WaitFor("\n")
	return &replica{p, regexp.MustCompile(`msg=listening address=(\S+)`).FindStringSubmatch(p.String())[1]}
}

func (r *replica) fetch(t *testing.T, path string) string {
	response, err := http.Get("http://" + r.address + path)
	require.NoError(t, err, r)
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(data)
}

// metric returns the value of a metric, or "" if there is none.
func (r *replica) metric(t *testing.T, format string, labels ...any) string {
	t.Helper()
	_, after, _ := strings.Cut(r.fetch(t, "/metrics"), "\n"+fmt.Sprintf(format, labels...))
	value, _, _ := strings.Cut(after, "\n")
	return value
}
