// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package await_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
)

func TestUntil(t *testing.T) {
	t.Parallel()
	reason := func(want string) func(helpers.Report) bool {
		return func(report helpers.Report) bool { return report.Verdict("Ready").Reason == want }
	}
	for name, test := range map[string]struct {
		until await.Until
		met   bool
		want  string
	}{
		"a condition that is True":        {until: await.True("Ready"), met: true},
		"a condition that isn't reported": {until: await.True("Ready", "Connected"), want: "Ready=True, Connected=True"},
		"no condition":                    {until: await.True(), met: true},
		"the zero value":                  {met: true},
		"a function that returns true":    {until: await.Match("a test", reason("Tested")), met: true},
		"a function that returns false":   {until: await.Match("another reason", reason("Other")), want: "another reason"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{gets: []answer{{dp: seen("a", "20", "True")}}, watches: silent}
			dp, err := await.For(s.context(t), s, "prod", test.until)
			if test.met {
				require.NoError(t, err)
				assert.Equal(t, "prod", dp.Name)
				assert.Equal(t, 1, s.got, "met at once")
				return
			}
			var awaitErr *await.Error
			require.ErrorAs(t, err, &awaitErr)
			assert.Equal(t, test.want, awaitErr.Want)
		})
	}
}

// OpenChoreo v1 writes Created first, and then looks for an agent.
func TestStockWaitsForAnAgent(t *testing.T) {
	t.Parallel()
	created := func(dp *v1alpha1.DataPlane) {
		dp.Spec.ClusterAgent = &v1alpha1.ClusterAgentConfig{}
		dp.Status.Conditions[0].Type, dp.Status.ObservedGeneration = "Created", 4
	}
	connected := func(dp *v1alpha1.DataPlane) {
		dp.Status.AgentConnection = &v1alpha1.AgentConnectionStatus{Connected: true, ConnectedAgents: 1}
	}
	s := &script{gets: []answer{{dp: seen("b", "20", "True", created)}}, watches: []stream{{events: []watch.Event{
		{Type: watch.Modified, Object: seen("b", "21", "True", created, connected)},
	}}}}
	dp, err := await.For(s.context(t), s, "prod", ready, await.JudgeBy(helpers.Stock()))
	require.NoError(t, err)
	assert.Equal(t, "21", dp.ResourceVersion)
}

func TestObjectBeingDeletedMeetsNoUntil(t *testing.T) {
	t.Parallel()
	connected := func(dp *v1alpha1.DataPlane) { dp.Status.Conditions[0].Type = "Connected" }
	deleting := seen("b", "20", "True", connected, terminating)
	for name, until := range map[string]await.Until{
		"a condition": await.True("Connected"),
		"existence":   {},
		"a function":  await.Match("anything", func(helpers.Report) bool { return true }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{gets: []answer{{dp: deleting}}, watches: silent}
			_, err := await.For(s.context(t), s, "prod", until)
			require.ErrorIs(t, err, helpers.ErrDeleted)

			s = &script{gets: []answer{{dp: deleting}}, watches: []stream{{events: []watch.Event{
				{Type: watch.Deleted, Object: seen("b", "21", "True", connected, terminating)},
				{Type: watch.Added, Object: seen("c", "22", "True", connected)},
			}}}}
			dp, err := await.For(s.context(t), s, "prod", until, await.FollowReplacement())
			require.NoError(t, err)
			assert.EqualValues(t, "c", dp.UID)
		})
	}
}

func TestFailOnIgnoresEarlierGenerations(t *testing.T) {
	t.Parallel()
	s := &script{
		gets: []answer{{dp: seen("b", "20", "False")}},
		watches: []stream{{events: []watch.Event{
			{Type: watch.Modified, Object: seen("b", "21", "False", func(dp *v1alpha1.DataPlane) { dp.Generation = 5 })},
		}}},
	}
	_, err := await.For(s.context(t), s, "prod", ready, await.MinGeneration(5), await.FailOn(func(report helpers.Report) error {
		return fmt.Errorf("failed at generation %d", report.Generation)
	}))
	require.ErrorContains(t, err, ": failed at generation 5")
}

