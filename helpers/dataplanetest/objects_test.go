// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func configMap(namespace, name string, edits ...func(*corev1.ConfigMap)) *corev1.ConfigMap {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	for _, edit := range edits {
		edit(object)
	}
	return object
}

func labelled(object *corev1.ConfigMap)  { object.Labels = map[string]string{"app": "shop"} }
func withState(object *corev1.ConfigMap) { object.Data = map[string]string{"state": "changed"} }

func widget(namespace, name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Widget",
		"metadata": map[string]any{"namespace": namespace, "name": name},
		"spec":     map[string]any{"replicas": 3}, // an int, which DeepCopy refuses
	}}
}

var (
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	widgets    = schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "widgets"}
)

// directly returns a cluster that is served by a handler.
func directly(t *testing.T, handler http.Handler) *remote.Cluster {
	t.Helper()
	server := newServer(t, handler)
	return clusterOf(t, dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
}

// throughAGateway returns a cluster whose agent is a handler.
func throughAGateway(t *testing.T, handler http.Handler) *remote.Cluster {
	t.Helper()
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	gateway.Connect("prod", handler)
	return clusterOf(t, dataplanetest.DataPlane("default", "prod", dataplanetest.V1),
		remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())})
}

func clusterOf(t *testing.T, dp *v1alpha1.DataPlane, options remote.Options) *remote.Cluster {
	t.Helper()
	cluster, err := remote.NewCluster(dp, options)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster
}

func kubernetesOf(t *testing.T, cluster *remote.Cluster) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	require.NoError(t, err)
	return client
}

func dynamicOf(t *testing.T, cluster *remote.Cluster) dynamic.Interface {
	t.Helper()
	client, err := dynamic.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	require.NoError(t, err)
	return client
}

func TestObjectsAreSelected(t *testing.T) {
	t.Parallel()
	gateway, mesh := widget("apps", "edge"), widget("apps", "inner")
	gateway.SetKind("Gateway") // whose plural isn't gatewaies
	mesh.SetKind("Mesh")       // whose plural isn't meshs
	client := dynamicOf(t, directly(t, dataplanetest.NewObjects(gateway, mesh, widget("apps", "w"),
		configMap("b", "two"), configMap("b", "one", labelled), configMap("a", "three", labelled),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps"}},
		dataplanetest.DataPlane("default", "prod"),
	)))
	for name, test := range map[string]struct {
		resource  schema.GroupVersionResource
		namespace string
		options   metav1.ListOptions
		want      []string
	}{
		"of all namespaces":    {resource: configMaps, want: []string{"three", "one", "two"}},
		"of a namespace":       {resource: configMaps, namespace: "b", want: []string{"one", "two"}},
		"by labels":            {resource: configMaps, options: metav1.ListOptions{LabelSelector: "app in (shop)"}, want: []string{"three", "one"}},
		"by a name":            {resource: configMaps, options: metav1.ListOptions{FieldSelector: "metadata.name=one"}, want: []string{"one"}},
		"by the namespace":     {resource: configMaps, options: metav1.ListOptions{FieldSelector: "metadata.namespace!=b"}, want: []string{"three"}},
		"without a namespace":  {resource: configMaps.GroupVersion().WithResource("namespaces"), want: []string{"apps"}},
		"of a built-in kind":   {resource: configMaps.GroupVersion().WithResource("endpoints"), want: []string{}},
		"of DataPlanes":        {resource: schema.GroupVersionResource{Group: "openchoreo.dev", Version: "v1alpha1", Resource: "dataplanes"}, want: []string{"prod"}},
		"of a custom kind":     {resource: widgets, namespace: "apps", want: []string{"w"}},
		"of a regular plural":  {resource: widgets.GroupVersion().WithResource("gateways"), want: []string{"edge"}},
		"of a plural in es":    {resource: widgets.GroupVersion().WithResource("meshes"), want: []string{"inner"}},
		"of another namespace": {resource: widgets, namespace: "b", want: []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := client.Resource(test.resource).Namespace(test.namespace).List(t.Context(), test.options)
			require.NoError(t, err)
			got := []string{}
			for _, item := range list.Items {
				got = append(got, item.GetName())
				read, err := client.Resource(test.resource).Namespace(item.GetNamespace()).Get(t.Context(), item.GetName(), metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, &item, read, "as Get returns it, with its kind")
				assert.NotEmpty(t, read.GetUID())
				assert.NotZero(t, read.GetCreationTimestamp())
			}
			assert.Equal(t, test.want, got)
		})
	}
}

