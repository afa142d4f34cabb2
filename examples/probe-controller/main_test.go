// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
)

const tick = 50 * time.Millisecond

func TestMain(m *testing.M) { demotest.Main(m, name, &program, "kubectl") }

var program string

func TestStory(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program)
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

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"extra"}, {"--workers=0"}, {"--interval=0s"}, {"--min-backoff=2s", "--max-backoff=1s"}} {
		p := demotest.Start(t, program, args...)
		assert.Equal(t, 2, p.Wait(), args)
	}
	p := demotest.Start(t, program, "--kubeconfig="+filepath.Join(t.TempDir(), "none"))
	assert.Equal(t, 1, p.Wait())
	assert.Contains(t, p.String(), "no such file")
}

// TestReplicas runs two replicas with the rights of the manifest's ServiceAccount.
func TestReplicas(t *testing.T) {
	t.Parallel()
	management, target := startCluster(t), startCluster(t)
	management.installCRD(t)
	_, stderr, err := management.Kubectl(t.Context(), "apply", "-f", "manifest.yaml")
	require.NoError(t, err)
	require.Empty(t, stderr)

	const account = "system:serviceaccount:probe-controller:probe-controller"
	kubeconfig := management.kubeconfig(t, "probe-controller", account, "system:serviceaccounts", "system:serviceaccounts:probe-controller")
	t.Run("the manifest grants the rights that the program needs and no others", func(t *testing.T) {
		everywhere := []authorizationv1.ResourceRule{
			{APIGroups: []string{"openchoreo.dev"}, Resources: []string{"dataplanes"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{"openchoreo.dev"}, Resources: []string{"dataplanes/status"}, Verbs: []string{"patch"}},
			{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
		}
		requireRights(t, kubeconfig, "default", everywhere)
		requireRights(t, kubeconfig, "probe-controller", append(everywhere,
			authorizationv1.ResourceRule{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"create"}},
			authorizationv1.ResourceRule{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{"probe-controller"}, Verbs: []string{"get", "update"}},
		))
		for _, forbidden := range []string{"update dataplanes", "update dataplanes --subresource=status", "get secrets", "get leases"} {
			args := append([]string{"auth", "can-i", "--as=" + account}, strings.Fields(forbidden)...)
			stdout, _, err := management.Kubectl(t.Context(), args...)
			assert.Equal(t, "no\n", stdout, forbidden)
			assert.Error(t, err, forbidden)
		}
	})

	cases := createCases(t, management, target)
	quickly := []string{"--interval=200ms", "--min-backoff=100ms", "--max-backoff=400ms"}
	leader := startReplica(t, kubeconfig, quickly...)
	leader.WaitFor("msg=leading")
	follower := startReplica(t, kubeconfig, quickly...)
	follower.WaitFor("msg=following")

	t.Run("results become conditions and Events", func(t *testing.T) {
		for plane, want := range cases {
			management.waitForConnected(t, plane, want.status, want.reason)
		}
		management.waitForEvents(t, len(cases))
		for _, event := range management.listEvents(t) {
			want := cases[event.Regarding.Name]
			assert.Equal(t, want.reason, event.Reason, event.Regarding.Name)
			assert.Equal(t, want.status == metav1.ConditionFalse, event.Type == corev1.EventTypeWarning, event.Regarding.Name)
			assert.Equal(t, name, event.ReportingController)
			assert.True(t, strings.HasPrefix(management.connected(t, event.Regarding.Name).Message, event.Note), event.Note)
		}
		leader.WaitFor("dataPlane=default/healthy")
		leader.WaitFor("reason=Timeout")
		log := leader.String()
		assert.Less(t, strings.Index(log, "dataPlane=default/healthy"), strings.Index(log, "reason=Timeout"),
			"a cluster that doesn't answer delays no other")
	})

	t.Run("nothing is written while nothing changes", func(t *testing.T) {
		versions := management.resourceVersions(t)
		for _, reason := range []string{"Reachable", "NotReady", "Unauthorized", "InvalidCredentials"} {
			probes := leader.metric(t, "dataplane_probes_total", "result", reason)
			leader.waitForMetric(t, func(value float64) bool { return value >= probes+5 }, "dataplane_probes_total", "result", reason)
		}
		assert.Equal(t, versions, management.resourceVersions(t))
		assert.Len(t, management.listEvents(t), len(cases))
	})

	t.Run("the leader serves metrics of data planes", func(t *testing.T) {
		assert.Equal(t, 1.0, leader.metric(t, "leader_election_master_status", "name", name))
		for plane, want := range cases {
			switch want.status {
			case metav1.ConditionUnknown:
				assert.Nil(t, leader.find(t, "dataplane_connected", "namespace", "default", "name", plane), plane)
				assert.Nil(t, leader.find(t, "dataplane_client_certificate_expiry_seconds", "namespace", "default", "name", plane), plane)
			default:
				connected := map[metav1.ConditionStatus]float64{metav1.ConditionTrue: 1, metav1.ConditionFalse: 0}[want.status]
				assert.Equal(t, connected, leader.metric(t, "dataplane_connected", "namespace", "default", "name", plane), plane)
				expiry := leader.metric(t, "dataplane_client_certificate_expiry_seconds", "namespace", "default", "name", plane)
				assert.InDelta(t, float64(time.Now().Add(23*time.Hour).Unix()), expiry, 3600, plane)
			}
			assert.Positive(t, leader.metric(t, "dataplane_probes_total", "result", want.reason))
		}
		duration := leader.find(t, "dataplane_probe_duration_seconds", "result", "Timeout").GetHistogram()
		assert.Positive(t, duration.GetSampleCount())
		assert.Nil(t, leader.find(t, "dataplane_probe_duration_seconds", "result", "InvalidCredentials"))
	})

	t.Run("a follower is healthy and ready, and serves no metrics of data planes", func(t *testing.T) {
		for _, replica := range []*replica{leader, follower} {
			assert.Equal(t, http.StatusOK, replica.status(t, "/healthz"))
			assert.Equal(t, http.StatusOK, replica.status(t, "/readyz"))
		}
		assert.Equal(t, 0.0, follower.metric(t, "leader_election_master_status", "name", name))
		for _, family := range []string{"dataplane_connected", "dataplane_probes_total"} {
			assert.NotContains(t, follower.scrape(t), family)
		}
	})

	t.Run("a deleted data plane has no metrics", func(t *testing.T) {
		require.NoError(t, management.dataPlanes.Delete(t.Context(), "cut-short", metav1.DeleteOptions{}))
		require.Eventually(t, func() bool {
			return leader.find(t, "dataplane_connected", "namespace", "default", "name", "cut-short") == nil
		}, demotest.Patience, tick)
		assert.NotNil(t, leader.find(t, "dataplane_connected", "namespace", "default", "name", "healthy"))
	})

	t.Run("the follower takes over from a leader that was killed", func(t *testing.T) {
		leader.Kill()
		killed := time.Now()
		follower.WaitFor("msg=leading")
		t.Logf("it leads %v later", time.Since(killed).Round(time.Second))
		assert.Equal(t, 1.0, follower.metric(t, "leader_election_master_status", "name", name))

		before := len(management.listEvents(t))
		require.NoError(t, target.APIServer.Stop())
		management.waitForConnected(t, "healthy", metav1.ConditionFalse, "Refused")
		require.NoError(t, target.APIServer.Start(t.Context()))
		management.waitForConnected(t, "healthy", metav1.ConditionTrue, "Reachable")
		management.waitForEvents(t, before+2) // at least: a server that starts may also be NotReady for a while
	})

	t.Run("replicas end after SIGTERM and release the Lease", func(t *testing.T) {
		second := startReplica(t, kubeconfig, quickly...)
		second.WaitFor("msg=following")
		second.Signal(syscall.SIGTERM)
		assert.Zero(t, second.Wait(), second)
		assert.NotEmpty(t, management.leaseHolder(t, "probe-controller"))

		follower.Signal(syscall.SIGTERM)
		assert.Zero(t, follower.Wait(), follower)
		assert.Empty(t, management.leaseHolder(t, "probe-controller"))
	})

	for _, p := range []*replica{leader, follower} {
		assert.NotContains(t, p.String(), "is forbidden")
	}
}

type verdict struct {
	status metav1.ConditionStatus
	reason string
}

// createCases creates data planes and returns the expected result for each.
func createCases(t *testing.T, management, target *cluster) map[string]verdict {
	encode := base64.StdEncoding.EncodeToString
	other, err := management.AddUser("somebody-else")
	require.NoError(t, err)
	unready := startUnready(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never answers
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })

	cases := map[string]verdict{}
	for _, test := range []struct {
		name  string
		want  verdict
		spoil func(*openchoreov1alpha1.APIServerCredentials)
	}{
		{"healthy", verdict{metav1.ConditionTrue, "Reachable"}, func(*openchoreov1alpha1.APIServerCredentials) {}},
		{"foreign", verdict{metav1.ConditionFalse, "Unauthorized"}, func(creds *openchoreov1alpha1.APIServerCredentials) {
			creds.ClientCert, creds.ClientKey = encode(other.Certificate), encode(other.Key)
		}},
		{"mixed-up", verdict{metav1.ConditionFalse, "TLSFailure"}, func(creds *openchoreov1alpha1.APIServerCredentials) {
			creds.CACert = encode(other.CA)
		}},
		{"unready", verdict{metav1.ConditionFalse, "NotReady"}, func(creds *openchoreov1alpha1.APIServerCredentials) {
			creds.APIServerURL = unready.URL
			creds.CACert = encode(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: unready.Certificate().Raw}))
		}},
		{"silent", verdict{metav1.ConditionFalse, "Timeout"}, func(creds *openchoreov1alpha1.APIServerCredentials) {
			creds.APIServerURL = "https://" + silent.Addr().String()
		}},
		{"cut-short", verdict{metav1.ConditionFalse, "InvalidCredentials"}, func(creds *openchoreov1alpha1.APIServerCredentials) {
			creds.ClientKey = creds.ClientKey[:len(creds.ClientKey)/2+1]
		}},
		{"later", verdict{metav1.ConditionUnknown, reasonNoCredentials}, func(creds *openchoreov1alpha1.APIServerCredentials) {
			*creds = openchoreov1alpha1.APIServerCredentials{}
		}},
	} {
		dp := management.describe(t, target, test.name)
		test.spoil(&dp.Spec.KubernetesCluster.Credentials)
		_, err := management.dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{})
		require.NoError(t, err)
		cases[test.name] = test.want
	}
	return cases
}

