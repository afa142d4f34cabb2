// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// events returns what an informer reports, such as "added apps/one", until the test ends.
func events(t *testing.T, informer cache.SharedIndexInformer) <-chan string {
	t.Helper()
	seen := make(chan string, 1000)
	report := func(what string, obj any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj); assert.NoError(t, err) {
			seen <- what + " " + key
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { report("added", obj) },
		UpdateFunc: func(before, after any) {
			if before.(metav1.Object).GetResourceVersion() != after.(metav1.Object).GetResourceVersion() {
				report("updated", after)
			}
		},
		DeleteFunc: func(obj any) { report("deleted", obj) },
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		informer.RunWithContext(ctx)
	}()
	t.Cleanup(func() { stop(); <-ended })
	return seen
}

func TestInformersFollowObjects(t *testing.T) {
	t.Parallel()
	for reached, connect := range map[string]func(*testing.T, http.Handler) *remote.Cluster{
		"directly": directly, "through a gateway": throughAGateway,
	} {
		for name, test := range map[string]struct {
			informer func(*testing.T, *remote.Cluster) cache.SharedIndexInformer
			one, two runtime.Object
		}{
			"a typed informer": {
				func(t *testing.T, cluster *remote.Cluster) cache.SharedIndexInformer {
					return informers.NewSharedInformerFactory(kubernetesOf(t, cluster), 0).Core().V1().ConfigMaps().Informer()
				}, configMap("apps", "one"), configMap("apps", "two"),
			},
			"a dynamic informer": {
				func(t *testing.T, cluster *remote.Cluster) cache.SharedIndexInformer {
					return dynamicinformer.NewDynamicSharedInformerFactory(dynamicOf(t, cluster), 0).ForResource(widgets).Informer()
				}, widget("apps", "one"), widget("apps", "two"),
			},
		} {
			t.Run(name+" "+reached, func(t *testing.T) {
				t.Parallel()
				objects := dataplanetest.NewObjects(test.one)
				seen := events(t, test.informer(t, connect(t, objects)))
				require.Equal(t, "added apps/one", receive(t, seen))
				objects.Set(test.two, test.one)
				objects.Delete(test.two)
				for _, want := range []string{"added apps/two", "updated apps/one", "deleted apps/two"} {
					require.Equal(t, want, receive(t, seen))
				}
			})
		}
	}
}

// A watch would continue from a resource version of other objects.
func TestAnInformerListsAgainAfterTheObjectsWereReplaced(t *testing.T) {
	t.Parallel()
	server := newServer(t, dataplanetest.NewObjects(configMap("apps", "one"), configMap("apps", "two")))
	cluster := clusterOf(t, dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
	seen := events(t, informers.NewSharedInformerFactory(kubernetesOf(t, cluster), 0).Core().V1().ConfigMaps().Informer())
	receive(t, seen)
	receive(t, seen)
	server.SetHandler(dataplanetest.NewObjects(configMap("apps", "two"), configMap("apps", "three")))
	server.CutConnections()
	got := []string{receive(t, seen), receive(t, seen), receive(t, seen)}
	assert.ElementsMatch(t, []string{"deleted apps/one", "updated apps/two", "added apps/three"}, got)
}

func TestAWatchLosesNoEvent(t *testing.T) {
	t.Parallel()
	objects := dataplanetest.NewObjects(configMap("apps", "one", labelled))
	client := kubernetesOf(t, directly(t, objects)).CoreV1().ConfigMaps("apps")
	list, err := client.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)

	objects.Set(configMap("apps", "two", labelled), configMap("other", "three", labelled), widget("apps", "four"))
	objects.Set(configMap("apps", "two", labelled, withState))
	objects.Set(configMap("apps", "two"))
	objects.Delete(configMap("apps", "one"))
	second := int64(1)
	watcher, err := client.Watch(t.Context(), metav1.ListOptions{
		ResourceVersion: list.ResourceVersion, LabelSelector: "app=shop", TimeoutSeconds: &second,
	})
	require.NoError(t, err)
	var got []string
	last := list.ResourceVersion
	for event := range watcher.ResultChan() {
		object, isConfigMap := event.Object.(*corev1.ConfigMap)
		require.True(t, isConfigMap, "%v", event.Object)
		got = append(got, string(event.Type)+" "+object.Name+" "+object.Data["state"])
		assert.Greater(t, object.ResourceVersion, last, "versions grow; all have as many digits")
		last = object.ResourceVersion
	}
	assert.Equal(t, []string{"ADDED two ", "MODIFIED two changed", "DELETED two changed", "DELETED one "}, got,
		"until timeoutSeconds had passed")
}

func TestAWatchWithoutAVersionBeginsWithTheObjects(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"", "0"} {
		objects := dataplanetest.NewObjects(configMap("apps", "one"))
		watcher, err := dynamicOf(t, directly(t, objects)).Resource(configMaps).Watch(t.Context(), metav1.ListOptions{ResourceVersion: version})
		require.NoError(t, err)
		for _, want := range []watch.EventType{watch.Added, watch.Deleted} {
			event := receive(t, watcher.ResultChan())
			assert.Equal(t, want, event.Type)
			assert.Equal(t, "ConfigMap", event.Object.GetObjectKind().GroupVersionKind().Kind)
			if want == watch.Added {
				objects.Delete(configMap("apps", "one"))
			}
		}
		watcher.Stop()
	}
}

// All calls run at once, for the race detector.
func TestObjectsChangeWhileInformersRun(t *testing.T) {
	t.Parallel()
	objects := dataplanetest.NewObjects()
	client := kubernetesOf(t, directly(t, objects))
	informer := informers.NewSharedInformerFactory(client, 0).Core().V1().ConfigMaps().Informer()
	events(t, informer)
	const count = 50
	names := make(chan string, count)
	for i := range count {
		go func() {
			name := "object-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
			objects.Set(configMap("apps", name), configMap("apps", name, labelled))
			if i%2 == 0 {
				objects.Delete(configMap("apps", name))
			}
			names <- name
		}()
	}
	for range count {
		receive(t, names)
	}
	list, err := client.CoreV1().ConfigMaps("").List(t.Context(), metav1.ListOptions{LabelSelector: "app=shop"})
	require.NoError(t, err)
	require.Len(t, list.Items, count/2)
	require.Eventually(t, func() bool {
		return informer.LastSyncResourceVersion() == list.ResourceVersion && len(informer.GetStore().ListKeys()) == count/2
	}, time.Minute, time.Millisecond)
}
