// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// watch starts a watch that ends with the test.
func (s *space) watch(t *testing.T, options metav1.ListOptions) watch.Interface {
	t.Helper()
	watcher, err := s.typed.Watch(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(watcher.Stop)
	return watcher
}

// nextDataPlane returns the next event of a watch, which must be about a DataPlane.
func nextDataPlane(t *testing.T, watcher watch.Interface) (watch.EventType, *openchoreov1alpha1.DataPlane) {
	t.Helper()
	event := next(t, watcher)
	require.IsType(t, &openchoreov1alpha1.DataPlane{}, event.Object, "%s", event.Type)
	return event.Type, event.Object.(*openchoreov1alpha1.DataPlane)
}

// No API server has changes from before the CRD was installed.
func testWatchExpired(t *testing.T, s *space) {
	requireExpired(t, s, "1")
}

func requireExpired(t *testing.T, s *space, resourceVersion string) {
	t.Helper()
	event := next(t, s.watch(t, metav1.ListOptions{ResourceVersion: resourceVersion}))
	require.Equal(t, watch.Error, event.Type)
	err := apierrors.FromObject(event.Object)
	require.True(t, apierrors.IsResourceExpired(err), "%v", err)
	require.ErrorContains(t, err, "too old resource version")
}
