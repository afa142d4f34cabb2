// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package behaviours is a table of tests for how API servers treat DataPlanes and ClusterDataPlanes.
// The tests run against real API servers and against the fake of helpers/dataplanetest, so that the
// two can't drift apart. Only tests import it.
package behaviours

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
)

// Server is the server under test.
type Server struct {
	Kind
	// Client is the server's client. If the kind is cluster-scoped, the server has no objects of it.
	Client openchoreoclient.Interface
	// NewNamespace creates a namespace and returns its name. A cluster-scoped kind doesn't need it.
	NewNamespace func(testing.TB) string
	// AtomicConditions means that the CRD has the conditions as an atomic list, as OpenChoreo's of
	// DataPlane does, instead of a list that is merged by type.
	AtomicConditions bool
}

// Run tests each behaviour in a new space.
func Run(t *testing.T, server Server) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *space)
	}{
		{"create, get and list return what is stored", testCreateGetList},
		{"create replaces fields that the server sets", testCreateReplaces},
		{"create generates a name", testGenerateName},
		{"an absent object is not found, an existing object is not created again", testAbsentAndExisting},
		{"a request with a name that can't be in a path is not sent", testInvalidName},
		{"all requests except list and watch need a namespace", testNoNamespace},
		{"update replaces spec and metadata", testUpdate},
		{"update of a stale object conflicts", testStaleUpdate},
		{"update of a replaced object conflicts", testUpdateReplaced},
		{"update can't change fields that the server sets", testUpdateKeeps},
		{"merge patch changes the fields that it names", testMergePatch},
		{"JSON patch changes what it names if its tests hold", testJSONPatch},
		{"strategic merge patch is not supported", testStrategicMergePatch},
		{"a dry run changes nothing", testDryRun},
		{"delete removes the object if its preconditions hold", testDelete},
		{"delete waits for finalizers", testFinalizers},
		{"delete collection removes the selected objects", testDeleteCollection},
		{"delete collection leaves other namespaces alone", testDeleteCollectionOfNamespace},
		{"list selects by label and name", testSelectors},
		{"list selects a namespace", testNamespaceSelector},
		{"a cluster-scoped kind drops a namespace", testWithoutNamespaces},

		{"objects are stored as JSON", testStoredAsJSON},
		{"JSON patch changes what is stored", testJSONPatchOfStored},
		{"unknown fields are dropped", testUnknownFields},
		{"unknown fields that are stored are dropped by the next write", testStoredUnknownFields},
		{"a value of another type is refused, except in the part that a write doesn't change", testWrongTypes},
		{"a generated name has at most 63 characters", testGenerateNameIsCut},
		{"apply takes YAML", testApplyYAML},
		{"foreground and orphan deletions wait for the garbage collector", testPropagation},
		{"delete of a stale object conflicts", testDeletePreconditions},
		{"a request for an object of another name is refused", testOtherName},
		{"a request for an object of another namespace is refused", testOtherNamespace},
		{"a patch can't change the identity of an object", testOtherIdentity},
		{"invalid options are refused", testRefusedOptions},

		{"create drops the status", testCreateDropsStatus},
		{"update doesn't change the status", testUpdateLeavesStatus},
		{"status update changes only the status", testUpdateStatusLeavesRest},
		{"status patch changes only the status", testPatchStatus},
		{"stale status update conflicts", testStaleStatusUpdate},
		{"apply doesn't change the status", testApplyLeavesStatus},
		{"status apply changes only the status", testApplyStatusLeavesRest},
		{"generation counts changes of the spec", testGeneration},

		{"apply creates and changes", testApply},
		{"apply of another's field conflicts unless forced", testApplyConflict},
		{"apply of a stale object conflicts", testApplyStale},
		{"apply removes fields that it no longer names", testApplyRemoves},
		{"apply of empty labels, annotations or finalizers makes a new version each time", testApplyEmptyMetadata},
		{"apply records the time of its last change, even of a part that it doesn't write", testApplyTime},
		{"an update takes fields from those who applied them", testUpdateTakesFields},
		{"extract returns the fields that a manager applied", testExtract},
		{"extract returns the status that a manager applied", testExtractStatus},
		{"a manager of spec and status keeps them apart", testOneManagerOfBoth},
		{"conditions of several managers merge by type", testMergedConditions},

		{"watch sends the changes after its resource version, in order", testWatchFromResourceVersion},
		{"watch without a resource version begins with the existing objects", testWatchFromNow},
		{"watch sends only selected objects", testWatchSelects},
		{"watch sends initial events and a bookmark", testWatchInitialEvents},
		{"watch ends with its context", testWatchEndsWithContext},
		{"watch sends no bookmark unless asked", testNoBookmark},
		{"watch sends each step of a deletion", testWatchDeletion},
		{"informer follows", testInformer},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, server.space(t)) })
	}
}

