// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Waits on API servers are tested in hack/integration. Here are the answers that one gives
// rarely: a watch cache that lags, a server that starts, other servers than Kubernetes'.

// script is an API server that gives the answers of a test, the last again and again.
type script struct {
	gets    []answer
	watches []watches

	got, watched int
}

type answer struct {
	dp  *v1alpha1.DataPlane
	err error
}

// watches are the events of a watch, or the error of the request. It ends after them if it
// has a life.
type watches struct {
	events []watch.Event
	err    error
	life   time.Duration
}

func (s *script) Get(context.Context, string, metav1.GetOptions) (*v1alpha1.DataPlane, error) {
	a := s.gets[min(s.got, len(s.gets)-1)]
	s.got++
	return a.dp, a.err
}

func (s *script) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	var w watches
	if len(s.watches) > 0 {
		w = s.watches[min(s.watched, len(s.watches)-1)]
	}
	s.watched++
	if w.err != nil {
		return nil, w.err
	}
	watcher := watch.NewFakeWithChanSize(len(w.events)+10, false)
	for _, event := range w.events {
		watcher.Action(event.Type, event.Object)
	}
	if w.life > 0 {
		time.AfterFunc(w.life, watcher.Stop)
	}
	return watcher, nil
}

// seenAs returns an object, of a UID, as it is at a resource version.
func seenAs(uid types.UID, resourceVersion string, status metav1.ConditionStatus) *v1alpha1.DataPlane {
	dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: "prod", UID: uid, ResourceVersion: resourceVersion, Generation: 4,
	}}
	dp.Status.Conditions = []metav1.Condition{condition(ready, status, 4)}
	return dp
}

var (
	dataPlanes = v1alpha1.Resource("dataplanes")
	notFound   = apierrors.NewNotFound(dataPlanes, "prod")
	forbidden  = apierrors.NewForbidden(dataPlanes, "prod", errors.New("no role found"))
)

func finalized(dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
	dp.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	return dp
}

func TestWaitForTakesNoOldEventForThePresent(t *testing.T) {
	for name, test := range map[string]struct {
		get     []answer
		events  []watch.Event
		opts    []WaitOption
		met     string // the resource version that is returned
		want    error
		deleted error // of WaitForDeletion
	}{
		"the former object": {
			get:    []answer{{dp: seenAs("b", "20", "False")}},
			events: []watch.Event{{Type: watch.Added, Object: seenAs("a", "10", "True")}, {Type: watch.Deleted, Object: seenAs("a", "15", "True")}},
			want:   context.DeadlineExceeded, deleted: context.DeadlineExceeded,
		},
		"the object as it was": {
			get:    []answer{{dp: seenAs("b", "20", "False")}},
			events: []watch.Event{{Type: watch.Added, Object: seenAs("b", "8", "True")}, {Type: watch.Modified, Object: seenAs("b", "15", "True")}},
			want:   context.DeadlineExceeded, deleted: context.DeadlineExceeded,
		},
		"a change that comes as an addition": {
			get:    []answer{{dp: seenAs("b", "20", "False")}},
			events: []watch.Event{{Type: watch.Added, Object: seenAs("b", "21", "True")}},
			met:    "21", deleted: context.DeadlineExceeded,
		},
		"a version of more digits": {
			get:    []answer{{dp: seenAs("b", "99", "False")}},
			events: []watch.Event{{Type: watch.Modified, Object: seenAs("b", "100", "True")}},
			met:    "100", deleted: context.DeadlineExceeded,
		},
		"a deletion": {
			get:    []answer{{dp: seenAs("b", "20", "False")}},
			events: []watch.Event{{Type: watch.Deleted, Object: seenAs("b", "21", "False")}},
			want:   ErrDeleted,
		},
		"another of the name": {
			get:    []answer{{dp: seenAs("b", "20", "False")}},
			events: []watch.Event{{Type: watch.Added, Object: seenAs("c", "21", "True")}},
			want:   ErrReplaced,
		},
		"another of the name that is followed": {
			get:    []answer{{dp: finalized(seenAs("b", "20", "False"))}},
			events: []watch.Event{{Type: watch.Deleted, Object: seenAs("b", "21", "False")}, {Type: watch.Added, Object: seenAs("c", "22", "True")}},
			opts:   []WaitOption{FollowReplacement(), MinGeneration(1)},
			met:    "22",
		},
		"versions that can't be compared, so the API server is asked": {
			get: []answer{
				{dp: seenAs("b", "x", "False")},
				{dp: seenAs("b", "x", "False")},
				{dp: seenAs("b", "y", "False")},
				{dp: seenAs("b", "z", "True")},
			},
			events: []watch.Event{{Type: watch.Modified, Object: seenAs("b", "w", "True")}, {Type: watch.Modified, Object: seenAs("b", "z", "True")}},
			met:    "z", deleted: context.DeadlineExceeded,
		},
		"what was there before it was gone": {
			get:    []answer{{err: notFound}},
			events: []watch.Event{{Type: watch.Added, Object: seenAs("a", "10", "True")}},
			opts:   []WaitOption{AllowMissing()},
			want:   context.DeadlineExceeded,
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			dp, err := WaitFor(ctx, &script{gets: test.get, watches: []watches{{events: test.events}}}, "prod", UntilTrue(ready), test.opts...)
			require.ErrorIs(t, err, test.want)
			if test.met != "" {
				require.NotNil(t, dp)
				assert.Equal(t, test.met, dp.ResourceVersion)
			}
			ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			err = WaitForDeletion(ctx, &script{gets: test.get, watches: []watches{{events: test.events}}}, "prod")
			require.ErrorIs(t, err, test.deleted)
		})
	}
}

