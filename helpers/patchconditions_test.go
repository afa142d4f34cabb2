// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// edited increments the resource version.
func edited(dp *v1alpha1.DataPlane) {
	version, _ := strconv.Atoi(dp.ResourceVersion)
	dp.ResourceVersion = strconv.Itoa(version + 1)
}

func setReady(status metav1.ConditionStatus) []metav1.Condition {
	return []metav1.Condition{{Type: ready, Status: status, Reason: "Tested"}}
}

func TestPatchConditions(t *testing.T) {
	type dataPlane = v1alpha1.DataPlane
	for name, test := range map[string]struct {
		before    *dataPlane // on the server
		read      func(cached *dataPlane)
		meanwhile func(stored *dataPlane) // edits of other writers, after the read
		set       []metav1.Condition
		opts      helpers.PatchConditionsOptions
		gets      int
		patches   int
		check     func(t *testing.T, s *apiServer, result *dataPlane)
	}{
		"keeps conditions of other types": {
			before: withConditions(2, condition(created, yes, 1), condition(connected, no, 2)), set: setReady(yes), patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.Len(t, result.Status.Conditions, 3)
				assert.Equal(t, helpers.CodeCurrent, helpers.EvaluateCondition(result, ready).Code)
			},
		},
		"sets several, and removes duplicates": {
			before:  withConditions(1, condition(ready, no, 1), condition(ready, yes, 1)),
			set:     []metav1.Condition{condition(ready, yes, 0), condition(connected, yes, 0)},
			patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.Len(t, result.Status.Conditions, 2)
				assert.True(t, helpers.IsReady(result) && helpers.IsConnected(result))
			},
		},
		"sends no patch if nothing changes": {
			before: withConditions(1, condition(ready, yes, 1)), set: []metav1.Condition{condition(ready, yes, 0)}, gets: 1,
		},
		"gets the object if a cache that may lag shows the condition": {
			before: withConditions(1, condition(ready, yes, 1)), set: []metav1.Condition{condition(ready, yes, 0)}, gets: 1, patches: 1,
			meanwhile: func(stored *dataPlane) { stored.Status.Conditions[0].Status = no },
			check:     func(t *testing.T, _ *apiServer, result *dataPlane) { assert.True(t, helpers.IsReady(result)) },
		},
		"reads an object that was made by hand": {
			before: withConditions(1, condition(created, yes, 1)), set: setReady(yes), gets: 1, patches: 1,
			read:  func(dp *dataPlane) { dp.ResourceVersion, dp.UID, dp.Status = "", "", v1alpha1.DataPlaneStatus{} },
			check: func(t *testing.T, _ *apiServer, result *dataPlane) { assert.Len(t, result.Status.Conditions, 2) },
		},
		"keeps what another wrote at the same time": {
			before: withConditions(1), set: setReady(yes), gets: 1, patches: 2,
			meanwhile: func(stored *dataPlane) { stored.Status.Conditions = []metav1.Condition{condition(connected, yes, 1)} },
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.True(t, helpers.IsReady(result) && helpers.IsConnected(result))
			},
		},
		"reports the observed generation, not a later one": {
			before: withConditions(4), set: setReady(yes), gets: 1, patches: 2,
			meanwhile: func(stored *dataPlane) { stored.Generation = 5 },
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.EqualValues(t, 4, result.Status.Conditions[0].ObservedGeneration)
				assert.False(t, helpers.IsReady(result))
			},
		},
		"keeps a condition of its type that observed a later generation": {
			before: withConditions(4, condition(ready, yes, 4)), set: setReady(no), gets: 1, patches: 1,
			meanwhile: func(stored *dataPlane) {
				stored.Generation, stored.Status.Conditions = 5, []metav1.Condition{condition(ready, yes, 5)}
			},
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.Equal(t, []metav1.Condition{condition(ready, yes, 5)}, result.Status.Conditions)
			},
		},
		"replaces a condition left over from before a restore": {
			before: withConditions(2, condition(ready, yes, 7)), set: setReady(yes), patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) { assert.True(t, helpers.IsReady(result)) },
		},
		"gives a time to conditions without one": {
			before: withConditions(1, metav1.Condition{Type: created, Status: yes}, metav1.Condition{Type: ready, Status: yes, Reason: "Tested"}),
			set:    setReady(yes), patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.False(t, result.Status.Conditions[0].LastTransitionTime.IsZero())
				assert.True(t, helpers.IsReady(result))
			},
		},
		"leaves status.observedGeneration alone": {
			before: withConditions(3), set: setReady(yes), patches: 1,
			read:  func(dp *dataPlane) { dp.Status.ObservedGeneration = 2 },
			check: func(t *testing.T, s *apiServer, _ *dataPlane) { assert.Zero(t, s.stored.Status.ObservedGeneration) },
		},
		"ObserveGeneration makes a DataPlane ready whose status lags": {
			before: &dataPlane{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Status: v1alpha1.DataPlaneStatus{ObservedGeneration: 2}},
			set:    setReady(yes), opts: helpers.PatchConditionsOptions{ObserveGeneration: true}, patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) { assert.True(t, helpers.IsReady(result)) },
		},
		"ObserveGeneration needs no condition": {
			before: withConditions(3), opts: helpers.PatchConditionsOptions{ObserveGeneration: true}, patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.EqualValues(t, 3, result.Status.ObservedGeneration)
			},
		},
		"ObserveGeneration keeps a later generation": {
			before: withConditions(4), set: setReady(yes), opts: helpers.PatchConditionsOptions{ObserveGeneration: true}, gets: 1, patches: 2,
			meanwhile: func(stored *dataPlane) { stored.Generation, stored.Status.ObservedGeneration = 5, 5 },
			check: func(t *testing.T, _ *apiServer, result *dataPlane) {
				assert.EqualValues(t, 5, result.Status.ObservedGeneration)
			},
		},
		"ObserveGeneration replaces a generation left over from before a restore": {
			before: &dataPlane{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Status: v1alpha1.DataPlaneStatus{ObservedGeneration: 9}},
			set:    setReady(yes), opts: helpers.PatchConditionsOptions{ObserveGeneration: true}, patches: 1,
			check: func(t *testing.T, _ *apiServer, result *dataPlane) { assert.True(t, helpers.IsReady(result)) },
		},
		"FieldManager and DryRun": {
			before: withConditions(1), set: setReady(yes), opts: helpers.PatchConditionsOptions{FieldManager: "probe", DryRun: true}, patches: 1,
			check: func(t *testing.T, s *apiServer, result *dataPlane) {
				assert.Equal(t, metav1.PatchOptions{FieldManager: "probe", DryRun: []string{metav1.DryRunAll}}, s.options)
				assert.True(t, helpers.IsReady(result))
				assert.Empty(t, s.stored.Status.Conditions)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(test.before)
			dp := s.stored.DeepCopy()
			if test.read != nil {
				test.read(dp)
			}
			if test.meanwhile != nil {
				test.meanwhile(s.stored)
				edited(s.stored)
			}
			before, conditions := dp.DeepCopy(), slices.Clone(test.set)
			result, err := helpers.PatchConditions(t.Context(), s, dp, test.set, test.opts)
			require.NoError(t, err)
			assert.Equal(t, before, dp, "must not be changed")
			assert.Equal(t, conditions, test.set, "must not be changed")
			assert.Equal(t, test.gets, s.gets, "gets")
			assert.Equal(t, test.patches, s.patches, "patches")
			if !test.opts.DryRun {
				assert.Equal(t, s.stored, result)
			}
			if test.check != nil {
				test.check(t, s, result)
			}
		})
	}
}