func TestFailOnEndsAWaitForDeletion(t *testing.T) {
	t.Parallel()
	hopeless := errors.New("hopeless")
	s := &script{gets: []answer{{dp: seen("b", "20", "False", terminating)}}, watches: silent}
	err := await.ForDeletion(s.context(t), s, "prod", await.FailOn(func(report helpers.Report) error {
		if report.Verdict("Ready").Reason == "Tested" {
			return hopeless
		}
		return nil
	}), await.MinGeneration(5)) // has no effect
	require.ErrorIs(t, err, hopeless)
	require.NotContains(t, err.Error(), "generation")
}

// A recreated object starts at generation 1.
func TestMinGenerationAppliesToTheFirstObject(t *testing.T) {
	t.Parallel()
	former, next := seen("a", "20", "True"), seen("b", "30", "True", firstGeneration)
	opts := []await.Option{await.MinGeneration(5), await.FollowReplacement()}
	for name, test := range map[string]struct {
		script script
		opts   []await.Option
	}{
		"replaced while it is watched": {
			script: script{gets: []answer{{dp: former}}, watches: []stream{{events: []watch.Event{
				{Type: watch.Deleted, Object: seen("a", "21", "True")}, {Type: watch.Added, Object: next},
			}}}},
		},
		"replaced between two gets": {
			script: script{gets: []answer{{dp: former}, {dp: next}}, watches: silent},
		},
		"replaced before the wait": {
			script: script{gets: []answer{{dp: next}}, watches: silent},
			opts:   []await.Option{await.UID("a")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dp, err := await.For(test.script.context(t), &test.script, "prod", ready, append(test.opts, opts...)...)
			require.NoError(t, err)
			assert.Equal(t, next.UID, dp.UID)
		})
	}
}

func TestUID(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		get      answer
		opts     []await.Option
		err      error // of For
		deletion error // of ForDeletion
	}{
		"the object is there":                           {get: answer{dp: seen("a", "20", "True")}, deletion: errOver},
		"it was replaced":                               {get: answer{dp: seen("b", "20", "True")}, err: helpers.ErrReplaced},
		"it was replaced, and FollowReplacement is set": {get: answer{dp: seen("b", "20", "True")}, opts: []await.Option{await.FollowReplacement()}},
		"it was deleted":                                {get: answer{err: notFound}, err: helpers.ErrDeleted},
		"it was deleted, and AllowMissing is set":       {get: answer{err: notFound}, opts: []await.Option{await.AllowMissing()}, err: helpers.ErrDeleted},
		"it was deleted, and FollowReplacement is set":  {get: answer{err: notFound}, opts: []await.Option{await.FollowReplacement()}, err: errOver},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := append(slices.Clone(test.opts), await.UID("a"))
			s := &script{gets: []answer{test.get}, watches: silent}
			_, err := await.For(s.context(t), s, "prod", ready, opts...)
			require.ErrorIs(t, err, test.err)
			s = &script{gets: []answer{test.get}, watches: silent}
			require.ErrorIs(t, await.ForDeletion(s.context(t), s, "prod", opts...), test.deletion)
		})
	}
}

func TestForSucceedsAtOnceEvenIfTheContextHasEnded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := await.For(ctx, &script{gets: []answer{{dp: seen("b", "20", "True")}}}, "prod", ready)
	require.NoError(t, err)
}

func TestForTakesClusterDataPlanes(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(&v1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Name: "default", UID: "1"}}).
		OpenChoreoV1alpha1().ClusterDataPlanes()
	events := make(chan struct{}, 10) // more than the number of watches
	result := make(chan error, 1)
	go func() {
		cluster, err := await.For(t.Context(), watchTeller[*v1alpha1.ClusterDataPlane]{client, events}, "default", ready)
		if err == nil && (cluster.Name != "default" || len(cluster.Status.Conditions) == 0) {
			err = fmt.Errorf("got %v", cluster)
		}
		result <- err
	}()
	<-events
	cluster, err := client.Get(t.Context(), "default", metav1.GetOptions{})
	require.NoError(t, err)
	cluster.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Tested"}}
	_, err = client.UpdateStatus(t.Context(), cluster, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, <-result)

	require.NoError(t, client.Delete(t.Context(), "default", metav1.DeleteOptions{}))
	require.NoError(t, await.ForDeletion(t.Context(), client, "default"))
	_, err = await.For(t.Context(), client, "default", ready)
	assert.Regexp(t, `^data plane default: waited \w+ for Ready=True: clusterdataplanes.openchoreo.dev "default" not found$`, err)
}
