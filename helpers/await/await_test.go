// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package await_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
)

// hack/integration waits on real API servers. The scripts here give answers that those
// give rarely: those of a lagging watch cache, a server that starts, or other servers.

// script is an API server that gives prepared answers, the last one again and again. It
// ends the wait's context with errOver when all events of the last watch are received.
type script struct {
	gets    []answer
	watches []stream

	got, watched int
	watchedAt    []time.Time
	over         func()
}

type answer struct {
	dp  *v1alpha1.DataPlane
	err error
}

// stream is a watch that sends events, or fails. It ends after its life, if it has one.
type stream struct {
	events []watch.Event
	err    error
	life   time.Duration
}

var errOver = errors.New("script is over")

// context returns the context to run the script with.
func (s *script) context(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	s.over = func() { cancel(errOver) }
	t.Cleanup(s.over)
	return ctx
}

func (s *script) Get(context.Context, string, metav1.GetOptions) (*v1alpha1.DataPlane, error) {
	a := s.gets[min(s.got, len(s.gets)-1)]
	if s.got++; s.got > len(s.gets)+1 {
		s.over()
	}
	return a.dp, a.err
}

func (s *script) Watch(context.Context, metav1.ListOptions) (watch.Interface, error) {
	w := s.watches[min(s.watched, len(s.watches)-1)]
	last := s.watched >= len(s.watches)-1
	s.watched++
	s.watchedAt = append(s.watchedAt, time.Now())
	if w.err != nil {
		return nil, w.err
	}
	events := make(chan watch.Event)
	proxy := watch.NewProxyWatcher(events)
	go func() {
		defer close(events)
		for _, event := range w.events {
			select {
			case events <- event:
			case <-proxy.StopChan():
				return
			}
		}
		switch {
		case w.life > 0:
			select {
			case <-time.After(w.life):
			case <-proxy.StopChan():
			}
		case last:
			s.over()
			<-proxy.StopChan()
		}
	}()
	return proxy, nil
}

// seen returns an object at a resource version. Its generation is 4.
func seen(uid types.UID, resourceVersion string, ready metav1.ConditionStatus, edits ...func(*v1alpha1.DataPlane)) *v1alpha1.DataPlane {
	dp := &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod", UID: uid, ResourceVersion: resourceVersion, Generation: 4},
		Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{{
			Type: "Ready", Status: ready, Reason: "Tested", Message: "as tested", ObservedGeneration: 4,
		}}},
	}
	for _, edit := range edits {
		edit(dp)
	}
	return dp
}

func terminating(dp *v1alpha1.DataPlane) { dp.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }

func unobserved(dp *v1alpha1.DataPlane) { dp.Status.Conditions[0].ObservedGeneration = 0 }

func firstGeneration(dp *v1alpha1.DataPlane) {
	dp.Generation = 1
	dp.Status.Conditions[0].ObservedGeneration = 1
}