// startUnready starts a server that is never ready. Each of its messages is new, and longer
// than an Event allows.
func startUnready(t *testing.T) *httptest.Server {
	var requests atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, fmt.Sprintf("%d%s", requests.Add(1), strings.Repeat("é", maxNote)), http.StatusInternalServerError)
	}))
	t.Cleanup(server.Close)
	return server
}

// cluster is a control plane with clients of an administrator.
type cluster struct {
	*controlplane.ControlPlane
	core       kubernetes.Interface
	dataPlanes openchoreotyped.DataPlaneInterface
}

func startCluster(t *testing.T) *cluster {
	cp, err := controlplane.Start(t.Context(), controlplane.WithName(t.Name()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cp.Stop()) })
	core, err := kubernetes.NewForConfig(cp.Config())
	require.NoError(t, err)
	client, err := openchoreoclient.NewForConfig(cp.Config())
	require.NoError(t, err)
	return &cluster{cp, core, client.OpenChoreoV1alpha1().DataPlanes("default")}
}

func (c *cluster) installCRD(t *testing.T) {
	require.NoError(t, c.InstallCRDs(t.Context(), crds.DataPlane()))
}

// kubeconfig writes a kubeconfig file for a user, with a default namespace.
func (c *cluster) kubeconfig(t *testing.T, namespace, user string, groups ...string) string {
	u, err := c.AddUser(user, groups...)
	require.NoError(t, err)
	data, err := u.Kubeconfig()
	require.NoError(t, err)
	config, err := clientcmd.Load(data)
	require.NoError(t, err)
	config.Contexts[config.CurrentContext].Namespace = namespace
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*config, path))
	return path
}