func TestPatchConditionsRefuses(t *testing.T) {
	_, err := helpers.PatchConditions(t.Context(), serve(withConditions(1)), nil, setReady(yes), helpers.PatchConditionsOptions{})
	require.EqualError(t, err, "nil data plane")

	s := serve(withConditions(1))
	_, err = helpers.PatchConditions(t.Context(), s, s.stored, setReady("true"), helpers.PatchConditionsOptions{})
	require.ErrorContains(t, err, "status.conditions[Ready].status")
	_, err = helpers.PatchConditions(t.Context(), s, s.stored, append(setReady(yes), setReady(no)...), helpers.PatchConditionsOptions{})
	require.EqualError(t, err, `status.conditions[Ready]: Duplicate value: "Ready"`)
	assert.Zero(t, s.gets+s.patches)

	old := s.stored.DeepCopy()
	s.stored.UID = "2"
	edited(s.stored)
	_, err = helpers.PatchConditions(t.Context(), s, old, setReady(yes), helpers.PatchConditionsOptions{})
	require.ErrorIs(t, err, helpers.ErrReplaced)
	require.ErrorContains(t, err, "data plane default/prod: ")
	assert.Empty(t, s.stored.Status.Conditions)
	assert.True(t, apierrors.IsConflict(err), "the earlier conflict")

	unreachable := errors.New("connection refused")
	_, err = helpers.PatchConditions(t.Context(), failsAfterConflict{s, unreachable}, old, setReady(yes), helpers.PatchConditionsOptions{})
	require.ErrorIs(t, err, unreachable)
	require.True(t, apierrors.IsConflict(err))
	require.ErrorContains(t, err, "data plane default/prod: connection refused: Operation cannot be fulfilled")
}

