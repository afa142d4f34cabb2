// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// These tests cover the fake clientset and the other generated packages. Tests on a real
// API server are in hack/integration.

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
	// The fake records ApplyStatus as an apply of the main resource: if one manager applies
	// both, the second apply removes the first's fields. An API server keeps them apart.
	dp, err := client.ApplyStatus(t.Context(), readyStatus(metav1.ConditionTrue), applyAs("one-status"))
	require.NoError(t, err)

	extracted, err := openchoreoapply.ExtractDataPlane(dp, "one")
	require.NoError(t, err)
	assert.Equal(t, registryPrefix("docker.io/myorg"), extracted)

	nothing, err := openchoreoapply.ExtractDataPlane(dp, "nobody")
	require.NoError(t, err)
	assert.Equal(t, openchoreoapply.DataPlane("prod", "default"), nothing)
}

func TestExtractKeepsSubresourcesApart(t *testing.T) {
	dp := newDataPlane("prod")
	dp.Spec.Gateway.PublicVirtualHost = "api.example.com"
	dp.Status.Conditions = []metav1.Condition{
		{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"},
		{Type: "Connected", Status: metav1.ConditionFalse, Reason: "Tested"},
	}
	dp.ManagedFields = []metav1.ManagedFieldsEntry{
		managed("one", "", metav1.ManagedFieldsOperationApply, `{"f:spec":{"f:registry":{"f:prefix":{}}}}`),
		managed("one", "", metav1.ManagedFieldsOperationUpdate, `{"f:spec":{"f:gateway":{"f:publicVirtualHost":{}}}}`),
		managed("one", "status", metav1.ManagedFieldsOperationApply,
			`{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:status":{}}}}}`),
	}

	extracted, err := openchoreoapply.ExtractDataPlane(dp, "one")
	require.NoError(t, err)
	assert.Equal(t, registryPrefix("docker.io/myorg"), extracted, "no fields of updates or of the status")

	status, err := openchoreoapply.ExtractDataPlaneStatus(dp, "one")
	require.NoError(t, err)
	assert.Equal(t, openchoreoapply.DataPlane("prod", "default").WithStatus(openchoreoapply.DataPlaneStatus().
		WithConditions(applymetav1.Condition().WithType("Ready").WithStatus(metav1.ConditionTrue))), status,
		"the key of a list entry is included though the manager doesn't own it")
}

// Extract does what client-go's own does, except for the keys of lists whose items a manager
// owns in part. An apply that names an item twice is refused.
func TestExtractTakesMetadataAsClientGoDoes(t *testing.T) {
	const key = `"k:{\"uid\":\"1\"}"`
	for name, fields := range map[string]string{
		"an owner reference":   `{"f:metadata":{"f:ownerReferences":{` + key + `:{}}}}`,
		"two owner references": `{"f:metadata":{"f:ownerReferences":{` + key + `:{},"k:{\"uid\":\"2\"}":{}}}}`,
		"finalizers":           `{"f:metadata":{"f:finalizers":{".":{},"v:\"example.com/one\"":{},"v:\"example.com/two\"":{}}}}`,
		"labels":               `{"f:metadata":{"f:labels":{"f:app":{}},"f:annotations":{".":{},"f:note":{}}}}`,
		"what is gone":         `{"f:metadata":{"f:labels":{"f:gone":{}},"f:ownerReferences":{"k:{\"uid\":\"3\"}":{}}}}`,
		"all": `{"f:metadata":{"f:finalizers":{"v:\"example.com/one\"":{}},"f:labels":{"f:app":{}},
			"f:ownerReferences":{".":{},` + key + `:{}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			meta := metav1.ObjectMeta{
				Name: "prod", Namespace: "default",
				Labels:      map[string]string{"app": "x", "other": "y"},
				Annotations: map[string]string{"note": "x"},
				Finalizers:  []string{"example.com/one", "example.com/two"},
				OwnerReferences: []metav1.OwnerReference{
					{APIVersion: "v1", Kind: "ConfigMap", Name: "one", UID: "1", Controller: ptr(true)},
					{APIVersion: "v1", Kind: "ConfigMap", Name: "two", UID: "2"},
				},
				ManagedFields: []metav1.ManagedFieldsEntry{managed("one", "", metav1.ManagedFieldsOperationApply, fields)},
			}
			want, err := applycorev1.ExtractConfigMap(&corev1.ConfigMap{ObjectMeta: meta}, "one")
			require.NoError(t, err)
			got, err := openchoreoapply.ExtractDataPlane(&openchoreov1alpha1.DataPlane{ObjectMeta: meta}, "one")
			require.NoError(t, err)
			assert.Equal(t, want.ObjectMetaApplyConfiguration, got.ObjectMetaApplyConfiguration)

			cluster := meta
			cluster.Namespace, want.Namespace = "", nil
			ofCluster, err := openchoreoapply.ExtractClusterDataPlane(&openchoreov1alpha1.ClusterDataPlane{ObjectMeta: cluster}, "one")
			require.NoError(t, err)
			assert.Equal(t, want.ObjectMetaApplyConfiguration, ofCluster.ObjectMetaApplyConfiguration)
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestExtractRefusesInvalidManagedFields(t *testing.T) {
	dp := newDataPlane("prod")
	dp.ManagedFields = []metav1.ManagedFieldsEntry{managed("one", "", metav1.ManagedFieldsOperationApply, `{"f:spec":1}`)}
	_, err := openchoreoapply.ExtractDataPlane(dp, "one")
	assert.ErrorContains(t, err, `managed fields of "one"`)

	nothing := openchoreoapply.DataPlane("prod", "default")
	for name, fields := range map[string]*metav1.FieldsV1{
		"no fields":                   nil,
		"fields that no longer exist": managed("", "", "", `{"f:spec":{"f:observer":{"f:url":{}}}}`).FieldsV1,
	} {
		t.Run(name, func(t *testing.T) {
			dp.ManagedFields[0].FieldsV1 = fields
			extracted, err := openchoreoapply.ExtractDataPlane(dp, "one")
			require.NoError(t, err)
			assert.Equal(t, nothing, extracted)
		})
	}
}

func managed(manager, subresource string, operation metav1.ManagedFieldsOperationType, fields string) metav1.ManagedFieldsEntry {
	entry := metav1.ManagedFieldsEntry{
		Manager: manager, Operation: operation, Subresource: subresource,
		APIVersion: "openchoreo.dev/v1alpha1", FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{},
	}
	if err := entry.FieldsV1.UnmarshalJSON([]byte(fields)); err != nil {
		panic(err)
	}
	return entry
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

// From client-go 0.35 on, an informer never syncs on a fake that doesn't declare that it
// can't stream lists.
func TestInformerOnFakeSyncsAndFollows(t *testing.T) {
	for name, client := range map[string]*fake.Clientset{
		"NewClientset":       fake.NewClientset(newDataPlane("prod")),
		"NewSimpleClientset": fake.NewSimpleClientset(newDataPlane("prod")),
	} {
		t.Run(name, func(t *testing.T) {
			factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
			dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
			seen := make(chan string, 10)
			_, err := dataPlanes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
				AddFunc: func(obj any) { seen <- obj.(*openchoreov1alpha1.DataPlane).Name },
			})
			require.NoError(t, err)

			stop := make(chan struct{})
			factory.Start(stop)
			defer factory.Shutdown()
			defer close(stop)
			synced := make(chan struct{})
			time.AfterFunc(25*time.Second, func() { close(synced) })
			for _, ok := range factory.WaitForCacheSync(synced) {
				require.True(t, ok, "the informer has not synced")
			}
			assert.Equal(t, "prod", receive(t, seen))

			_, err = client.OpenChoreoV1alpha1().DataPlanes("default").Create(t.Context(), newDataPlane("new"), metav1.CreateOptions{})
			require.NoError(t, err)
			assert.Equal(t, "new", receive(t, seen))
			all, err := dataPlanes.Lister().DataPlanes("default").List(labels.Everything())
			require.NoError(t, err)
			assert.Len(t, all, 2)
			_, err = dataPlanes.Lister().DataPlanes("default").Get("absent")
			assert.True(t, apierrors.IsNotFound(err), err)
		})
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

func TestInformerFactoryWithContext(t *testing.T) {
	start := func(client *fake.Clientset) (openchoreoinformers.SharedInformerFactory, context.CancelCauseFunc, context.Context) {
		ctx, cancel := context.WithCancelCause(t.Context())
		factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
		factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
		factory.StartWithContext(ctx)
		return factory, cancel, ctx
	}

	t.Run("syncs and stops with the context", func(t *testing.T) {
		factory, cancel, ctx := start(fake.NewClientset(newDataPlane("prod")))
		synced := factory.WaitForCacheSyncWithContext(ctx)
		require.NoError(t, synced.AsError())
		assert.Equal(t, map[reflect.Type]bool{reflect.TypeFor[*openchoreov1alpha1.DataPlane](): true}, synced.Synced)
		cancel(nil)
		factory.Shutdown() // waits for the informers
	})

	t.Run("an error tells what hasn't synced and why", func(t *testing.T) {
		client := fake.NewClientset()
		client.PrependReactor("list", "dataplanes", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("refused")
		})
		factory, cancel, ctx := start(client)
		defer factory.Shutdown()
		cause := errors.New("shutting down")
		cancel(cause)
		err := factory.WaitForCacheSyncWithContext(ctx).AsError()
		require.ErrorIs(t, err, cause)
		assert.ErrorContains(t, err, "*v1alpha1.DataPlane")
	})
}

// controller-runtime and apimachinery 0.34 need these methods, which only generators from
// 0.34 on write.
func TestApplyConfigurationHasTheMethodsOfLaterGenerators(t *testing.T) {
	var _ interface{ IsApplyConfiguration() } = openchoreoapply.DataPlane("", "")
	prod := openchoreoapply.DataPlane("prod", "default")
	assert.Equal(t, "prod", *prod.GetName())
	assert.Equal(t, "default", *prod.GetNamespace())
	assert.Equal(t, "DataPlane", *prod.GetKind())
	assert.Equal(t, "openchoreo.dev/v1alpha1", *prod.GetAPIVersion())
	assert.Nil(t, (&openchoreoapply.DataPlaneApplyConfiguration{}).GetNamespace())

	var _ interface{ IsApplyConfiguration() } = openchoreoapply.ClusterDataPlane("")
	cluster := openchoreoapply.ClusterDataPlane("default")
	assert.Equal(t, "default", *cluster.GetName())
	assert.Nil(t, cluster.GetNamespace())
	assert.Equal(t, "ClusterDataPlane", *cluster.GetKind())
	assert.Equal(t, "openchoreo.dev/v1alpha1", *cluster.GetAPIVersion())
}

func TestLoggersShowNoSecretOfAnApplyConfiguration(t *testing.T) {
	prod := openchoreoapply.DataPlane("prod", "default").WithSpec(openchoreoapply.DataPlaneSpec().
		WithKubernetesCluster(openchoreoapply.KubernetesClusterSpec().
			WithCredentials(openchoreoapply.APIServerCredentials().WithClientKey("hunter2"))))
	for name, value := range map[string]any{
		"pointer": prod, "value": *prod, "group": slog.GroupValue(slog.Any("x", prod)), "empty": &openchoreoapply.DataPlaneApplyConfiguration{},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			slog.New(slog.NewJSONHandler(&out, nil)).Info("applying", "value", value)
			slog.New(slog.NewTextHandler(&out, nil)).Info("applying", "value", value)
			if name != "empty" {
				assert.Contains(t, out.String(), "prod")
			}
			assert.NotContains(t, out.String(), "hunter2")
			assert.NotContains(t, out.String(), "panic")
		})
	}
	logged, err := json.Marshal(prod.MarshalLog())
	require.NoError(t, err)
	assert.JSONEq(t, `{"namespace":"default","name":"prod"}`, string(logged))
}

func readyStatus(status metav1.ConditionStatus) *openchoreoapply.DataPlaneApplyConfiguration {
	return openchoreoapply.DataPlane("prod", "default").WithStatus(openchoreoapply.DataPlaneStatus().
		WithConditions(condition(openchoreov1alpha1.DataPlaneConditionReady, status)))
}

func condition(conditionType string, status metav1.ConditionStatus) *applymetav1.ConditionApplyConfiguration {
	return applymetav1.Condition().WithType(conditionType).WithStatus(status).
		WithReason("Tested").WithMessage("").WithLastTransitionTime(metav1.Unix(0, 0))
}

func receive(t *testing.T, from <-chan string) string {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(10 * time.Second):
		t.Fatal("nothing received within 10 s")
		return ""
	}
}
