// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

var untilReady = await.True(openchoreov1alpha1.DataPlaneConditionReady)

// waiting runs a wait in another goroutine.
func (s *space) waiting(ctx context.Context, opts ...await.Option) <-chan error {
	result := make(chan error, 1)
	go func() {
		dp, err := await.For(ctx, s.typed, "prod", untilReady, opts...)
		if err == nil && !helpers.IsReady(dp) {
			err = errors.New("the wait returned a DataPlane that is not ready")
		}
		result <- err
	}()
	return result
}

func ended(t *testing.T, result <-chan error) error {
	t.Helper()
	select {
	case err := <-result:
		return err
	case <-time.After(eventually):
		t.Fatal("the wait has not ended")
		return nil
	}
}

// goesOn requires that a wait has not ended yet.
func goesOn(t *testing.T, result <-chan error) {
	t.Helper()
	select {
	case err := <-result:
		t.Fatalf("the wait has ended: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
}

func (s *space) setReady(t *testing.T, status metav1.ConditionStatus, observed int64) *openchoreov1alpha1.DataPlane {
	t.Helper()
	patched, err := s.patchConditions(t, s.get(t, "prod"), metav1.Condition{
		Type: "Ready", Status: status, Reason: "AgentUnreachable", Message: "dial tcp: refused", ObservedGeneration: observed,
	})
	require.NoError(t, err)
	return patched
}

func TestWaitFor(t *testing.T) {
	t.Run("returns at once if the condition is already True", func(t *testing.T) {
		s := shared.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		s.setReady(t, metav1.ConditionTrue, 0)
		require.NoError(t, ended(t, s.waiting(t.Context())))
	})
	t.Run("returns when the condition becomes True", func(t *testing.T) {
		s := shared.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		result := s.waiting(t.Context())
		s.setReady(t, metav1.ConditionFalse, 0)
		goesOn(t, result)
		s.setReady(t, metav1.ConditionTrue, 0)
		require.NoError(t, ended(t, result))
	})
	t.Run("a condition of an earlier generation doesn't count", func(t *testing.T) {
		s := shared.space(t)
		dp := s.create(t, behaviours.NewDataPlane("prod"))
		s.setReady(t, metav1.ConditionTrue, 0)
		result := s.waiting(t.Context(), await.MinGeneration(dp.Generation+1))
		goesOn(t, result)
		changed := s.get(t, "prod")
		changed.Spec.Registry.Prefix = "docker.io/other"
		_, err := s.typed.Update(t.Context(), changed, metav1.UpdateOptions{})
		require.NoError(t, err)
		goesOn(t, result)
		s.setReady(t, metav1.ConditionTrue, 0)
		require.NoError(t, ended(t, result))
	})
	t.Run("the error of a deadline names the missing condition, and is no cancellation", func(t *testing.T) {
		s := shared.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		s.setStatus(t, "prod", func(status *openchoreov1alpha1.DataPlaneStatus) {
			status.Conditions = []metav1.Condition{behaviours.NewCondition("Created", metav1.ConditionTrue)}
		})
		s.setReady(t, metav1.ConditionFalse, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := ended(t, s.waiting(ctx))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, context.Canceled)
		var waitErr *await.Error
		require.ErrorAs(t, err, &waitErr)
		assert.Equal(t, metav1.ConditionFalse, waitErr.Last.Verdict("Ready").Status)
		assert.Regexp(t, `^data plane `+s.namespace+`/prod: waited \S+ for Ready=True: `+
			`Ready=False \(AgentUnreachable: dial tcp: refused\)( for \w+)?; Created=True \(\w+(: [^;]+)?\)( for \w+)?; `+
			`not reported: Connected, GatewayProvisioned: context deadline exceeded$`, err.Error())

		ctx, cancel = context.WithCancel(t.Context())
		result := s.waiting(ctx)
		goesOn(t, result)
		cancel()
		err = ended(t, result)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, context.DeadlineExceeded)

		slow := errors.New("took too long")
		ctx, cancel = context.WithTimeoutCause(t.Context(), time.Second, slow)
		defer cancel()
		err = ended(t, s.waiting(ctx))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, slow)
	})
	t.Run("a missing object ends the wait, unless AllowMissing is set", func(t *testing.T) {
		s := shared.space(t)
		err := ended(t, s.waiting(t.Context()))
		require.True(t, apierrors.IsNotFound(err), "%v", err)
		result := s.waiting(t.Context(), await.AllowMissing())
		goesOn(t, result)
		s.create(t, behaviours.NewDataPlane("prod"))
		s.setReady(t, metav1.ConditionTrue, 0)
		require.NoError(t, ended(t, result))
	})
	t.Run("a deletion ends the wait", func(t *testing.T) {
		s := shared.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		result := s.waiting(t.Context())
		goesOn(t, result)
		require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
		require.ErrorIs(t, ended(t, result), helpers.ErrDeleted)
	})
	t.Run("a deletion timestamp ends the wait", func(t *testing.T) {
		s := shared.space(t)
		dp := behaviours.NewDataPlane("prod")
		dp.Finalizers = []string{"example.com/hold"}
		s.create(t, dp)
		result := s.waiting(t.Context())
		goesOn(t, result)
		require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
		require.ErrorIs(t, ended(t, result), helpers.ErrDeleted)
	})
	t.Run("FollowReplacement waits for another object with the name", func(t *testing.T) {
		s := shared.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		result := s.waiting(t.Context(), await.FollowReplacement())
		goesOn(t, result)
		require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
		s.create(t, behaviours.NewDataPlane("prod"))
		s.setReady(t, metav1.ConditionTrue, 0)
		require.NoError(t, ended(t, result))
	})
	t.Run("another object with the name starts at generation 1", func(t *testing.T) {
		s := shared.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		s.setReady(t, metav1.ConditionTrue, 0)
		result := s.waiting(t.Context(), await.FollowReplacement(), await.MinGeneration(2))
		goesOn(t, result)
		require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
		s.create(t, behaviours.NewDataPlane("prod"))
		s.setReady(t, metav1.ConditionTrue, 0)
		require.NoError(t, ended(t, result))
	})
	t.Run("the UID identifies an object that was replaced before the wait", func(t *testing.T) {
		s := shared.space(t)
		uid := s.create(t, behaviours.NewDataPlane("prod")).UID
		require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
		require.ErrorIs(t, ended(t, s.waiting(t.Context(), await.UID(uid))), helpers.ErrDeleted)
		s.create(t, behaviours.NewDataPlane("prod"))
		s.setReady(t, metav1.ConditionTrue, 0)
		require.ErrorIs(t, ended(t, s.waiting(t.Context(), await.UID(uid))), helpers.ErrReplaced)
		require.NoError(t, ended(t, s.waiting(t.Context(), await.UID(uid), await.FollowReplacement())))
		require.NoError(t, await.ForDeletion(t.Context(), s.typed, "prod", await.UID(uid)))
	})
	t.Run("an error of FailOn ends the wait", func(t *testing.T) {
		s := shared.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		hopeless := errors.New("hopeless")
		result := s.waiting(t.Context(), await.FailOn(func(r helpers.Report) error {
			if r.Verdict("Ready").Reason == "AgentUnreachable" {
				return hopeless
			}
			return nil
		}))
		goesOn(t, result)
		s.setReady(t, metav1.ConditionFalse, 0)
		require.ErrorIs(t, ended(t, result), hopeless)
	})
	t.Run("ForDeletion returns when the object is gone", func(t *testing.T) {
		s := shared.space(t)
		require.NoError(t, await.ForDeletion(t.Context(), s.typed, "prod"))
		dp := behaviours.NewDataPlane("prod")
		dp.Finalizers = []string{"example.com/hold"}
		s.create(t, dp)
		result := make(chan error, 1)
		go func() { result <- await.ForDeletion(t.Context(), s.typed, "prod") }()
		require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
		goesOn(t, result)
		held := s.get(t, "prod")
		held.Finalizers = nil
		_, err := s.typed.Update(t.Context(), held, metav1.UpdateOptions{})
		require.NoError(t, err)
		require.NoError(t, ended(t, result))

		s.create(t, behaviours.NewDataPlane("prod"))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err = await.ForDeletion(ctx, s.typed, "prod")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "for deletion")
	})
}