// describe returns a DataPlane for a target. Its user has no rights there.
func (c *cluster) describe(t *testing.T, target *cluster, name string) *openchoreov1alpha1.DataPlane {
	clusters := &demo.Clusters{Namespace: "default"}
	dp, err := clusters.DataPlane(t.Context(), &demo.Target{ControlPlane: target.ControlPlane, Name: "target"}, name)
	require.NoError(t, err)
	return dp
}

func (c *cluster) get(t *testing.T, plane string) *openchoreov1alpha1.DataPlane {
	dp, err := c.dataPlanes.Get(t.Context(), plane, metav1.GetOptions{})
	require.NoError(t, err)
	return dp
}

func (c *cluster) connected(t *testing.T, plane string) *metav1.Condition {
	return meta.FindStatusCondition(c.get(t, plane).Status.Conditions, openchoreov1alpha1.DataPlaneConditionConnected)
}

func (c *cluster) waitForConnected(t *testing.T, plane string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	require.Eventually(t, func() bool {
		condition := c.connected(t, plane)
		return condition != nil && condition.Status == status && condition.Reason == reason
	}, demotest.Patience, tick, "%s should be connected %s, %s", plane, status, reason)
}

// listEvents returns the Events about DataPlanes.
func (c *cluster) listEvents(t *testing.T) []eventsv1.Event {
	list, err := c.core.EventsV1().Events("default").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	events := list.Items[:0]
	for _, event := range list.Items {
		if event.Regarding.Kind == "DataPlane" {
			events = append(events, event)
		}
	}
	return events
}