// space is an empty namespace with a client for its objects or, for a cluster-scoped kind, a client
// for all objects.
type space struct {
	Server
	namespace  string
	dataPlanes openchoreotyped.DataPlaneInterface
}

func (s Server) space(t *testing.T) *space {
	t.Helper()
	if s.Namespaced {
		return s.in(s.NewNamespace(t))
	}
	all := s.in("")
	t.Cleanup(func() { require.NoError(t, Empty(context.WithoutCancel(t.Context()), all.dataPlanes)) })
	return all
}

func (s Server) in(namespace string) *space {
	return &space{s, namespace, s.Kind.Client(s.Client, namespace)}
}

// Empty removes all objects, and their finalizers.
func Empty(ctx context.Context, client openchoreotyped.DataPlaneInterface) error {
	list, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		patch := []byte(`{"metadata": {"finalizers": null}}`)
		if _, err := client.Patch(ctx, list.Items[i].Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	return client.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

func (s *space) skipWithoutNamespaces(t *testing.T) {
	t.Helper()
	if !s.Namespaced {
		t.Skip("a " + s.Name + " has no namespace")
	}
}

func (s *space) applySpec(name string) *openchoreoapply.DataPlaneApplyConfiguration {
	return s.apply(name, Path{"spec"}, s.Spec)
}

// apply returns an apply configuration of one field only.
func (s *space) apply(name string, field Path, value any) *openchoreoapply.DataPlaneApplyConfiguration {
	return With(s.Configuration(s.namespace, name), field, value)
}

func (s *space) applyConditions(name string, conditions ...*applymetav1.ConditionApplyConfiguration) *openchoreoapply.DataPlaneApplyConfiguration {
	return s.Configuration(s.namespace, name).WithStatus(openchoreoapply.DataPlaneStatus().WithConditions(conditions...))
}

func (s *space) create(t *testing.T, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
	t.Helper()
	created, err := s.dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{})
	require.NoError(t, err)
	return created
}

func (s *space) get(t *testing.T, name string) *v1alpha1.DataPlane {
	t.Helper()
	dp, err := s.dataPlanes.Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return dp
}

// setStatus edits the status of an object, writes it, and returns the object.
func (s *space) setStatus(t *testing.T, name string, edit func(*v1alpha1.DataPlaneStatus)) *v1alpha1.DataPlane {
	t.Helper()
	dp := s.get(t, name)
	edit(&dp.Status)
	updated, err := s.dataPlanes.UpdateStatus(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	return updated
}

// watch starts a watch that ends with the test.
func (s *space) watch(t *testing.T, options metav1.ListOptions) watch.Interface {
	t.Helper()
	watcher, err := s.dataPlanes.Watch(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(watcher.Stop)
	return watcher
}

// next returns the next event of a watch.
func next(t *testing.T, watcher watch.Interface) (watch.EventType, *v1alpha1.DataPlane) {
	t.Helper()
	event := receive(t, watcher.ResultChan())
	require.NotEqual(t, watch.Error, event.Type, "%v", event.Object)
	return event.Type, AsDataPlane(event.Object)
}

func receive[T any](t *testing.T, from <-chan T) (value T) {
	t.Helper()
	select {
	case value, open := <-from:
		require.True(t, open, "the channel is closed")
		return value
	case <-time.After(time.Minute):
		require.FailNow(t, "nothing was received")
		return value
	}
}

// requireInvalid requires that err is Invalid and names a field.
func requireInvalid(t *testing.T, err error, field string) {
	t.Helper()
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.Equal(t, []string{field}, CauseFields(err), "%v", err)
}
