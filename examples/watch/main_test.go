// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, ".") }

func TestStory(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, "watch")
	require.Zero(t, p.Wait(), p)
	for _, want := range []string{
		"added .spec by operator\n",
		"Ready: Unknown (NotReported) → True\n",
		"Ready: True → Unknown (Stale)\n",
		"added .spec.registry.secretRef by platform-team\n",
		"Ready: Unknown (Stale) → True\n",
		"modified .spec.kubernetesCluster.credentials.clientKey by rotator\n",
		"GatewayProvisioned: Unknown (Stale) → False\n",
		"removed .spec.registry.secretRef by platform-team\n",
		`added .status.conditions[type="Ready"].{lastTransitionTime, message, observedGeneration, reason, status, type} by readiness-controller` + "\n",
		"  DELETED   default/production-dataplane  ",
		"  ADDED     clusterdataplane/default ",
		"Connected: Unknown (NotReported) → True\n          added .status.agentConnection.connected by openchoreo\n",
		"Ready: True → False\n",
	} {
		assert.Contains(t, p.Stdout(), want)
	}
	assert.Equal(t, 1, strings.Count(p.Stdout(), "READY"), "a header, once")
	assert.Equal(t, 12, strings.Count(p.Stdout(), "  MODIFIED  "), "none for audit and for a heartbeat: %s", p.Stdout())
	assert.NotContains(t, p.Stdout(), "audit")
	assert.NotContains(t, p.Stdout(), "Heartbeat")
	p.LeavesNothing()
}

// The output shows who has changed which fields, even of secrets, but no secret.
func TestExistingCluster(t *testing.T) {
	t.Parallel()
	c := demotest.Clusters(t, 0)
	first, err := c.DataPlanes.Create(t.Context(), newDataPlane(), metav1.CreateOptions{FieldManager: "operator"})
	require.NoError(t, err)
	p := demotest.Start(t, "watch", "--kubeconfig", readerOf(t, c), "-A", "-o", "json")
	p.WaitFor(`"first"`)
	assert.Contains(t, p.String(), "watch: no ClusterDataPlanes: clusterdataplanes.openchoreo.dev is forbidden")

	const secretRef, displayName = ".spec.registry.secretRef", ".metadata.annotations.openchoreo.dev/display-name"
	dp, err := c.DataPlanes.Apply(t.Context(), openchoreoapply.DataPlane("first", c.Namespace).
		WithAnnotations(map[string]string{openchoreov1alpha1.AnnotationDisplayName: "First"}).
		WithSpec(openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithSecretRef("pull"))),
		metav1.ApplyOptions{FieldManager: "team"})
	require.NoError(t, err)
	update := func(manager string) {
		dp, err = c.DataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: manager})
		require.NoError(t, err)
	}
	dp.Spec.Registry.SecretRef = ""
	update("cleaner") // only removes a field, by an update, which leaves no trace
	dp.Spec.KubernetesCluster.Credentials.ClientKey = "bmV3IGtleQ=="
	dp.Spec.Observer.Authentication.BasicAuth.Password = "new password"
	update("rotator")
	const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"
	dp.Annotations[lastApplied] = "bmV3IGtleQ=="
	update("annotator")
	require.NoError(t, c.DataPlanes.Delete(t.Context(), "first", metav1.DeleteOptions{}))
	p.WaitFor(string(watch.Deleted))

	type change struct {
		eventType watch.EventType
		initial   bool
		changes   []Change
	}
	team, rotator := []string{"team"}, []string{"rotator"}
	want := []change{
		{watch.Added, true, []Change{{".spec", Added, []string{"operator"}}}},
		{watch.Modified, false, []Change{{displayName, Added, team}, {secretRef, Added, team}}},
		{watch.Modified, false, []Change{{secretRef, Removed, nil}}},
		{watch.Modified, false, []Change{
			{".spec.kubernetesCluster.credentials.clientKey", Modified, rotator},
			{".spec.observer.authentication.basicAuth.password", Modified, rotator},
		}},
		{watch.Modified, false, []Change{{".metadata.annotations." + lastApplied, Added, []string{"annotator"}}}},
		{watch.Deleted, false, nil},
	}
	var got []change
	for line := range strings.Lines(p.Stdout()) {
		var event Event
		require.NoError(t, json.Unmarshal([]byte(line), &event), line)
		assert.Equal(t, first.UID, event.UID)
		assert.WithinDuration(t, time.Now(), event.Time, demotest.Patience)
		got = append(got, change{event.Type, event.Initial, event.Changes})
	}
	assert.Equal(t, want, got)

	p.Signal(syscall.SIGTERM)
	assert.Zero(t, p.Wait(), p)
	for _, secret := range []string{"b2xkIGtleQ==", "bmV3IGtleQ==", "old password", "new password"} {
		assert.NotContains(t, p.String(), secret)
	}
}