func TestObjectsSayWhatTheyDoNotServe(t *testing.T) {
	t.Parallel()
	objects := dataplanetest.NewObjects(configMap("apps", "one"))
	cluster := directly(t, objects)
	client, untyped := kubernetesOf(t, cluster), dynamicOf(t, cluster)
	partial, err := metadata.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	require.NoError(t, err)
	in := client.CoreV1().ConfigMaps("apps")
	ctx, initialEvents := t.Context(), true
	for name, test := range map[string]struct {
		ask  func() error
		code int32
		says string
	}{
		"an object that doesn't exist": {
			func() error { _, err := in.Get(ctx, "missing", metav1.GetOptions{}); return err },
			404, `configmaps "missing" not found`,
		},
		"an unknown resource": {
			func() error { _, err := untyped.Resource(widgets).List(ctx, metav1.ListOptions{}); return err },
			404, "dataplanetest.Objects doesn't serve the resource example.com/v1, Resource=widgets before Set of such an object",
		},
		"discovery": {
			func() error { _, err := client.Discovery().ServerGroups(); return err },
			501, "dataplanetest.Objects doesn't serve the path /api",
		},
		"a subresource": {func() error {
			return client.CoreV1().Pods("apps").GetLogs("one", &corev1.PodLogOptions{}).Do(ctx).Error()
		}, 501, "dataplanetest.Objects doesn't serve the path /api/v1/namespaces/apps/pods/one/log"},
		"a creation": {func() error {
			_, err := in.Create(ctx, configMap("apps", "two"), metav1.CreateOptions{})
			return err
		}, 405, "dataplanetest.Objects doesn't serve POST; call Set and Delete"},
		"a deletion": {
			func() error { return in.Delete(ctx, "one", metav1.DeleteOptions{}) },
			405, "dataplanetest.Objects doesn't serve DELETE; call Set and Delete",
		},
		"metadata alone": {
			func() error { _, err := partial.Resource(configMaps).List(ctx, metav1.ListOptions{}); return err },
			406, "dataplanetest.Objects doesn't serve application/",
		},
		"another field": {func() error {
			_, err := in.List(ctx, metav1.ListOptions{FieldSelector: "data.state=changed"})
			return err
		}, 400, "field label not supported: data.state"},
		"a malformed version of a list": {
			func() error { _, err := in.List(ctx, metav1.ListOptions{ResourceVersion: "x"}); return err },
			400, "invalid resource version",
		},
		"a malformed version": {
			func() error { _, err := in.Watch(ctx, metav1.ListOptions{ResourceVersion: "x"}); return err },
			400, "invalid resource version",
		},
		"a version of earlier Objects": {
			func() error {
				watcher, err := in.Watch(ctx, metav1.ListOptions{ResourceVersion: "7"})
				require.NoError(t, err, "as from an API server, the error is an event")
				defer watcher.Stop()
				return apierrors.FromObject(receive(t, watcher.ResultChan()).Object)
			},
			410, "too old resource version: 7",
		},
		"a version of later Objects": {func() error {
			_, err := in.Watch(ctx, metav1.ListOptions{ResourceVersion: "9000000000000000"})
			return err
		}, 504, "Too large resource version"},
		"a streamed list": {func() error {
			_, err := in.Watch(ctx, metav1.ListOptions{SendInitialEvents: &initialEvents, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
			return err
		}, 422, "dataplanetest.Objects doesn't serve sendInitialEvents=true"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.ask()
			status := apierrors.APIStatus(nil)
			require.ErrorAs(t, err, &status)
			assert.Equal(t, test.code, status.Status().Code)
			assert.ErrorContains(t, err, test.says)
		})
	}
}

func TestProbeAndDiscoveryOfTheVersion(t *testing.T) {
	t.Parallel()
	cluster := directly(t, dataplanetest.NewObjects())
	require.NoError(t, cluster.Probe(t.Context()))
	version, err := kubernetesOf(t, cluster).Discovery().ServerVersion()
	require.NoError(t, err)
	assert.Equal(t, "v1.33.1", version.String())
}

func TestACustomKindStaysKnownWithoutObjects(t *testing.T) {
	t.Parallel()
	objects := dataplanetest.NewObjects(widget("apps", "w"))
	objects.Delete(widget("apps", "w"))
	list, err := dynamicOf(t, directly(t, objects)).Resource(widgets).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, list.Items)
}

func TestSetCopiesItsObjects(t *testing.T) {
	t.Parallel()
	sent := configMap("apps", "one", withState)
	objects := dataplanetest.NewObjects(sent)
	require.Equal(t, configMap("apps", "one", withState), sent)
	sent.Data["state"] = "mine"
	client := kubernetesOf(t, directly(t, objects)).CoreV1().ConfigMaps("apps")
	first, err := client.Get(t.Context(), "one", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "changed", first.Data["state"])

	objects.Set(sent)
	second, err := client.Get(t.Context(), "one", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "mine", second.Data["state"])
	assert.Equal(t, first.UID, second.UID)
	assert.Equal(t, first.CreationTimestamp, second.CreationTimestamp)
	assert.NotEqual(t, first.ResourceVersion, second.ResourceVersion)
}

func TestObjectsPanicWhereATestIsWrong(t *testing.T) {
	t.Parallel()
	objects := dataplanetest.NewObjects()
	assert.PanicsWithValue(t, "ConfigMap needs a name", func() { objects.Set(configMap("apps", "")) })
	assert.PanicsWithValue(t, "ConfigMapList is a list: pass its items", func() { objects.Set(&corev1.ConfigMapList{}) })
	assert.PanicsWithValue(t, "*unstructured.Unstructured needs an apiVersion and a kind", func() { objects.Set(&unstructured.Unstructured{}) })
	assert.PanicsWithValue(t, "ConfigMap apps/one isn't stored", func() { objects.Delete(configMap("apps", "one")) })
}
