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
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
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
		`Warning +NoAgent +ClusterDataPlane default: `,
		`(?s)The Events of all.*Warning +Refused +DataPlane staging: .*Normal +Reachable +DataPlane staging: .*Normal +Reachable +ClusterDataPlane default: `,
		`\nNext: `,
	} {
		assert.Regexp(t, want, p.Stdout())
	}
	p.LeavesNothing()
}

func TestRefusesBadFlags(t *testing.T) {
	t.Parallel()
	for args, code := range map[string]int{
		"surplus --kubeconfig=x": 2, "--kubeconfig=x surplus": 2, "--kubeconfig=x --workers=0": 2, "--namespace=team": 2,
		"--kubeconfig=x --min-backoff=2s --max-backoff=1s": 2, "--kubeconfig=x --gateway-ca=x": 2, "--kubeconfig=x --gateway=https://x --gateway-ca=x": 2,
		"--kubeconfig=x --gateway=http://x": 2, "--kubeconfig=x --gateway=https://x --gateway-cert=x": 2,
		"--kubeconfig=x": 1,
	} {
		p := demotest.Start(t, name, strings.Fields(args)...)
		assert.Equal(t, code, p.Wait(), args)
		assert.NotContains(t, strings.TrimSpace(p.String()), "\n", "one line")
	}
}

// TestReplicas runs two replicas of a copy of the program, with the rights of the manifest's
// ServiceAccount.
func TestReplicas(t *testing.T) {
	t.Parallel()
	demotest.BuildCopy(t, copied, "main.go", "controller.go", "metrics.go", "planes.go")
	c := cluster{demotest.Clusters(t, 1)}
	require.NoError(t, c.Plane.InstallCRDs(t.Context(), crds.ClusterDataPlane()))
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	gateway.Connect("default", dataplanetest.Agent(c.Targets[0].Config()))
	kubeconfig, args := c.deploy(t, gateway)

	reasons := c.createDataPlanes(t)
	leader := startReplica(t, kubeconfig, args)
	leader.WaitFor("msg=leading")
	follower := startReplica(t, kubeconfig, args)
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
		assert.Equal(t, "1", leader.metric(t, connected, "healthy", "default"))
		assert.Equal(t, "0", leader.metric(t, connected, "silent", "default"))
		assert.Empty(t, leader.metric(t, connected, "later", "default"))
		assert.NotEmpty(t, leader.metric(t, `dataplane_spec_certificate_expiry_timestamp_seconds{name="healthy",namespace="default"} `))
		assert.NotEmpty(t, leader.metric(t, `dataplane_probe_duration_seconds_count{result="Timeout"} `))
		assert.Equal(t, "1", leader.metric(t, `leader_election_master_status{name="probe-controller"} `))

		require.NoError(t, c.DataPlanes.Delete(t.Context(), "silent", metav1.DeleteOptions{}))
		require.Eventually(t, func() bool { return leader.metric(t, connected, "silent", "default") == "" }, demotest.Patience, tick)
	})

	t.Run("a follower is healthy and ready, and has no work", func(t *testing.T) {
		for _, path := range []string{"/healthz", "/readyz"} {
			assert.Equal(t, "ok\n", follower.fetch(t, path))
		}
		assert.Equal(t, "0", follower.metric(t, `leader_election_master_status{name="probe-controller"} `))
		assert.Equal(t, "0", follower.metric(t, `workqueue_depth{name="dataplanes"} `))
		assert.NotContains(t, follower.fetch(t, "/metrics"), "\ndataplane_")
	})

	t.Run("a ClusterDataPlane of OpenChoreo v1 gets Events, and no condition", func(t *testing.T) {
		gateway.Disconnect("default")
		c.waitForEvent(t, "NoAgent", func(about corev1.ObjectReference) bool { return about.Kind == "ClusterDataPlane" })
		gateway.Connect("default", dataplanetest.Agent(c.Targets[0].Config()))
		require.Eventually(t, func() bool { return leader.metric(t, connected, "default", "") == "1" }, demotest.Patience, tick)
		plane, err := c.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Get(t.Context(), "default", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Empty(t, plane.Status.Conditions)

		require.NoError(t, c.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Delete(t.Context(), "default", metav1.DeleteOptions{}))
		again, err := c.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Create(t.Context(), dataplanetest.ClusterDataPlane("default"), metav1.CreateOptions{})
		require.NoError(t, err)
		c.waitForEvent(t, "Reachable", func(about corev1.ObjectReference) bool { return about.UID == again.UID })
	})

	t.Run("the follower takes over from a leader that was killed", func(t *testing.T) {
		leader.Kill()
		follower.WaitFor("msg=leading")
		before := len(c.events(t))
		require.NoError(t, c.Targets[0].APIServer.Stop())
		c.waitForReason(t, "healthy", "Refused")
		require.NoError(t, c.Targets[0].APIServer.Start(t.Context()))
		c.waitForReason(t, "healthy", "Reachable")
		c.waitForEvents(t, before+2) // or more: a server that starts may be NotReady for a while
	})

	t.Run("replicas end after SIGTERM and release the Lease", func(t *testing.T) {
		second := startReplica(t, kubeconfig, args)
		second.WaitFor("msg=following")
		for _, replica := range []*replica{second, follower} {
			assert.NotEmpty(t, c.leaseHolder(t))
			replica.Signal(syscall.SIGTERM)
			assert.Zero(t, replica.Wait(), replica)
			assert.NotContains(t, replica.String(), "forbidden", "the manifest grants all rights that the controller uses")
		}
		assert.Empty(t, c.leaseHolder(t))
	})
}

