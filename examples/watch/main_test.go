// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// These tests run the program as users do: built, as a process.

var program string

func TestMain(m *testing.M) { demotest.Main(m, "watch", &program, "kubectl") }

func TestStory(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program)
	require.Zero(t, p.Wait(), p)
	for _, want := range []string{
		"added .spec by operator\n",
		"Ready: Unknown (NotReported) → True\n",
		"Ready: True → Unknown (Stale)\n",
		"added .spec.registry.secretRef by platform-team\n",
		"Ready: Unknown (Stale) → True\n",
		"modified .spec.kubernetesCluster.credentials.{clientCert,clientKey} by rotator\n",
		"GatewayProvisioned: Unknown (Stale) → False\n",
		"removed .spec.registry.secretRef by platform-team\n",
		"  DELETED   default/production-dataplane  ",
	} {
		assert.Contains(t, p.Stdout(), want)
	}
	assert.Equal(t, 1, strings.Count(p.Stdout(), "READY"), "a header, once")
	assert.Equal(t, 1, strings.Count(p.Stdout(), "  ADDED  "))
	assert.Equal(t, 10, strings.Count(p.Stdout(), "  MODIFIED  "), "none for what audit did: %s", p.Stdout())
	assert.NotContains(t, p.Stdout(), "audit")
	p.LeavesNothing()
}

func TestStoryEndsCleanlyWhenInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"starting Kubernetes", "ADDED"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			p := demotest.Start(t, program, "-o", "json")
			p.WaitFor(at)
			p.Signal(os.Interrupt)
			assert.Equal(t, 130, p.Wait(), p)
			assert.Contains(t, p.String(), "watch: interrupted; cleaning up")
			p.LeavesNothing()
		})
	}
}