func TestPatchConditionsTriesUntilTheContextEnds(t *testing.T) {
	errShutdown := errors.New("shutting down")
	for name, test := range map[string]struct {
		cause error
		want  []error
		says  string
	}{
		"by its deadline": {
			cause: context.DeadlineExceeded, want: []error{context.DeadlineExceeded},
			says: "data plane default/prod: context deadline exceeded: Operation cannot be fulfilled on dataplanes.openchoreo.dev \"prod\": " +
				"the object has been modified",
		},
		"by its deadline, with a cause": {
			cause: errShutdown, want: []error{context.DeadlineExceeded, errShutdown},
			says: "data plane default/prod: context deadline exceeded: shutting down: Operation cannot be fulfilled on " +
				"dataplanes.openchoreo.dev \"prod\": the object has been modified",
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, test.cause)
			defer cancel()
			s := serve(withConditions(1))
			s.beforePatch = edited // by another writer, each time
			_, err := helpers.PatchConditions(ctx, s, s.stored.DeepCopy(), setReady(yes), helpers.PatchConditionsOptions{})
			for _, want := range test.want {
				require.ErrorIs(t, err, want)
			}
			require.NotErrorIs(t, err, context.Canceled)
			assert.True(t, apierrors.IsConflict(err), "the last conflict")
			assert.Contains(t, err.Error(), test.says)
		})
	}
}

// Go's HTTP transport returns the cause of a context, not its error.
func TestPatchConditionsFindsTheErrorOfTheContext(t *testing.T) {
	errShutdown := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errShutdown)
	s := &failing{errShutdown}
	_, err := helpers.PatchConditions(ctx, s, withConditions(1), setReady(yes), helpers.PatchConditionsOptions{})
	require.ErrorIs(t, err, errShutdown)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "data plane default/prod: shutting down: context canceled")
}

func TestPatchConditionsOfAFake(t *testing.T) {
	for name, client := range map[string]*fake.Clientset{"NewClientset": fake.NewClientset(), "NewSimpleClientset": fake.NewSimpleClientset()} {
		t.Run(name, func(t *testing.T) {
			dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
			dp, err := dataPlanes.Create(t.Context(), dataplanetest.DataPlane("default", "production-dataplane"), metav1.CreateOptions{})
			require.NoError(t, err)
			for _, status := range []metav1.ConditionStatus{yes, no} {
				patched, err := helpers.PatchConditions(t.Context(), dataPlanes, dp, setReady(status), helpers.PatchConditionsOptions{ObserveGeneration: true})
				require.NoError(t, err)
				assert.Equal(t, status, helpers.EvaluateCondition(patched, ready).Status)
			}
		})
	}
}

func TestPatchConditionsOfAClusterDataPlane(t *testing.T) {
	client := fake.NewClientset().OpenChoreoV1alpha1().ClusterDataPlanes()
	cluster, err := client.Create(t.Context(), &v1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	cluster, err = helpers.PatchConditions(t.Context(), client, cluster, setReady(yes), helpers.PatchConditionsOptions{})
	require.NoError(t, err)
	assert.Equal(t, yes, helpers.EvaluateCondition(cluster.AsDataPlane(), ready).Status)

	_, err = helpers.PatchConditions(t.Context(), client, nil, setReady(yes), helpers.PatchConditionsOptions{})
	require.EqualError(t, err, "nil data plane")
	cluster.Name = "absent"
	_, err = helpers.PatchConditions(t.Context(), client, cluster, setReady(no), helpers.PatchConditionsOptions{})
	require.ErrorContains(t, err, "data plane absent: ")
}