var (
	ready        = await.True(v1alpha1.DataPlaneConditionReady)
	notFound     = apierrors.NewNotFound(v1alpha1.Resource("dataplanes"), "prod")
	notServed    = apierrors.NewGenericServerResponse(404, "get", v1alpha1.Resource("dataplanes"), "prod", "404 page not found", 0, true)
	forbidden    = apierrors.NewForbidden(v1alpha1.Resource("dataplanes"), "prod", errors.New("no role found"))
	unauthorized = apierrors.NewUnauthorized("who are you?")
	expired      = apierrors.NewResourceExpired("too old")
	errRefused   = errors.New("connection refused")
	silent       = []stream{{}}
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

func TestObjectBeingDeletedIsNotWhatIsWaitedFor(t *testing.T) {
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

// An object that is created again starts at generation 1.
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
		"the object is there": {get: answer{dp: seen("a", "20", "True")}, deletion: errOver},
		"it was replaced":     {get: answer{dp: seen("b", "20", "True")}, err: helpers.ErrReplaced},
		"it was replaced, and replacements are followed": {get: answer{dp: seen("b", "20", "True")}, opts: []await.Option{await.FollowReplacement()}},
		"it was deleted": {get: answer{err: notFound}, err: helpers.ErrDeleted},
		"it was deleted, and AllowMissing is set":       {get: answer{err: notFound}, opts: []await.Option{await.AllowMissing()}, err: helpers.ErrDeleted},
		"it was deleted, and replacements are followed": {get: answer{err: notFound}, opts: []await.Option{await.FollowReplacement()}, err: errOver},
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

func TestWhatCannotComeIsNotWaitedFor(t *testing.T) {
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

// forAllNamespaces is a client whose namespace can't be asked for.
type forAllNamespaces struct {
	await.Client[*v1alpha1.DataPlane]
}

func TestErrorsNameTheObjectAndWhatIsMissing(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) })
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	client := openchoreoclient.NewForConfigOrDie(&rest.Config{Host: server.URL, QPS: -1}).OpenChoreoV1alpha1()
	const noPath = `the server could not find the requested resource \(get dataplanes.openchoreo.dev prod\)`
	const notInstalled = `the API server doesn't serve DataPlanes \(is their definition installed\?\): ` + noPath

	t.Run("no definition", func(t *testing.T) {
		t.Parallel()
		_, err := await.For(t.Context(), client.DataPlanes("default"), "prod", ready)
		assert.Regexp(t, `^data plane default/prod: waited \w+ for Ready=True: `+notInstalled+`$`, err)
		assert.True(t, apierrors.IsNotFound(err))
		err = await.ForDeletion(t.Context(), client.DataPlanes("default"), "prod")
		assert.Regexp(t, `^data plane default/prod: waited \w+ for deletion: `+notInstalled+`$`, err)
	})
	t.Run("no definition until the end", func(t *testing.T) {
		t.Parallel()
		s := &script{gets: []answer{{err: notServed}}}
		_, err := await.For(s.context(t), s, "prod", ready, await.AllowMissing())
		assert.Regexp(t, `^data plane prod: waited \w+ for Ready=True: last error: the API server doesn't serve DataPlanes \(.*\): `+
			noPath+`: context canceled: script is over$`, err)
	})
	t.Run("no definition, or no namespace", func(t *testing.T) {
		t.Parallel()
		_, err := await.For(t.Context(), forAllNamespaces{client.DataPlanes("")}, "prod", ready)
		assert.Regexp(t, `^data plane prod: waited \w+ for Ready=True: `+
			`the API server doesn't serve DataPlanes \(is their definition installed, and does the client have a namespace\?\): `+noPath+`$`, err)
	})
	t.Run("no definition of ClusterDataPlanes", func(t *testing.T) {
		t.Parallel()
		_, err := await.For(t.Context(), client.ClusterDataPlanes(), "prod", ready)
		assert.Regexp(t, `^data plane prod: waited \w+ for Ready=True: `+
			`the API server doesn't serve ClusterDataPlanes \(is their definition installed\?\): `, err)
	})
	t.Run("no object", func(t *testing.T) {
		t.Parallel()
		for name, dataPlanes := range map[string]await.Client[*v1alpha1.DataPlane]{
			"generated fake": fake.NewClientset().OpenChoreoV1alpha1().DataPlanes("default"),
			"dataplanetest":  dataplanetest.NewClientset().OpenChoreoV1alpha1().DataPlanes("default"),
		} {
			_, err := await.For(t.Context(), dataPlanes, "prod", ready)
			assert.Regexp(t, `^data plane default/prod: waited \w+ for Ready=True: dataplanes.openchoreo.dev "prod" not found$`, err, name)
		}
	})
}

func TestForTakesClusterDataPlanes(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(&v1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Name: "default", UID: "1"}}).
		OpenChoreoV1alpha1().ClusterDataPlanes()
	events := make(chan struct{}, 10) // more than there are watches
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

