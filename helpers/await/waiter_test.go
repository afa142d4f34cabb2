// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package await_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
)

func TestEvents(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		gets     []answer
		events   []watch.Event
		opts     []await.Option
		met      string // resource version of the object that For returns
		err      error  // of For
		deletion error  // of ForDeletion
	}{
		"events of a former object are ignored": {
			gets: []answer{{dp: seen("b", "20", "False")}},
			events: []watch.Event{
				{Type: watch.Added, Object: seen("a", "10", "True")},
				{Type: watch.Deleted, Object: seen("a", "15", "True")},
			},
			err: errOver, deletion: errOver,
		},
		"former states of the object are ignored": {
			gets: []answer{{dp: seen("b", "20", "False")}},
			events: []watch.Event{
				{Type: watch.Added, Object: seen("b", "8", "True")},
				{Type: watch.Modified, Object: seen("b", "15", "True")},
			},
			err: errOver, deletion: errOver,
		},
		"other objects are ignored": {
			gets: []answer{{dp: seen("b", "20", "False")}},
			events: []watch.Event{
				{Type: watch.Modified, Object: seen("c", "21", "True", func(dp *v1alpha1.DataPlane) { dp.Name = "other" })},
				{Type: watch.Bookmark, Object: seen("", "22", "True")},
			},
			err: errOver, deletion: errOver,
		},
		"a change may come as an addition": {
			gets:   []answer{{dp: seen("b", "20", "False")}},
			events: []watch.Event{{Type: watch.Added, Object: seen("b", "21", "True")}},
			met:    "21", deletion: errOver,
		},
		"resource versions are numbers": {
			gets:   []answer{{dp: seen("b", "99", "False")}},
			events: []watch.Event{{Type: watch.Modified, Object: seen("b", "100", "True")}},
			met:    "100", deletion: errOver,
		},
		"resource versions that can't be compared are looked up": {
			gets: []answer{
				{dp: seen("b", "x", "False")},
				{dp: seen("b", "x", "False")},
				{dp: seen("b", "y", "False")},
				{dp: seen("b", "z", "True")},
			},
			events: []watch.Event{
				{Type: watch.Modified, Object: seen("b", "w", "True")},
				{Type: watch.Modified, Object: seen("b", "z", "True")},
			},
			met: "z", deletion: errOver,
		},
		"an event of the known version is looked up if it differs": {
			gets:   []answer{{dp: seen("b", "20", "False")}, {dp: seen("b", "20", "False")}, {dp: seen("b", "20", "True")}},
			events: []watch.Event{{Type: watch.Modified, Object: seen("b", "20", "True")}},
			met:    "20", deletion: errOver,
		},
		"a deletion of the known version is looked up": {
			gets:   []answer{{dp: seen("b", "20", "False")}, {dp: seen("b", "20", "False")}, {err: notFound}},
			events: []watch.Event{{Type: watch.Deleted, Object: seen("b", "20", "False")}},
			err:    helpers.ErrDeleted,
		},
		"a missing object is looked up when there is an event": {
			gets:   []answer{{err: notFound}},
			events: []watch.Event{{Type: watch.Added, Object: seen("a", "10", "True")}},
			opts:   []await.Option{await.AllowMissing()},
			err:    errOver,
		},
		"a deletion ends the wait": {
			gets:   []answer{{dp: seen("b", "20", "False")}},
			events: []watch.Event{{Type: watch.Deleted, Object: seen("b", "21", "False")}},
			err:    helpers.ErrDeleted,
		},
		"a deletion that began ends the wait": {
			gets:   []answer{{dp: seen("b", "20", "False")}},
			events: []watch.Event{{Type: watch.Modified, Object: seen("b", "21", "True", terminating)}},
			err:    helpers.ErrDeleted, deletion: errOver,
		},
		"a replacement ends the wait": {
			gets:   []answer{{dp: seen("b", "20", "False")}},
			events: []watch.Event{{Type: watch.Added, Object: seen("c", "21", "True")}},
			err:    helpers.ErrReplaced,
		},
		"a replacement can be followed": {
			gets: []answer{{dp: seen("b", "20", "False", terminating)}},
			events: []watch.Event{
				{Type: watch.Deleted, Object: seen("b", "21", "False")},
				{Type: watch.Added, Object: seen("c", "22", "True")},
			},
			opts: []await.Option{await.FollowReplacement()},
			met:  "22",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{gets: test.gets, watches: []stream{{events: test.events}}}
			dp, err := await.For(s.context(t), s, "prod", ready, test.opts...)
			require.ErrorIs(t, err, test.err)
			if test.met != "" {
				require.NotNil(t, dp)
				assert.Equal(t, test.met, dp.ResourceVersion)
			}
			s = &script{gets: test.gets, watches: []stream{{events: test.events}}}
			require.ErrorIs(t, await.ForDeletion(s.context(t), s, "prod", test.opts...), test.deletion)
		})
	}
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"forbidden": forbidden, "unauthorized": unauthorized, "not served": notServed} {
		t.Run(name+" at first ends the wait", func(t *testing.T) {
			t.Parallel()
			s := &script{gets: []answer{{err: err}}}
			_, got := await.For(s.context(t), s, "prod", ready)
			require.ErrorIs(t, got, err)
			require.Equal(t, 1, s.got)
			s = &script{gets: []answer{{err: err}}}
			require.ErrorIs(t, await.ForDeletion(s.context(t), s, "prod"), err)
		})
		t.Run(name+" later is retried, since a server that starts says so", func(t *testing.T) {
			t.Parallel()
			former := answer{dp: seen("b", "20", "False")}
			s := &script{gets: []answer{former, former, {err: err}, {dp: seen("b", "21", "True")}}, watches: []stream{{life: time.Millisecond}}}
			_, got := await.For(s.context(t), s, "prod", ready)
			require.NoError(t, got)
		})
	}
	t.Run("a forbidden watch is no error", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		s := &script{gets: []answer{{dp: seen("b", "20", "False")}}, watches: []stream{{err: forbidden}}}
		_, err := await.For(ctx, s, "prod", ready)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, apierrors.IsForbidden(err))
		require.NotContains(t, err.Error(), "last error")
	})
}

