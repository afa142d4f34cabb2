// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func TestWriters(t *testing.T) {
	t.Parallel()
	at := func(seconds int64) *metav1.Time { return &metav1.Time{Time: time.Unix(seconds, 0)} }
	entry := func(manager string, time *metav1.Time) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationApply, Time: time}
	}
	before := []metav1.ManagedFieldsEntry{entry("a", at(1)), entry("b", at(2)), entry("c", nil)}
	for name, test := range map[string]struct {
		after []metav1.ManagedFieldsEntry
		want  []string
	}{
		"one manager has written":            {[]metav1.ManagedFieldsEntry{entry("a", at(3)), entry("b", at(2)), entry("c", nil)}, []string{"a"}},
		"a new manager has written":          {append(before[:3:3], entry("d", at(2))), []string{"d"}},
		"no entry has changed":               {before, nil},
		"a manager was added without a time": {append(before[:3:3], entry("d", nil)), nil},
		"a manager has lost its fields":      {before[1:], nil},
		"two managers have written":          {[]metav1.ManagedFieldsEntry{entry("a", at(3)), entry("b", at(4))}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := func(fields []metav1.ManagedFieldsEntry) *openchoreov1alpha1.DataPlane {
				return &openchoreov1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{ManagedFields: fields}}
			}
			assert.Equal(t, test.want, writers(object(before), object(test.after)))
		})
	}
}

func TestResyncsAndReplacements(t *testing.T) {
	t.Parallel()
	var events []watch.EventType
	w := &watcher{print: func(event Event) error { events = append(events, event.Type); return nil }}
	handler := w.handler(t.Context())
	dp := newDataPlane("first")
	dp.UID = "1"

	handler.OnUpdate(dp, dp)
	assert.Empty(t, events, "a resync")

	recreated := dp.DeepCopy()
	recreated.UID = "2"
	handler.OnUpdate(dp, recreated)
	assert.Equal(t, []watch.EventType{watch.Deleted, watch.Added}, events)
}

// After a new list, an informer can't tell the writes in between.
func TestRemovalAmongSeveralWritesNamesNoManager(t *testing.T) {
	t.Parallel()
	at := func(seconds int64) []metav1.ManagedFieldsEntry {
		return []metav1.ManagedFieldsEntry{{Manager: "team", Time: &metav1.Time{Time: time.Unix(seconds, 0)}}}
	}
	before := newDataPlane("first")
	before.Spec.Registry.SecretRef, before.ManagedFields = "pull", at(1)
	after := newDataPlane("first")
	after.ManagedFields = at(2)
	for lists, want := range map[int32][]string{1: {"team"}, 2: nil} {
		var got []Change
		w := &watcher{print: func(event Event) error { got = event.Changes; return nil }}
		w.lists.Store(lists)
		w.handler(t.Context()).OnUpdate(before, after)
		assert.Equal(t, []Change{{".spec.registry.secretRef", Removed, want}}, got)
	}
}

func TestSecretsAreHiddenAndSeenToChange(t *testing.T) {
	t.Parallel()
	transform, err := hideSecrets()
	require.NoError(t, err)
	hidden := func(key string) *openchoreov1alpha1.DataPlane {
		dp := newDataPlane("first")
		dp.Spec.KubernetesCluster.Credentials.ClientKey = key
		dp.Annotations = map[string]string{"copy": key}
		dp.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "somebody"}}
		obj, err := transform(dp)
		require.NoError(t, err)
		return obj.(*openchoreov1alpha1.DataPlane)
	}
	a, same, b := hidden("a key"), hidden("a key"), hidden("another key")
	assert.Equal(t, a, same)
	assert.NotEqual(t, a.Spec.KubernetesCluster.Credentials.ClientKey, b.Spec.KubernetesCluster.Credentials.ClientKey)
	assert.NotEqual(t, a.Annotations, b.Annotations)
	assert.NotEmpty(t, a.ManagedFields)
	assert.Empty(t, hidden("").Spec.KubernetesCluster.Credentials.ClientKey, "an empty field stays empty")

	a.Spec.KubernetesCluster.Credentials.ClientKey = ""
	a.Spec.Observer.Authentication.BasicAuth.Password = ""
	want := newDataPlane("first")
	want.Spec.KubernetesCluster.Credentials.ClientKey = ""
	want.Spec.Observer.Authentication.BasicAuth.Password = ""
	assert.Equal(t, want.Spec, a.Spec, "other fields stay")
}

func TestTroubleIsPrintedOnce(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	trouble := &trouble{stderr: &stderr}
	trouble.over()
	trouble.is(syscall.ECONNREFUSED)
	trouble.is(syscall.ECONNREFUSED)
	trouble.is(apierrors.NewServiceUnavailable("starting"))
	trouble.over()
	trouble.over()
	trouble.is(errors.New("anything"))
	assert.Equal(t, "watch: interrupted, trying again: connection refused\n"+
		"watch: interrupted, trying again: starting\n"+
		"watch: resumed\n"+
		"watch: interrupted, trying again: anything\n", stderr.String())
}