func TestErrorText(t *testing.T) {
	t.Parallel()
	const nothingElse = `; not reported: Connected, GatewayProvisioned, Created`
	const nothing = `; not reported: Ready, Connected, GatewayProvisioned`
	const created = `Created=True (Tested: as tested)`
	ofType := func(conditionType string) func(*v1alpha1.DataPlane) {
		return func(dp *v1alpha1.DataPlane) { dp.Status.Conditions[0].Type = conditionType }
	}
	was := func(dp *v1alpha1.DataPlane) *script { return &script{gets: []answer{{dp: dp}}, watches: silent} }
	for name, test := range map[string]struct {
		script *script
		until  []string // Ready unless set
		opts   []await.Option
		want   string // after the duration
	}{
		"the conditions": {
			script: was(seen("b", "20", "False")),
			want:   `Ready=False (Tested: as tested)` + nothingElse + `: context canceled: script is over`,
		},
		"the conditions as the options have it": {
			script: was(seen("b", "20", "True", unobserved)),
			opts:   []await.Option{await.JudgeBy(helpers.RequireObserved())},
			want:   `Ready=Unknown, observed generation not reported: reported True (Tested: as tested)` + nothingElse + `: context canceled: script is over`,
		},
		"the generation": {
			script: was(seen("b", "20", "True")),
			opts:   []await.Option{await.MinGeneration(5)},
			want:   `generation 4, want 5 or later; Ready=True (Tested: as tested)` + nothingElse + `: context canceled: script is over`,
		},
		"an error of FailOn": {
			script: was(seen("b", "20", "False")),
			opts:   []await.Option{await.FailOn(func(helpers.Report) error { return errors.New("hopeless") })},
			want:   `Ready=False (Tested: as tested)` + nothingElse + `: hopeless`,
		},
		"the last error": {
			script: &script{gets: []answer{{dp: seen("b", "20", "False")}}, watches: []stream{{err: errRefused}, {}}},
			want:   `Ready=False (Tested: as tested)` + nothingElse + `; last error: connection refused: context canceled: script is over`,
		},
		"the error that ended a watch": {
			script: &script{
				gets:    []answer{{dp: seen("b", "20", "False")}},
				watches: []stream{{events: []watch.Event{{Type: watch.Error, Object: &expired.ErrStatus}}, life: time.Minute}, {}},
			},
			want: `Ready=False (Tested: as tested)` + nothingElse + `; last error: too old: context canceled: script is over`,
		},
		"an unreachable API server": {
			script: &script{gets: []answer{{err: errRefused}}},
			want:   `last error: connection refused: context canceled: script is over`,
		},
		"a missing object, once": {
			script: &script{gets: []answer{{err: notFound}}},
			want:   `dataplanes.openchoreo.dev "prod" not found`,
		},
		"a missing object that may come": {
			script: &script{gets: []answer{{err: notFound}}, watches: silent},
			opts:   []await.Option{await.AllowMissing()},
			want:   `last error: dataplanes.openchoreo.dev "prod" not found: context canceled: script is over`,
		},
		"no NotFound of an object that was created later": {
			script: &script{gets: []answer{{err: notFound}, {dp: seen("b", "20", "False")}}, watches: silent},
			opts:   []await.Option{await.AllowMissing()},
			want:   `Ready=False (Tested: as tested)` + nothingElse + `: context canceled: script is over`,
		},
		"no conditions of a former object": {
			script: &script{
				gets:    []answer{{dp: seen("b", "20", "True", terminating)}},
				watches: []stream{{events: []watch.Event{{Type: watch.Deleted, Object: seen("b", "21", "True")}}}},
			},
			opts: []await.Option{await.FollowReplacement()},
			want: `last error: data plane was deleted: context canceled: script is over`,
		},
		"another type says that it is ready": {
			script: was(seen("b", "20", "True", ofType("Created"))),
			want:   created + nothing + `; to judge by what OpenChoreo reports, see helpers.Stock: context canceled: script is over`,
		},
		"another type, and Ready isn't waited for": {
			script: was(seen("b", "20", "True", ofType("Created"))), until: []string{"AgentReady"},
			want: `AgentReady not reported; ` + created + nothing + `: context canceled: script is over`,
		},
		"no condition": {
			script: was(seen("b", "20", "True", func(dp *v1alpha1.DataPlane) { dp.Status.Conditions = nil })),
			want:   `not reported: Ready, Connected, GatewayProvisioned, Created: context canceled: script is over`,
		},
		"a misspelt type": {
			script: was(seen("b", "20", "True", ofType("Created"))), until: []string{"Creatd", "Created"},
			want: `Creatd not reported; ` + created + nothing + `: context canceled: script is over`,
		},
		"a type in lower case": {
			script: was(seen("b", "20", "False")), until: []string{"ready", "connected", "Connected"},
			want: `ready not reported (did you mean Ready?); connected not reported (did you mean Connected?); ` +
				`Ready=False (Tested: as tested)` + nothingElse + `: context canceled: script is over`,
		},
		"a type that is False": {
			script: was(seen("b", "20", "False", ofType("Created"))), until: []string{"Created"},
			want: `Created=False (Tested: as tested)` + nothing + `: context canceled: script is over`,
		},
		"a deletion": {
			script: was(seen("b", "20", "True", terminating)),
			want:   `Ready=False, being deleted: reported True (Tested: as tested)` + nothingElse + `: data plane was deleted or is being deleted`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			until := ready
			if test.until != nil {
				until = await.True(test.until...)
			}
			_, err := await.For(test.script.context(t), test.script, "prod", until, test.opts...)
			var awaitErr *await.Error
			require.ErrorAs(t, err, &awaitErr)
			awaitErr.Elapsed, awaitErr.Key.Namespace, awaitErr.Want = 30*time.Second, "default", "it"
			assert.Equal(t, "data plane default/prod: waited 30s for it: "+test.want, err.Error())
		})
	}
	assert.Equal(t, "data plane prod: waited 0s for it",
		(&await.Error{Key: types.NamespacedName{Name: "prod"}, Want: "it"}).Error(), "made by hand")
}

