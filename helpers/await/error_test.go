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
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

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
		"the conditions as judged by the options": {
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
		"a missing object, with AllowMissing": {
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
		"another type decides Ready": {
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