func (c *cluster) waitForEvents(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(c.listEvents(t)) >= n }, demotest.Patience, tick)
}

func (c *cluster) resourceVersions(t *testing.T) map[string]string {
	list, err := c.dataPlanes.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	versions := map[string]string{}
	for i := range list.Items {
		versions[list.Items[i].Name] = list.Items[i].ResourceVersion
	}
	return versions
}

func (c *cluster) leaseHolder(t *testing.T, namespace string) string {
	lease, err := c.core.CoordinationV1().Leases(namespace).Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// requireRights waits until a user has exactly these rights in a namespace, apart from those
// to review itself. The API server applies new rights after a moment.
func requireRights(t *testing.T, kubeconfig, namespace string, want []authorizationv1.ResourceRule) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	ctx := t.Context()
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		review, err := client.AuthorizationV1().SelfSubjectRulesReviews().Create(ctx, &authorizationv1.SelfSubjectRulesReview{
			Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: namespace},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		assert.False(t, review.Status.Incomplete)
		var rules []authorizationv1.ResourceRule
		for _, rule := range review.Status.ResourceRules {
			if rule.APIGroups[0] != "authorization.k8s.io" && rule.APIGroups[0] != "authentication.k8s.io" {
				rules = append(rules, rule)
			}
		}
		assert.ElementsMatch(t, want, rules)
	}, demotest.Patience, tick)
}

// replica is a running process of the program.
type replica struct {
	*demotest.Process
	address string
}

func startReplica(t *testing.T, kubeconfig string, args ...string) *replica {
	r := &replica{Process: demotest.Start(t, program, append([]string{"--kubeconfig=" + kubeconfig, "--listen=127.0.0.1:0"}, args...)...)}
	listening := regexp.MustCompile(`msg=listening address=(\S+)\n`)
	require.Eventually(t, func() bool {
		match := listening.FindStringSubmatch(r.String())
		if match != nil {
			r.address = match[1]
		}
		return match != nil
	}, demotest.Patience, tick)
	return r
}

func (r *replica) fetch(t *testing.T, path string) (status int, body []byte) {
	response, err := http.Get("http://" + r.address + path)
	require.NoError(t, err, r)
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, body
}

func (r *replica) status(t *testing.T, path string) int {
	status, _ := r.fetch(t, path)
	return status
}

func (r *replica) scrape(t *testing.T) map[string]*dto.MetricFamily {
	status, body := r.fetch(t, "/metrics")
	require.Equal(t, http.StatusOK, status, string(body))
	var parser expfmt.TextParser
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	require.NoError(t, err)
	return families
}

// find returns the metric with these labels, or nil.
func (r *replica) find(t *testing.T, family string, labels ...string) *dto.Metric {
	t.Helper()
	for _, m := range r.scrape(t)[family].GetMetric() {
		has := map[string]string{}
		for _, label := range m.GetLabel() {
			has[label.GetName()] = label.GetValue()
		}
		matches := len(has) == len(labels)/2
		for i := 0; i < len(labels); i += 2 {
			matches = matches && has[labels[i]] == labels[i+1]
		}
		if matches {
			return m
		}
	}
	return nil
}

// metric returns the value of a counter or gauge.
func (r *replica) metric(t *testing.T, family string, labels ...string) float64 {
	t.Helper()
	m := r.find(t, family, labels...)
	require.NotNil(t, m, "%s %v", family, labels)
	if m.GetCounter() != nil {
		return m.GetCounter().GetValue()
	}
	return m.GetGauge().GetValue()
}

func (r *replica) waitForMetric(t *testing.T, until func(float64) bool, family string, labels ...string) {
	t.Helper()
	require.Eventually(t, func() bool { return until(r.metric(t, family, labels...)) }, demotest.Patience, tick)
}