func TestWaitForAConditionToSettle(t *testing.T) {
	t.Parallel()
	s := shared.space(t)
	s.create(t, behaviours.NewDataPlane("prod"))
	const d = 2 * time.Second
	result := s.waiting(t.Context(), await.JudgeBy(helpers.StableFor(d, nil)))
	goesOn(t, result)
	since := s.setReady(t, metav1.ConditionTrue, 0).Status.Conditions[0].LastTransitionTime
	require.NoError(t, ended(t, result)) // without another change
	assert.GreaterOrEqual(t, time.Since(since.Time), d)
}

// as returns a client of a user with these verbs on DataPlanes of the namespace.
func (s *space) as(t *testing.T, verbs ...string) openchoreotyped.DataPlaneInterface {
	t.Helper()
	user := addUser(t, s.plane, "user-of-"+s.namespace)
	if len(verbs) > 0 {
		s.grant(t, user.Name, "openchoreo.dev", "dataplanes", verbs...)
	}
	client, err := openchoreoclient.NewForConfig(user.Config())
	require.NoError(t, err)
	typed := client.OpenChoreoV1alpha1().DataPlanes(s.namespace)
	if len(verbs) > 0 { // the API server needs a moment to notice
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			_, err := typed.Get(t.Context(), "prod", metav1.GetOptions{})
			require.NoError(c, err)
		}, eventually, tick)
	}
	return typed
}

