// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

func (s *space) typedInformer() cache.SharedIndexInformer {
	return openchoreoinformers.NewSharedInformerFactoryWithOptions(s.openchoreo, 0, openchoreoinformers.WithNamespace(s.namespace)).
		OpenChoreo().V1alpha1().DataPlanes().Informer()
}

func (s *space) dynamicInformer() cache.SharedIndexInformer {
	return dynamicinformer.NewFilteredDynamicSharedInformerFactory(s.dynamic, 0, s.namespace, nil).
		ForResource(openchoreov1alpha1.SchemeGroupVersion.WithResource("dataplanes")).Informer()
}

func (s *space) metadataInformer(t *testing.T) cache.SharedIndexInformer {
	t.Helper()
	client, err := metadata.NewForConfig(s.Config())
	require.NoError(t, err)
	return metadatainformer.NewFilteredSharedInformerFactory(client, 0, s.namespace, nil).
		ForResource(openchoreov1alpha1.SchemeGroupVersion.WithResource("dataplanes")).Informer()
}

// cached waits until an informer has the DataPlane prod with a resource version, and returns it.
func (s *space) cached(t *testing.T, dataPlanes cache.SharedIndexInformer, resourceVersion string) metav1.Object {
	t.Helper()
	var object metav1.Object
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		obj, found, err := dataPlanes.GetStore().GetByKey(s.namespace + "/prod")
		require.NoError(c, err)
		require.True(c, found)
		object, err = meta.Accessor(obj)
		require.NoError(c, err)
		require.Equal(c, resourceVersion, object.GetResourceVersion())
	}, eventually, tick)
	return object
}

// runInformer runs an informer until the test ends.
func runInformer(t *testing.T, dataPlanes cache.SharedIndexInformer, transform cache.TransformFunc) {
	t.Helper()
	require.NoError(t, dataPlanes.SetTransform(transform))
	ended := make(chan struct{})
	go func() { defer close(ended); dataPlanes.Run(t.Context().Done()) }()
	t.Cleanup(func() { <-ended })
}

func TestStripManagedFieldsInInformers(t *testing.T) {
	for name, newInformer := range map[string]func(*space) cache.SharedIndexInformer{
		"typed": (*space).typedInformer, "dynamic": (*space).dynamicInformer,
	} {
		t.Run(name, func(t *testing.T) {
			s := shared.space(t)
			listed := s.create(t, behaviours.NewDataPlane("prod"))
			dataPlanes := newInformer(s)
			runInformer(t, dataPlanes, informer.StripManagedFields)
			assert.Empty(t, s.cached(t, dataPlanes, listed.ResourceVersion).GetManagedFields())

			watched := s.setStatus(t, "prod", behaviours.SetConditions)
			require.NotEmpty(t, watched.ManagedFields, "the API server has them")
			got := s.cached(t, dataPlanes, watched.ResourceVersion)
			assert.Empty(t, got.GetManagedFields())
			have, err := runtime.DefaultUnstructuredConverter.ToUnstructured(got)
			require.NoError(t, err)
			want := s.stored(t, "prod")
			delete(at(want, "metadata"), "managedFields")
			for _, field := range []string{"metadata", "spec", "status"} {
				assert.Equal(t, want[field], have[field], "all other fields are kept")
			}
		})
	}
}

// applySecrets makes the DataPlane prod by kubectl apply, which keeps a copy of it in an
// annotation, and returns it with its client key.
func (s *space) applySecrets(t *testing.T) (stored *openchoreov1alpha1.DataPlane, key string) {
	t.Helper()
	applied := behaviours.NewDataPlane("prod")
	applied.TypeMeta = metav1.TypeMeta{APIVersion: openchoreov1alpha1.SchemeGroupVersion.String(), Kind: "DataPlane"}
	applied.Namespace = s.namespace
	applied.Spec.KubernetesCluster.Credentials = credentialsOf(addUser(t, shared, "agent"))
	applied.Spec.Observer = &openchoreov1alpha1.ObserverAPI{URL: "https://admin:hunter2@observer.example.com"}
	applied.Spec.Observer.Authentication.BasicAuth = openchoreov1alpha1.BasicAuthCredentials{Username: "admin", Password: "hunter2"}
	data, err := json.Marshal(applied)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "dataplane.json")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	s.kubectl(t, "apply", "--filename", file)
	stored = s.get(t, "prod")
	require.Equal(t, applied.Spec, stored.Spec)
	key = applied.Spec.KubernetesCluster.Credentials.ClientKey
	require.Contains(t, stored.Annotations[corev1.LastAppliedConfigAnnotation], key)
	require.NotEmpty(t, stored.ManagedFields)
	return stored, key
}