func TestErrorIs(t *testing.T) {
	t.Parallel()
	why := errors.New("why")
	for name, test := range map[string]struct {
		end       func(context.Context) (context.Context, context.CancelFunc)
		is, isNot []error
	}{
		"a deadline": {
			end: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Millisecond)
			},
			is: []error{context.DeadlineExceeded}, isNot: []error{context.Canceled},
		},
		"a deadline and its cause": {
			end: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeoutCause(ctx, time.Millisecond, why)
			},
			is: []error{context.DeadlineExceeded, why}, isNot: []error{context.Canceled},
		},
		"a cancellation and its cause": {
			end: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				cancel(why)
				return ctx, func() { cancel(nil) }
			},
			is: []error{context.Canceled, why}, isNot: []error{context.DeadlineExceeded},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := test.end(t.Context())
			defer cancel()
			s := &script{gets: []answer{{dp: seen("b", "20", "False")}}, watches: silent, over: func() {}}
			_, err := await.For(ctx, s, "prod", ready)
			s = &script{gets: []answer{{dp: seen("b", "20", "False")}}, watches: silent, over: func() {}}
			for _, err := range []error{err, await.ForDeletion(ctx, s, "prod")} {
				for _, is := range test.is {
					require.ErrorIs(t, err, is)
				}
				for _, isNot := range test.isNot {
					require.NotErrorIs(t, err, isNot)
				}
			}
		})
	}
	t.Run("an error that passed", func(t *testing.T) {
		t.Parallel()
		s := &script{gets: []answer{{err: errRefused}, {dp: seen("b", "20", "False")}}, watches: silent}
		_, err := await.For(s.context(t), s, "prod", ready)
		require.ErrorIs(t, err, errRefused)
	})
	t.Run("no timeout of a request that passed", func(t *testing.T) {
		t.Parallel()
		timeout := &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("tcp: %w", context.DeadlineExceeded)}
		s := &script{gets: []answer{{err: timeout}, {dp: seen("b", "20", "False")}}, watches: silent}
		_, err := await.For(s.context(t), s, "prod", ready)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, timeout.Error())
	})
}

func TestForSucceedsAtOnceEvenIfTheContextHasEnded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := await.For(ctx, &script{gets: []answer{{dp: seen("b", "20", "True")}}}, "prod", ready)
	require.NoError(t, err)
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
	}), await.MinGeneration(5)) // which has no effect
	require.ErrorIs(t, err, hopeless)
	require.NotContains(t, err.Error(), "generation")
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
	assert.Equal(t, 3, calls, "one for each get, and one when the report changes")
}

// API servers begin a watch with the object as it was got.
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

// The generated fake sets neither UID nor generation, and keeps the resource version that
// a test gives.
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

// watchTeller tells of watches that have begun.
type watchTeller[T helpers.Object] struct {
	await.Client[T]
	watching chan<- struct{}
}

func (w watchTeller[T]) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	watcher, err := w.Client.Watch(ctx, opts)
	w.watching <- struct{}{}
	return watcher, err
}
