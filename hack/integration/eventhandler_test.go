// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

func TestHandlerReportsChangesOfReadiness(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	s.create(t, behaviours.NewDataPlane("prod"))
	s.create(t, behaviours.NewDataPlane("present"))
	s.setCondition(t, "present", "Ready", metav1.ConditionTrue)
	r := s.record(t, s.openchoreo, time.Second)
	r.await(t, "prod", "initial add")
	r.await(t, "present", "initial add", "ready")

	edit := func(edit func(*openchoreov1alpha1.DataPlane)) {
		t.Helper()
		dp := s.get(t, "prod")
		edit(dp)
		_, err := s.typed.Update(t.Context(), dp, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
	label := func(value string) {
		t.Helper()
		edit(func(dp *openchoreov1alpha1.DataPlane) { dp.Labels = map[string]string{"tier": value} })
	}
	s.setCondition(t, "prod", "Ready", metav1.ConditionTrue)
	r.await(t, "prod", "update", "ready")
	label("gold")
	label("silver")
	s.setCondition(t, "prod", "Connected", metav1.ConditionFalse)
	r.await(t, "prod", "update", "update", "update")
	r.awaitResyncs(t, "prod", 3)
	r.awaitResyncs(t, "present", 3)

	edit(func(dp *openchoreov1alpha1.DataPlane) { dp.Spec.Registry.Prefix = "docker.io/other" })
	r.await(t, "prod", "update", "not ready") // the condition is of an earlier generation
	label("bronze")
	r.await(t, "prod", "update")
	r.awaitResyncs(t, "prod", 2)
	s.setCondition(t, "prod", "Ready", metav1.ConditionTrue)
	r.await(t, "prod", "update", "ready")
	s.setCondition(t, "prod", "Ready", metav1.ConditionFalse)
	s.setCondition(t, "prod", "Ready", metav1.ConditionUnknown)
	s.setCondition(t, "prod", "Ready", metav1.ConditionTrue)
	r.await(t, "prod", "update", "not ready", "update", "update", "ready")

	require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	r.await(t, "prod", "delete", "not ready")
	dp := behaviours.NewDataPlane("prod")
	dp.Finalizers = []string{"example.com/hold"}
	s.create(t, dp)
	s.setCondition(t, "prod", "Ready", metav1.ConditionTrue)
	r.await(t, "prod", "add", "update", "ready")
	require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	r.await(t, "prod", "update", "not ready") // it is being deleted
	edit(func(dp *openchoreov1alpha1.DataPlane) { dp.Finalizers = nil })
	r.await(t, "prod", "delete")
	r.awaitResyncs(t, "present", 1)
	r.requireNothingElse(t)
}

func TestHandlerWithStableForReportsOnAResync(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	s.create(t, behaviours.NewDataPlane("prod"))
	r := s.record(t, s.openchoreo, 100*time.Millisecond, helpers.StableFor(2*time.Second, nil))
	r.await(t, "prod", "initial add")
	s.setCondition(t, "prod", "Ready", metav1.ConditionTrue)
	r.await(t, "prod", "update", "ready")
	s.setCondition(t, "prod", "Ready", metav1.ConditionFalse)
	r.await(t, "prod", "update", "not ready")
}

// testEventHandlerCutOff needs a control plane whose API server it may restart.
func testEventHandlerCutOff(t *testing.T, s *space) {
	ready := func(name string) {
		t.Helper()
		s.create(t, behaviours.NewDataPlane(name))
		s.setCondition(t, name, "Ready", metav1.ConditionTrue)
	}
	replace := func(name string) {
		t.Helper()
		require.NoError(t, s.typed.Delete(t.Context(), name, metav1.DeleteOptions{}))
		s.create(t, behaviours.NewDataPlane(name))
	}
	for _, name := range []string{"kept", "changed", "deleted", "replaced", "replaced-by-ready"} {
		ready(name)
	}
	s.create(t, behaviours.NewDataPlane("never-ready"))
	l := newLine()
	far, _ := s.over(t, l)
	r := s.record(t, far.openchoreo, 0)
	for _, name := range []string{"kept", "changed", "deleted", "replaced", "replaced-by-ready"} {
		r.await(t, name, "initial add", "ready")
	}
	r.await(t, "never-ready", "initial add")

	l.cut()
	s.setCondition(t, "changed", "Ready", metav1.ConditionFalse)
	for _, name := range []string{"deleted", "never-ready"} {
		require.NoError(t, s.typed.Delete(t.Context(), name, metav1.DeleteOptions{}))
	}
	replace("replaced")
	replace("replaced-by-ready")
	s.setCondition(t, "replaced-by-ready", "Ready", metav1.ConditionTrue)
	ready("created")
	require.NoError(t, s.APIServer.Restart(t.Context())) // afterwards, it has no events from before
	r.requireNothingElse(t)
	l.mend()

	r.await(t, "changed", "update", "not ready")
	r.await(t, "deleted", "unseen", "delete", "not ready")
	r.await(t, "never-ready", "unseen", "delete")
	r.await(t, "replaced", "update", "not ready")
	r.await(t, "replaced-by-ready", "update", "not ready", "ready")
	r.await(t, "created", "add", "ready")
	r.requireNothingElse(t)
}

func (s *space) setCondition(t *testing.T, name, conditionType string, status metav1.ConditionStatus) {
	t.Helper()
	_, err := s.patchConditions(t, s.get(t, name),
		metav1.Condition{Type: conditionType, Status: status, Reason: "Tested"})
	require.NoError(t, err)
}

// recorder records the events of an informer.Handler, by the names of DataPlanes.
type recorder struct {
	cache.ResourceEventHandler

	mu      sync.Mutex
	events  map[string][]string
	resyncs map[string]int
}

// record starts an informer with an informer.Handler that ends with the test, and returns when
// it has synced.
func (s *space) record(t *testing.T, client openchoreoclient.Interface, resync time.Duration, opts ...helpers.EvaluateOption) *recorder {
	t.Helper()
	r := &recorder{events: map[string][]string{}, resyncs: map[string]int{}}
	r.ResourceEventHandler = informer.Handler(informer.Funcs{
		OnAdd: func(dp *openchoreov1alpha1.DataPlane, initial bool) {
			if initial {
				r.note(dp.Name, "initial add")
			} else {
				r.note(dp.Name, "add")
			}
		},
		OnUpdate: func(before, after *openchoreov1alpha1.DataPlane) {
			assert.Equal(t, before.Name, after.Name)
			if before.ResourceVersion == after.ResourceVersion {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.resyncs[after.Name]++
				return
			}
			r.note(after.Name, "update")
		},
		OnDelete: func(last *openchoreov1alpha1.DataPlane) { r.note(last.Name, "delete") },
		OnReady: func(dp *openchoreov1alpha1.DataPlane) {
			assert.True(t, helpers.IsReady(dp))
			r.note(dp.Name, "ready")
		},
		OnNotReady: func(dp *openchoreov1alpha1.DataPlane) { r.note(dp.Name, "not ready") },
	}, opts...)
	// An informer may list from the API server's watch cache, which may lack the last writes. This waits
	// for them.
	current, err := s.typed.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	_, err = s.typed.List(t.Context(), metav1.ListOptions{
		ResourceVersion: current.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	require.NoError(t, err)
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, resync, openchoreoinformers.WithNamespace(s.namespace))
	registration, err := factory.OpenChoreo().V1alpha1().DataPlanes().Informer().AddEventHandler(r)
	require.NoError(t, err)
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	require.True(t, cache.WaitForCacheSync(ctx.Done(), registration.HasSynced), "the informer has not synced")
	return r
}

// OnDelete records "unseen" before a deletion that no watch has sent.
func (r *recorder) OnDelete(obj any) {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		r.note(last.Obj.(*openchoreov1alpha1.DataPlane).Name, "unseen")
	}
	r.ResourceEventHandler.OnDelete(obj)
}

func (r *recorder) note(name, event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events[name] = append(r.events[name], event)
}

// await requires that the next events for a DataPlane are these.
func (r *recorder) await(t *testing.T, name string, want ...string) {
	t.Helper()
	assert.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.events[name]) >= len(want)
	}, eventually, tick)
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(t, want, r.events[name], name)
	delete(r.events, name)
}

// awaitResyncs requires that a DataPlane is resynced the given number of times, without other events.
func (r *recorder) awaitResyncs(t *testing.T, name string, count int) {
	t.Helper()
	resyncs := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.resyncs[name]
	}
	before := resyncs()
	require.Eventually(t, func() bool { return resyncs() >= before+count }, eventually, tick)
	r.requireNothingElse(t)
}

func (r *recorder) requireNothingElse(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Empty(t, r.events)
}