func TestWaitForForbidden(t *testing.T) {
	_, err := WaitFor(t.Context(), &script{gets: []answer{{err: forbidden}}}, "prod", UntilTrue(ready))
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "it was never seen; last error: dataplanes.openchoreo.dev \"prod\" is forbidden")

	// An API server that starts does not know all roles yet.
	s := &script{
		gets:    []answer{{dp: seenAs("b", "20", "False")}, {dp: seenAs("b", "20", "False")}, {err: forbidden}, {dp: seenAs("b", "21", "True")}},
		watches: []watches{{life: time.Millisecond}},
	}
	_, err = WaitFor(t.Context(), s, "prod", UntilTrue(ready))
	require.NoError(t, err)

	// That watching is forbidden is no reason for anything.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = WaitFor(ctx, &script{gets: []answer{{dp: seenAs("b", "20", "False")}}, watches: []watches{{err: forbidden}}}, "prod", UntilTrue(ready))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, apierrors.IsForbidden(err))
	require.ErrorContains(t, err, "; last error: none: ")
}

func TestWaitErrorSaysWhatIsWrong(t *testing.T) {
	hopeless := errors.New("hopeless")
	never := watches{}
	for name, test := range map[string]struct {
		script *script
		opts   []WaitOption
		want   string
		is     []error
		isNot  func(error) bool
	}{
		"what was seen": {
			script: &script{gets: []answer{{dp: seenAs("b", "20", "False")}}, watches: []watches{never}},
			want: `^dataplane default/prod: waited \S+ for Ready: Ready=False \(Tested: as tested\); Connected not reported; ` +
				`GatewayProvisioned not reported; last error: none: context deadline exceeded$`,
			is: []error{context.DeadlineExceeded},
		},
		"nothing is there": {
			script: &script{gets: []answer{{err: notFound}}, watches: []watches{never}}, opts: []WaitOption{AllowMissing()},
			want: `for Ready: it is not there; last error: .* not found: context deadline exceeded$`,
		},
		"nobody answers": {
			script: &script{gets: []answer{{err: errors.New("connection refused")}}},
			want:   `for Ready: it was never seen; last error: connection refused: context deadline exceeded$`,
		},
		"it has come since": {
			script: &script{gets: []answer{{err: notFound}, {dp: seenAs("b", "20", "False")}}, watches: []watches{never}},
			opts:   []WaitOption{AllowMissing()},
			want:   `last error: none: context deadline exceeded$`,
			isNot:  apierrors.IsNotFound,
		},
		"the generation": {
			script: &script{gets: []answer{{dp: seenAs("b", "20", "True")}}, watches: []watches{never}},
			opts:   []WaitOption{MinGeneration(5)},
			want:   `for Ready: generation 4, want 5 or later; Ready=True `,
		},
		"no observed generation": {
			script: &script{gets: []answer{{dp: func() *v1alpha1.DataPlane {
				dp := seenAs("b", "20", "True")
				dp.Status.Conditions[0].ObservedGeneration = 0
				return dp
			}()}}, watches: []watches{never}},
			opts: []WaitOption{EvaluateWith(RequireObserved())},
			want: `Ready=True \(Tested: as tested\), observed generation not reported;`,
		},
		"FailOn": {
			script: &script{gets: []answer{{dp: seenAs("b", "20", "False")}}},
			opts:   []WaitOption{FailOn(func(Report) error { return hopeless })},
			want:   `last error: none: hopeless$`, is: []error{hopeless},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
			defer cancel()
			_, err := WaitFor(ctx, test.script, "prod", UntilTrue(ready), append(test.opts, Want("Ready"))...)
			require.Error(t, err)
			assert.Regexp(t, test.want, err.Error())
			for _, is := range test.is {
				require.ErrorIs(t, err, is)
			}
			if test.isNot != nil {
				assert.False(t, test.isNot(err))
			}
		})
	}
	assert.Equal(t, "dataplane prod: waited 0s for it: it was never seen; last error: none",
		(&WaitError{Key: types.NamespacedName{Name: "prod"}, Want: "it"}).Error(), "made by hand")
}

// Watches end now and then, as a load balancer ends them, and that is no failure.
func TestWaitForDoesNotBackOffFromWatchesThatEnd(t *testing.T) {
	t.Parallel() // it takes as long as such a watch
	w := newWaiter(nil, "prod", nil)
	for range 10 {
		w.backoff.Step()
	}
	require.Greater(t, w.backoff.Step(), time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &script{gets: []answer{{dp: seenAs("b", "20", "False")}}, watches: []watches{{life: maxBackoff + 100*time.Millisecond}}}
	w.client, w.met = s, func(*v1alpha1.DataPlane) (bool, error) { return false, nil }
	_, pause, err := w.round(ctx)
	require.NoError(t, err)
	assert.Less(t, pause, 100*time.Millisecond)
}

func TestWaitForSettlesWithoutAnEvent(t *testing.T) {
	dp := seenAs("b", "20", "True")
	dp.Status.Conditions[0].LastTransitionTime = metav1.NewTime(time.Now().Add(-time.Minute))
	for name, answers := range map[string]watches{"watched": {}, "polled": {err: forbidden}} {
		s := &script{gets: []answer{{dp: dp}}, watches: []watches{answers}}
		_, err := WaitFor(t.Context(), s, "prod", UntilTrue(ready), EvaluateWith(StableFor(time.Minute+100*time.Millisecond, nil)))
		require.NoError(t, err, name)
		assert.GreaterOrEqual(t, time.Since(dp.Status.Conditions[0].LastTransitionTime.Time), time.Minute+100*time.Millisecond)
	}
}