const (
	tick      = 50 * time.Millisecond
	copied    = "copied-controller"
	connected = `dataplane_connected{name="%s",namespace="%s"} `
)

// cluster is a management cluster and one for data planes.
type cluster struct{ *demo.Clusters }

// deploy applies the manifest, and applies it again with another image, as an upgrade does. It returns
// a kubeconfig file of the ServiceAccount, and the arguments of the container.
func (c cluster) deploy(t *testing.T, gateway *dataplanetest.Gateway) (kubeconfig string, args []string) {
	demotest.PrepareOpenChoreo(t, c.Clusters)
	manifest := demotest.ReadFile(t, "manifest.yaml")
	demotest.Apply(t, c.Clusters, manifest)
	demotest.Apply(t, c.Clusters, strings.ReplaceAll(manifest, ":v1 ", ":v2 "))

	folder := t.TempDir()
	_, err := demo.GatewayFlags(gateway.Config(), folder)
	require.NoError(t, err)
	args = demotest.Args(demotest.Deployment(t, c.Clusters, demotest.OpenChoreo, name), gateway.Config().Host, folder)
	return demotest.ServiceAccount(t, c.Clusters, demotest.OpenChoreo, name, authorizationv1.ResourceAttributes{
		Group: openchoreov1alpha1.SchemeGroupVersion.Group, Resource: "clusterdataplanes", Verb: "list",
	}), args
}

// createDataPlanes returns the expected reason for each.
func (c cluster) createDataPlanes(t *testing.T) map[string]string {
	// unready is never ready. Each of its messages is new, and longer than an Event allows.
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
	_, err = c.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Create(t.Context(), dataplanetest.ClusterDataPlane("default"), metav1.CreateOptions{})
	require.NoError(t, err)
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

// waitForEvent waits for an Event with a reason, about an object that is wanted.
func (c cluster) waitForEvent(t *testing.T, reason string, wanted func(about corev1.ObjectReference) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		list, err := c.Core.EventsV1().Events(c.Namespace).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		return slices.ContainsFunc(list.Items, func(event eventsv1.Event) bool {
			return event.Reason == reason && wanted(event.Regarding)
		})
	}, demotest.Patience, tick)
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
	lease, err := c.Core.CoordinationV1().Leases(demotest.OpenChoreo).Get(t.Context(), name, metav1.GetOptions{})
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

func startReplica(t *testing.T, kubeconfig string, args []string) *replica {
	p := demotest.Start(t, copied, append(args, "--kubeconfig="+kubeconfig, "--listen=127.0.0.1:0", "--interval=200ms", "--min-backoff=100ms", "--max-backoff=400ms")...)
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