func TestInvalidWaitFailsWithoutARequest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	clientset := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod"))
	client := clientset.OpenChoreoV1alpha1()
	wait := func(namespace, name string, until await.Until) error {
		_, err := await.For(ctx, client.DataPlanes(namespace), name, until)
		return err
	}
	waitForDeletion := func(namespace, name string) error {
		return await.ForDeletion(ctx, client.DataPlanes(namespace), name, await.AllowMissing())
	}
	const (
		badName      = `a lowercase RFC 1123 subdomain must consist of .*`
		badNamespace = `a lowercase RFC 1123 label must consist of .*`
	)
	for want, err := range map[string]error{
		`data plane prod: waited \w+ for Ready=True: metadata.namespace: Required value: the client is for all namespaces`: wait("", "prod", ready),
		`data plane prod: waited \w+ for deletion: metadata.namespace: Required value: the client is for all namespaces`:   waitForDeletion("", "prod"),
		`data plane A/prod: waited \w+ for Ready=True: metadata.namespace: Invalid value: "A": ` + badNamespace:            wait("A", "prod", ready),
		`data plane a/b/prod: waited \w+ for deletion: metadata.namespace: Invalid value: "a/b": ` + badNamespace:          waitForDeletion("a/b", "prod"),
		`data plane default/: waited \w+ for Ready=True: metadata.name: Required value`:                                    wait("default", "", ready),
		`data plane default/: waited \w+ for deletion: metadata.name: Required value`:                                      waitForDeletion("default", ""),
		`data plane default/a/b: waited \w+ for deletion: metadata.name: Invalid value: "a/b": ` + badName:                 waitForDeletion("default", "a/b"),
		`data plane default/Prod: waited \w+ for Ready=True: metadata.name: Invalid value: "Prod": ` + badName:             wait("default", "Prod", ready),
		`data plane default/prod: waited \w+ for Ready=True, =True: empty condition type`:                                  wait("default", "prod", await.True("Ready", "")),
	} {
		require.ErrorAs(t, err, new(*await.Error))
		assert.Regexp(t, "^"+want+"$", err.Error())
	}
	assert.Empty(t, clientset.Actions(), "no request")
}