func TestWaitForWithFewRights(t *testing.T) {
	t.Parallel()
	t.Run("none", func(t *testing.T) {
		s := shared.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		_, err := await.For(t.Context(), s.as(t), "prod", untilReady)
		require.True(t, apierrors.IsForbidden(err), "%v", err)
	})
	t.Run("get only", func(t *testing.T) {
		s := shared.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		client := s.as(t, "get")
		result := make(chan error, 1)
		go func() {
			_, err := await.For(t.Context(), client, "prod", untilReady)
			result <- err
		}()
		goesOn(t, result)
		s.setReady(t, metav1.ConditionTrue, 0)
		require.NoError(t, ended(t, result))
	})
}

// Waits continue when an API server is killed and loses its watch cache, even the waits of a user whom
// it refuses until it has read all roles.
func testWaitForOutlastsTheAPIServer(t *testing.T, p *plane) {
	s := p.space(t)
	s.create(t, behaviours.NewDataPlane("prod"))
	s.create(t, behaviours.NewDataPlane("other"))
	const waits = 200
	user := &watchCounter{DataPlaneInterface: s.as(t, "get", "list", "watch")}
	var all sync.WaitGroup
	for range waits {
		all.Add(1)
		go func() {
			defer all.Done()
			dp, err := await.For(t.Context(), user, "prod", untilReady)
			if assert.NoError(t, err) {
				assert.True(t, helpers.IsReady(dp))
			}
		}()
	}
	gone := make(chan error, 1)
	go func() { gone <- await.ForDeletion(t.Context(), user, "other") }()
	require.Eventually(t, func() bool { return user.begun.Load() == waits+1 }, eventually, tick)
	s.flip(t, "prod", metav1.ConditionFalse, metav1.ConditionUnknown)
	require.NoError(t, p.APIServer.Kill())
	goesOn(t, gone)
	require.NoError(t, p.APIServer.Start(t.Context()))
	s.flip(t, "prod", metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionTrue)
	require.NoError(t, s.typed.Delete(t.Context(), "other", metav1.DeleteOptions{}))
	require.NoError(t, ended(t, gone))
	all.Wait()
}

// flip sets an object's Ready to one status after the other.
func (s *space) flip(t *testing.T, name string, statuses ...metav1.ConditionStatus) {
	t.Helper()
	for _, status := range statuses {
		_, err := s.patchConditions(t, s.get(t, name),
			metav1.Condition{Type: "Ready", Status: status, Reason: "Flipped"})
		require.NoError(t, err)
	}
}

func TestManyWaitsAtOnce(t *testing.T) {
	const waits, planes = 200, 20
	s := shared.space(t)
	var all sync.WaitGroup
	before := runtime.NumGoroutine()
	client := &watchCounter{DataPlaneInterface: s.typed}
	for i := range waits {
		name := fmt.Sprint("dp-", i%planes)
		if i < planes {
			s.create(t, behaviours.NewDataPlane(name))
		}
		all.Add(1)
		go func() {
			defer all.Done()
			dp, err := await.For(t.Context(), client, name, untilReady)
			if assert.NoError(t, err) {
				assert.True(t, helpers.IsReady(dp))
			}
		}()
	}
	require.Eventually(t, func() bool { return client.begun.Load() == waits }, eventually, tick)
	for _, status := range []metav1.ConditionStatus{metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionTrue} {
		for i := range planes {
			s.flip(t, fmt.Sprint("dp-", i), status)
		}
	}
	all.Wait()
	requireNoMoreGoroutines(t, before)
}

// requireNoMoreGoroutines requires that no goroutines are left, except those of a client's connection.
func requireNoMoreGoroutines(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(eventually); runtime.NumGoroutine() > before+5; time.Sleep(tick) {
		require.True(t, time.Now().Before(deadline), "goroutines are left: %d, before %d", runtime.NumGoroutine(), before)
	}
}