func TestContinuesAfterTheAPIServerWasAway(t *testing.T) {
	t.Parallel()
	c := demotest.Clusters(t, 0)
	dp, err := c.DataPlanes.Create(t.Context(), newDataPlane(), metav1.CreateOptions{})
	require.NoError(t, err)
	p := demotest.Start(t, "watch", "--kubeconfig", readerOf(t, c), "-o", "wide")
	p.WaitFor("default/first")

	require.NoError(t, c.Plane.APIServer.Kill())
	p.WaitFor("watch: interrupted, trying again: ")
	require.NoError(t, c.Plane.APIServer.Start(t.Context()))
	p.WaitFor("watch: resumed")
	dp.Spec.KubernetesCluster.Name = "renamed\x1b[31m"
	_, err = c.DataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{FieldManager: "somebody"})
	require.NoError(t, err)
	p.WaitFor("modified .spec.kubernetesCluster.name by somebody\n")
	assert.Contains(t, p.Stdout(), "  2           renamed [31m\n", "control characters are replaced")
	assert.Equal(t, 1, strings.Count(p.Stdout(), "ADDED"))
	assert.NotContains(t, p.String(), "reflector", "no log of client-go")
}

func TestRefusesBadFlags(t *testing.T) {
	t.Parallel()
	demotest.RefusesBadFlags(t, "watch", "-o yaml")
}

func TestMemoryHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	transform, err := hideSecrets()
	require.NoError(t, err)
	dp := newDataPlane()
	dp.Annotations = map[string]string{"copy": "b2xkIGtleQ=="}
	_, err = transform(dp)
	require.NoError(t, err)
	data, err := json.Marshal(dp)
	require.NoError(t, err)
	for _, secret := range []string{"b2xkIGtleQ==", "old password"} {
		assert.NotContains(t, string(data), secret)
	}
}

// As a list of initial objects that is streamed does, by default from client-go 0.35 on.
func TestASecondTransformChangesNothing(t *testing.T) {
	t.Parallel()
	transform, err := hideSecrets()
	require.NoError(t, err)
	once, twice := newDataPlane(), newDataPlane()
	for _, dp := range []*openchoreov1alpha1.DataPlane{once, twice, twice} {
		dp.Annotations = map[string]string{"copy": "b2xkIGtleQ=="}
		_, err = transform(dp)
		require.NoError(t, err)
	}
	assert.Equal(t, once, twice)
}

func TestTwoInformersPrintOneHeader(t *testing.T) {
	t.Parallel()
	for range 1000 {
		var out strings.Builder
		printEvent := textPrinter(&out, false)
		var informers sync.WaitGroup
		for range 2 {
			informers.Go(func() { assert.NoError(t, printEvent(Event{})) })
		}
		informers.Wait()
		require.Equal(t, 1, strings.Count(out.String(), "READY"))
	}
}

// An API server that is away for a moment still serves ClusterDataPlanes.
func TestEndsIfItCannotLearnWhichKindsExist(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w := &watcher{config: &rest.Config{Host: "http://127.0.0.1:1"}, print: textPrinter(io.Discard, false)}
	err := w.run(ctx, func(context.Context) error { return nil })
	require.ErrorContains(t, err, "connection refused")
}

// readerOf returns the kubeconfig of a user who may list and watch DataPlanes.
func readerOf(t *testing.T, c *demo.Clusters) string {
	t.Helper()
	_, err := c.Itself().Credentials(t.Context(), "reader", rbacv1.PolicyRule{
		APIGroups: []string{openchoreov1alpha1.GroupName}, Resources: []string{"dataplanes"}, Verbs: []string{"list", "watch"},
	})
	require.NoError(t, err)
	return demotest.Kubeconfig(t, c, c.Namespace, "reader")
}

func newDataPlane() *openchoreov1alpha1.DataPlane {
	dp := demo.NewDataPlane(metav1.NamespaceDefault, "first", "production-cluster", openchoreov1alpha1.APIServerCredentials{
		APIServerURL: "https://k8s-api.example.com:6443", CACert: "Y2E=", ClientCert: "Y2VydA==", ClientKey: "b2xkIGtleQ==",
	})
	dp.Spec.Observer = &openchoreov1alpha1.ObserverAPI{
		URL: "https://observer.example.com",
		Authentication: openchoreov1alpha1.ObserverAuthentication{
			BasicAuth: openchoreov1alpha1.BasicAuthCredentials{Username: "user", Password: "old password"},
		},
	}
	return dp
}