func TestExistingCluster(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	reader := c.kubeconfigOf(t, "reader", "list", "watch")
	all := []string{"--kubeconfig", reader, "-A", "-o", "json"}
	ctx := t.Context()

	// The output must not contain the key and the password of this object.
	first, err := c.in("default").Create(ctx, newDataPlane("first"), metav1.CreateOptions{FieldManager: "operator"})
	require.NoError(t, err)
	p := demotest.Start(t, program, all...)
	p.WaitFor(`"first"`)
	operator := []Change{{".spec", Added, []string{"operator"}}}
	want := []Event{Event{Type: watch.Added, Initial: true, Changes: operator}.of(first)}

	reported, err := c.in("default").ApplyStatus(ctx, openchoreoapply.DataPlane("first", "default").
		WithStatus(openchoreoapply.DataPlaneStatus().WithConditions(applymetav1.Condition().WithType("Ready").
			WithStatus(metav1.ConditionTrue).WithReason("Tested").WithMessage("<by\n\x1b[31mhand>").
			WithObservedGeneration(1).WithLastTransitionTime(metav1.Unix(1_700_000_000, 0)))),
		metav1.ApplyOptions{FieldManager: "readiness"})
	require.NoError(t, err)
	notReported := State{metav1.ConditionUnknown, helpers.CodeNotReported}
	isTrue := State{metav1.ConditionTrue, helpers.CodeCurrent}
	stale := State{metav1.ConditionUnknown, helpers.CodeStale}
	event := Event{Type: watch.Modified, Transitions: []Transition{{"Ready", notReported, isTrue}}}
	for _, field := range []string{"lastTransitionTime", "message", "observedGeneration", "reason", "status", "type"} {
		event.Changes = append(event.Changes, Change{`.status.conditions[type="Ready"].` + field, Added, []string{"readiness"}})
	}
	want = append(want, event.of(reported))

	const secretRef, displayName = ".spec.registry.secretRef", ".metadata.annotations.openchoreo.dev/display-name"
	apply := func(manager, secretRef string) *openchoreov1alpha1.DataPlane {
		wanted := openchoreoapply.DataPlane("first", "default").
			WithAnnotations(map[string]string{openchoreov1alpha1.AnnotationDisplayName: "First"})
		if secretRef != "" {
			wanted.WithSpec(openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithSecretRef(secretRef)))
		}
		dp, err := c.in("default").Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: manager})
		require.NoError(t, err)
		return dp
	}
	team := []string{"team"}
	want = append(want, Event{
		Type:        watch.Modified,
		Transitions: []Transition{{"Ready", isTrue, stale}},
		Changes:     []Change{{displayName, Added, team}, {secretRef, Added, team}},
	}.of(apply("team", "pull")))

	// A write that changes no field is no event.
	same := apply("audit", "pull")
	require.NotEqual(t, want[2].ResourceVersion, same.ResourceVersion)

	// A manager that only removes fields by an update leaves no trace.
	same.Spec.Registry.SecretRef = ""
	cleaned, err := c.in("default").Update(ctx, same, metav1.UpdateOptions{FieldManager: "cleaner"})
	require.NoError(t, err)
	want = append(want, Event{Type: watch.Modified, Changes: []Change{{secretRef, Removed, nil}}}.of(cleaned))

	// If the only owner gives up a field, the managed fields tell, by a time in seconds.
	again := apply("team", "pull again")
	want = append(want, Event{Type: watch.Modified, Changes: []Change{{secretRef, Added, team}}}.of(again))
	var latest int64
	for _, entry := range again.ManagedFields {
		if entry.Time != nil { // audit changed nothing
			latest = max(latest, entry.Time.Unix())
		}
	}
	require.Eventually(t, func() bool { return time.Now().Unix() > latest }, demotest.Patience, 10*time.Millisecond)
	gone := apply("team", "")
	want = append(want, Event{Type: watch.Modified, Changes: []Change{{secretRef, Removed, team}}}.of(gone))

	// The output shows that secrets have changed, and no secrets.
	creds := &gone.Spec.KubernetesCluster.Credentials
	creds.ClientKey = "bmV3IGtleQ=="
	gone.Spec.Observer.Authentication.BasicAuth.Password = "new password"
	rotated, err := c.in("default").Update(ctx, gone, metav1.UpdateOptions{FieldManager: "rotator"})
	require.NoError(t, err)
	want = append(want, Event{Type: watch.Modified, Changes: []Change{
		{".spec.kubernetesCluster.credentials.clientKey", Modified, []string{"rotator"}},
		{".spec.observer.authentication.basicAuth.password", Modified, []string{"rotator"}},
	}}.of(rotated))
	const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"
	_, _, err = c.Kubectl(ctx, "annotate", "dataplane", "first", lastApplied+"="+creds.ClientKey)
	require.NoError(t, err)
	annotated, err := c.in("default").Get(ctx, "first", metav1.GetOptions{})
	require.NoError(t, err)
	want = append(want, Event{Type: watch.Modified, Changes: []Change{
		{".metadata.annotations." + lastApplied, Added, []string{"kubectl-annotate"}},
	}}.of(annotated))

	require.NoError(t, c.in("default").Delete(ctx, "first", metav1.DeleteOptions{}))
	want = append(want, Event{Type: watch.Deleted}.of(annotated))

	p.WaitFor(string(watch.Deleted))
	assertEvents(t, want, p)

	p.Signal(os.Interrupt)
	assert.Equal(t, 130, p.Wait())
	for _, dp := range []*openchoreov1alpha1.DataPlane{first, rotated} {
		assert.NotContains(t, p.String(), dp.Spec.KubernetesCluster.Credentials.ClientKey)
		assert.NotContains(t, p.String(), dp.Spec.Observer.Authentication.BasicAuth.Password)
	}
	p.LeavesNothing()
}

func TestGoesOnWhenTheAPIServerWasAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	dp, err := c.in("default").Create(t.Context(), newDataPlane("first"), metav1.CreateOptions{})
	require.NoError(t, err)
	p := demotest.Start(t, program, "--kubeconfig", c.kubeconfigOf(t, "reader", "list", "watch"), "-o", "wide")
	p.WaitFor("default/first")

	require.NoError(t, c.APIServer.Kill())
	p.WaitFor("watch: interrupted, trying again: ")
	require.NoError(t, c.APIServer.Start(t.Context()))
	p.WaitFor("watch: resumed")
	dp.Spec.KubernetesCluster.Name = "renamed\x1b[31m"
	_, err = c.in("default").Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: "somebody"})
	require.NoError(t, err)
	p.WaitFor("modified .spec.kubernetesCluster.name by somebody\n")
	assert.Contains(t, p.Stdout(), "  2           renamed [31m\n", "control characters are replaced")
	assert.Equal(t, 1, strings.Count(p.Stdout(), "ADDED"))
	assert.Equal(t, 1, strings.Count(p.Stdout(), "MODIFIED"))

	assert.NotContains(t, p.String(), "reflector", "no log of client-go")
	p.Signal(os.Interrupt)
	assert.Equal(t, 130, p.Wait())
}

func TestRefusesBadFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"surplus"}, {"-o", "yaml"}, {"--no-such-flag"}} {
		p := demotest.Start(t, program, args...)
		assert.Equal(t, 2, p.Wait(), p)
		assert.Contains(t, p.String(), "-kubeconfig file", "usage")
	}
}

// of adds the state of the object to an event.
func (e Event) of(dp *openchoreov1alpha1.DataPlane) Event {
	state := newEvent(e.Type, dp)
	state.Initial, state.Transitions, state.Changes, state.Time = e.Initial, e.Transitions, e.Changes, time.Time{}
	return state
}

// assertEvents compares want with the output. It ignores the time, except that it must not go
// backwards, and the resource version of a deletion, which the test can't know.
func assertEvents(t *testing.T, want []Event, p *demotest.Process) {
	t.Helper()
	var got []Event
	var last time.Time
	for line := range strings.Lines(p.Stdout()) {
		var event Event
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&event), line)
		assert.False(t, event.Time.Before(last))
		last, event.Time = event.Time, time.Time{}
		if i := len(got); event.Type == watch.Deleted && i < len(want) {
			event.ResourceVersion = want[i].ResourceVersion
		}
		got = append(got, event)
	}
	assert.Equal(t, want, got)
}

// cluster is a cluster that serves DataPlanes.
type cluster struct {
	*controlplane.ControlPlane
	client openchoreoclient.Interface
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	cp, err := controlplane.Start(t.Context(), controlplane.WithName(t.Name()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, cp.Stop()) })
	require.NoError(t, cp.InstallCRDs(t.Context(), crds.DataPlane()))
	client, err := openchoreoclient.NewForConfig(cp.Config())
	require.NoError(t, err)
	return &cluster{cp, client}
}

func (c *cluster) in(namespace string) openchoreotyped.DataPlaneInterface {
	return c.client.OpenChoreoV1alpha1().DataPlanes(namespace)
}

// kubeconfigOf returns the file of a new user with these rights on DataPlanes.
func (c *cluster) kubeconfigOf(t *testing.T, name string, verbs ...string) string {
	t.Helper()
	dp, err := (&demo.Clusters{}).DataPlane(t.Context(), &demo.Target{ControlPlane: c.ControlPlane, Name: name}, name,
		rbacv1.PolicyRule{APIGroups: []string{openchoreov1alpha1.GroupName}, Resources: []string{"dataplanes"}, Verbs: verbs})
	require.NoError(t, err)
	config, err := helpers.KubeconfigFor(dp)
	require.NoError(t, err)
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

func newDataPlane(name string) *openchoreov1alpha1.DataPlane {
	return &openchoreov1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: openchoreov1alpha1.DataPlaneSpec{
			KubernetesCluster: openchoreov1alpha1.KubernetesClusterSpec{
				Name: "production-cluster",
				Credentials: openchoreov1alpha1.APIServerCredentials{
					APIServerURL: "https://k8s-api.example.com:6443",
					CACert:       "Y2E=", ClientCert: "Y2VydA==", ClientKey: "b2xkIGtleQ==",
				},
			},
			Registry: openchoreov1alpha1.Registry{Prefix: "docker.io/myorg"},
			Gateway: openchoreov1alpha1.GatewaySpec{
				PublicVirtualHost: "api.example.com", OrganizationVirtualHost: "internal.example.com",
			},
			Observer: &openchoreov1alpha1.ObserverAPI{
				URL: "https://observer.example.com",
				Authentication: openchoreov1alpha1.ObserverAuthentication{
					BasicAuth: openchoreov1alpha1.BasicAuthCredentials{Username: "user", Password: "old password"},
				},
			},
		},
	}
}