// API servers begin a watch with the object that the get returned.
func TestKnownStateIsNotLookedUpAgain(t *testing.T) {
	t.Parallel()
	s := &script{gets: []answer{{dp: seen("b", "20", "False")}}, watches: []stream{{events: []watch.Event{
		{Type: watch.Added, Object: seen("b", "20", "False")},
		{Type: watch.Modified, Object: seen("b", "21", "True")},
	}}}}
	_, err := await.For(s.context(t), s, "prod", ready)
	require.NoError(t, err)
	assert.Equal(t, 2, s.got)
}

func TestConditionSettlesWithoutAnEvent(t *testing.T) {
	t.Parallel()
	since := time.Now().Add(-time.Minute)
	s := &script{gets: []answer{{dp: seen("b", "20", "True", func(dp *v1alpha1.DataPlane) {
		dp.Status.Conditions[0].LastTransitionTime = metav1.NewTime(since)
	})}}, watches: silent, over: func() {}}
	const d = time.Minute + 200*time.Millisecond
	_, err := await.For(t.Context(), s, "prod", ready, await.JudgeBy(helpers.StableFor(d, nil)))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(since), d)
}

func TestHeartbeatBecomesTooOldWithoutAnEvent(t *testing.T) {
	t.Parallel()
	var elapsed time.Duration
	since := time.Unix(1000, 0)
	clock := func() time.Time {
		elapsed += 10 * time.Second
		return since.Add(elapsed)
	}
	s := &script{gets: []answer{{dp: seen("b", "20", "False", func(dp *v1alpha1.DataPlane) {
		heartbeat := metav1.NewTime(since)
		dp.Status.AgentConnection = &v1alpha1.AgentConnectionStatus{Connected: true, LastHeartbeatTime: &heartbeat}
	})}}, watches: silent, over: func() {}}
	calls, lost := 0, errors.New("lost")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := await.For(ctx, s, "prod", ready, await.JudgeBy(helpers.HeartbeatWithin(time.Minute, clock)),
		await.FailOn(func(report helpers.Report) error {
			if calls++; report.Connected.Code == helpers.CodeStale {
				return lost
			}
			return nil
		}))
	require.ErrorIs(t, err, lost)
	assert.Equal(t, 3, calls, "once for each get, and once when the report changes")
}

// The generated fake sets neither UID nor generation, and keeps the resource version that a test
// sets.
func TestFakeClientset(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]string{"no version": "", "a version": "5", "a version that is no number": "x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			client := fake.NewClientset(seen("", version, "False")).OpenChoreoV1alpha1().DataPlanes("default")
			watching := make(chan struct{}, 3)
			met, result, deletion := make(chan error, 1), make(chan error, 1), make(chan error, 1)
			teller := watchTeller[*v1alpha1.DataPlane]{client, watching}
			go func() {
				_, err := await.For(ctx, teller, "prod", ready)
				met <- err
			}()
			go func() {
				_, err := await.For(ctx, teller, "prod", await.True("Connected"), await.AllowMissing())
				result <- err
			}()
			go func() { deletion <- await.ForDeletion(ctx, teller, "prod") }()
			for range cap(watching) {
				testserver.Receive(t, watching)
			}
			_, err := client.Update(ctx, seen("", version, "True"), metav1.UpdateOptions{})
			require.NoError(t, err)
			require.NoError(t, testserver.Receive(t, met))
			require.NoError(t, client.Delete(ctx, "prod", metav1.DeleteOptions{}))
			require.ErrorIs(t, testserver.Receive(t, result), helpers.ErrDeleted)
			require.NoError(t, testserver.Receive(t, deletion))
		})
	}
}
