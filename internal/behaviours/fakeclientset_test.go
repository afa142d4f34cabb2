// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// The tests of this folder run generated code on the generated fake clientset. The table of
// behaviours runs on the fake of helpers/dataplanetest, and in hack/integration on real API servers.

func newDataPlane(name string) *openchoreov1alpha1.DataPlane {
	return &openchoreov1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       openchoreov1alpha1.DataPlaneSpec{Registry: openchoreov1alpha1.Registry{Prefix: "docker.io/myorg"}},
	}
}

func registryPrefix(prefix string) *openchoreoapply.DataPlaneApplyConfiguration {
	return openchoreoapply.DataPlane("prod", "default").
		WithSpec(openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithPrefix(prefix)))
}

func applyAs(manager string) metav1.ApplyOptions { return metav1.ApplyOptions{FieldManager: manager} }

func TestFakeCreate(t *testing.T) {
	client := fake.NewClientset().OpenChoreoV1alpha1().DataPlanes("default")
	created, err := client.Create(t.Context(), newDataPlane("prod"), metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Equal(t, "docker.io/myorg", created.Spec.Registry.Prefix)

	_, err = client.Create(t.Context(), newDataPlane("prod"), metav1.CreateOptions{})
	assert.True(t, apierrors.IsAlreadyExists(err), err)
}

func TestFakeApplyKeepsFieldManagersApart(t *testing.T) {
	client := fake.NewClientset().OpenChoreoV1alpha1().DataPlanes("default")

	_, err := client.Apply(t.Context(), registryPrefix("docker.io/one"), applyAs("one"))
	require.NoError(t, err, "apply creates a missing object")

	_, err = client.Apply(t.Context(), registryPrefix("docker.io/two"), applyAs("two"))
	require.True(t, apierrors.IsConflict(err), err)
	assert.ErrorContains(t, err, `conflict with "one"`)
	assert.ErrorContains(t, err, ".spec.registry.prefix")

	gateway := openchoreoapply.DataPlane("prod", "default").WithSpec(openchoreoapply.DataPlaneSpec().
		WithGateway(openchoreoapply.GatewaySpec().WithPublicVirtualHost("api.example.com")))
	both, err := client.Apply(t.Context(), gateway, applyAs("two"))
	require.NoError(t, err, "another field is no conflict")
	assert.Equal(t, "docker.io/one", both.Spec.Registry.Prefix)
	assert.Equal(t, "api.example.com", both.Spec.Gateway.PublicVirtualHost)

	forced, err := client.Apply(t.Context(), registryPrefix("docker.io/two"), metav1.ApplyOptions{FieldManager: "two", Force: true})
	require.NoError(t, err)
	assert.Equal(t, "docker.io/two", forced.Spec.Registry.Prefix)
}

func TestFakeExtractReturnsTheFieldsOfAManager(t *testing.T) {
	client := fake.NewClientset().OpenChoreoV1alpha1().DataPlanes("default")
	_, err := client.Apply(t.Context(), registryPrefix("docker.io/myorg"), applyAs("one"))
	require.NoError(t, err)
	// The fake records ApplyStatus as an apply of the main resource. If one manager applies both,
	// the second apply removes the fields of the first. An API server keeps them apart.
	dp, err := client.ApplyStatus(t.Context(), readyStatus(metav1.ConditionTrue), applyAs("one-status"))
	require.NoError(t, err)

	extracted, err := openchoreoapply.ExtractDataPlane(dp, "one")
	require.NoError(t, err)
	assert.Equal(t, registryPrefix("docker.io/myorg"), extracted)

	nothing, err := openchoreoapply.ExtractDataPlane(dp, "nobody")
	require.NoError(t, err)
	assert.Equal(t, openchoreoapply.DataPlane("prod", "default"), nothing)
}

func TestFakeApplyStatusMergesConditionsByType(t *testing.T) {
	client := fake.NewClientset(newDataPlane("prod")).OpenChoreoV1alpha1().DataPlanes("default")
	_, err := client.ApplyStatus(t.Context(), readyStatus(metav1.ConditionTrue), applyAs("one"))
	require.NoError(t, err)
	connected := openchoreoapply.DataPlane("prod", "default").WithStatus(openchoreoapply.DataPlaneStatus().
		WithConditions(condition(openchoreov1alpha1.DataPlaneConditionConnected, metav1.ConditionFalse)))
	dp, err := client.ApplyStatus(t.Context(), connected, applyAs("two"))
	require.NoError(t, err)
	assert.Len(t, dp.Status.Conditions, 2, "a condition of another manager stays")
}

func TestFakeWatch(t *testing.T) {
	client := fake.NewClientset().OpenChoreoV1alpha1().DataPlanes("default")
	watcher, err := client.Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	defer watcher.Stop()

	_, err = client.Create(t.Context(), newDataPlane("prod"), metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, client.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	for _, want := range []watch.EventType{watch.Added, watch.Deleted} {
		select {
		case event := <-watcher.ResultChan():
			assert.Equal(t, want, event.Type)
			assert.Equal(t, "prod", event.Object.(*openchoreov1alpha1.DataPlane).Name)
		case <-time.After(10 * time.Second):
			t.Fatalf("no %s event", want)
		}
	}
}

// A ClusterDataPlane has no namespace in any of the generated packages.
func TestClusterDataPlaneOnFake(t *testing.T) {
	client := fake.NewClientset(&openchoreov1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
	lister := factory.OpenChoreo().V1alpha1().ClusterDataPlanes().Lister()
	ctx, cancel := context.WithCancel(t.Context())
	defer factory.Shutdown()
	defer cancel()
	factory.StartWithContext(ctx)
	require.NoError(t, factory.WaitForCacheSyncWithContext(ctx).AsError())
	_, err := lister.Get("default")
	require.NoError(t, err)
	_, err = lister.Get("absent")
	require.True(t, apierrors.IsNotFound(err), err)
	assert.ErrorContains(t, err, "clusterdataplane")
	_, err = factory.ForResource(openchoreov1alpha1.SchemeGroupVersion.WithResource("clusterdataplanes"))
	require.NoError(t, err)

	planeID := func(id string) *openchoreoapply.ClusterDataPlaneApplyConfiguration {
		return openchoreoapply.ClusterDataPlane("applied").WithSpec(openchoreoapply.ClusterDataPlaneSpec().WithPlaneID(id))
	}
	clients := client.OpenChoreoV1alpha1().ClusterDataPlanes()
	applied, err := clients.Apply(ctx, planeID("one"), applyAs("one"))
	require.NoError(t, err)
	assert.Equal(t, "one", applied.AsDataPlane().Spec.PlaneID)
	extracted, err := openchoreoapply.ExtractClusterDataPlane(applied, "one")
	require.NoError(t, err)
	assert.Equal(t, planeID("one"), extracted)
	_, err = clients.Apply(ctx, planeID("two"), applyAs("two"))
	require.True(t, apierrors.IsConflict(err), err)
}

func readyStatus(status metav1.ConditionStatus) *openchoreoapply.DataPlaneApplyConfiguration {
	return openchoreoapply.DataPlane("prod", "default").WithStatus(openchoreoapply.DataPlaneStatus().
		WithConditions(condition(openchoreov1alpha1.DataPlaneConditionReady, status)))
}

func condition(conditionType string, status metav1.ConditionStatus) *applymetav1.ConditionApplyConfiguration {
	return applymetav1.Condition().WithType(conditionType).WithStatus(status).
		WithReason("Tested").WithMessage("").WithLastTransitionTime(metav1.Unix(0, 0))
}
