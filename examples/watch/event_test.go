// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