func TestDropSecretsInInformers(t *testing.T) {
	for name, newInformer := range map[string]func(*testing.T, *space) cache.SharedIndexInformer{
		"typed":    func(_ *testing.T, s *space) cache.SharedIndexInformer { return s.typedInformer() },
		"dynamic":  func(_ *testing.T, s *space) cache.SharedIndexInformer { return s.dynamicInformer() },
		"metadata": func(t *testing.T, s *space) cache.SharedIndexInformer { return s.metadataInformer(t) },
	} {
		t.Run(name, func(t *testing.T) {
			s := shared.space(t)
			stored, key := s.applySecrets(t)
			dataPlanes := newInformer(t, s)
			runInformer(t, dataPlanes, informer.DropSecrets)
			requireNone := func(resourceVersion string) {
				t.Helper()
				object := s.cached(t, dataPlanes, resourceVersion)
				data, err := json.Marshal(object)
				require.NoError(t, err)
				assert.Zero(t, bytes.Count(data, []byte(key)), "client keys in the cache")
				assert.Zero(t, bytes.Count(data, []byte("hunter2")), "passwords in the cache")
				assert.Equal(t, openchoreov1alpha1.Redacted, object.GetAnnotations()[corev1.LastAppliedConfigAnnotation])
				assert.Empty(t, object.GetManagedFields())
			}
			requireNone(stored.ResourceVersion)
			requireNone(s.setStatus(t, "prod", behaviours.SetConditions).ResourceVersion)
		})
	}
}

func TestDataPlaneWithoutSecrets(t *testing.T) {
	s := shared.space(t)
	stored, _ := s.applySecrets(t)
	dataPlanes := s.typedInformer()
	runInformer(t, dataPlanes, informer.DropSecrets)
	cached := func(resourceVersion string) *openchoreov1alpha1.DataPlane {
		t.Helper()
		dp := s.cached(t, dataPlanes, resourceVersion).(*openchoreov1alpha1.DataPlane)
		want := stored.Redacted().Spec
		creds := &want.KubernetesCluster.Credentials
		creds.CACert, creds.ClientCert = openchoreov1alpha1.Redacted, openchoreov1alpha1.Redacted
		assert.Equal(t, want, dp.Spec, "all other fields are kept")
		return dp
	}
	dropped := cached(stored.ResourceVersion)

	edited := dropped.DeepCopy()
	edited.Spec.Registry.Prefix = "docker.io/other"
	for name, use := range map[string]func() error{
		"RESTConfigFor":     func() error { _, err := helpers.RESTConfigFor(dropped); return err },
		"KubeconfigFor":     func() error { _, err := helpers.KubeconfigFor(dropped); return err },
		"MergePatch":        func() error { _, err := helpers.MergePatch(dropped, edited); return err },
		"MergePatch before": func() error { _, err := helpers.MergePatch(dropped, stored); return err },
		"MergePatch after":  func() error { _, err := helpers.MergePatch(stored, dropped); return err },
	} {
		require.ErrorIs(t, use(), helpers.ErrSecretsDropped, name)
	}
	config, err := helpers.RESTConfigFor(stored)
	require.NoError(t, err)
	client, err := discovery.NewDiscoveryClientForConfig(config)
	require.NoError(t, err)
	_, err = client.ServerVersion()
	require.NoError(t, err, "the DataPlane with its secrets can be connected to")

	before := dropped.DeepCopy()
	patched, err := s.patchConditions(t, dropped,
		metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Tested"})
	require.NoError(t, err)
	behaviours.AssertSame(t, before, dropped, "the object in the cache is unchanged")
	assert.True(t, helpers.IsReady(patched))
	assert.Equal(t, stored.Spec, patched.Spec)
	assert.Equal(t, stored.Annotations, patched.Annotations)
	behaviours.AssertSame(t, patched, s.get(t, "prod"))
	assert.True(t, helpers.IsReady(cached(patched.ResourceVersion)))
}
