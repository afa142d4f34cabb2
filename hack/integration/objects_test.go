// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// The same changes cause the same events, since any version and with any selectors.
func TestObjectsSendTheEventsOfTheAPIServer(t *testing.T) {
	t.Parallel()
	namespace := shared.space(t).namespace
	objects := dataplanetest.NewObjects()
	server := dataplanetest.NewServer(objects)
	t.Cleanup(server.Close)
	cluster, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod", server.As("alice")), remote.Options{})
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	fake, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
	require.NoError(t, err)

	stored := shared.kubernetes.CoreV1().ConfigMaps(namespace)
	set := func(name, app, state string) {
		object := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": app}},
			Data:       map[string]string{"state": state},
		}
		objects.Set(object)
		_, err := stored.Update(t.Context(), object, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			_, err = stored.Create(t.Context(), object, metav1.CreateOptions{})
		}
		require.NoError(t, err)
	}
	remove := func(name string) {
		objects.Delete(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
		require.NoError(t, stored.Delete(t.Context(), name, metav1.DeleteOptions{}))
	}
	versions := func() map[kubernetes.Interface]string {
		current := map[kubernetes.Interface]string{}
		for _, client := range []kubernetes.Interface{fake, shared.kubernetes} {
			list, err := client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err)
			current[client] = list.ResourceVersion
		}
		return current
	}
	first := versions()
	set("a", "shop", "1")
	set("b", "blog", "1")
	set("a", "shop", "2")
	set("a", "blog", "3")
	set("b", "shop", "2")
	middle := versions()
	remove("b")
	set("a", "shop", "4")
	remove("a")
	set("b", "shop", "3")
	set("end", "shop", "1")

	for since, version := range map[string]map[kubernetes.Interface]string{"the first": first, "the middle": middle, "no": {}} {
		for _, options := range []metav1.ListOptions{
			{},
			{LabelSelector: "app=shop"},
			{LabelSelector: "app!=blog"},
			{FieldSelector: "metadata.name!=a"},
			{LabelSelector: "app=shop", FieldSelector: "metadata.name!=b"},
		} {
			events := func(client kubernetes.Interface) (seen []string) {
				options.ResourceVersion = version[client]
				watcher, err := client.CoreV1().ConfigMaps(namespace).Watch(t.Context(), options)
				require.NoError(t, err)
				defer watcher.Stop()
				for {
					event := next(t, watcher)
					require.IsType(t, &corev1.ConfigMap{}, event.Object)
					object := event.Object.(*corev1.ConfigMap)
					seen = append(seen, fmt.Sprintln(event.Type, object.Name, object.Labels, object.Data))
					if object.Name == "end" {
						return seen
					}
				}
			}
			assert.Equal(t, events(shared.kubernetes), events(fake), "since %s version, %+v", since, options)
		}
	}
}
