// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package await_test

import (
	"context"
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
)

// hack/integration waits on real API servers. The scripts here give answers that are rare there:
// from a lagging watch cache, a starting server, or other servers.

// script is a client with prepared answers. It repeats the last answer, and ends the wait's context
// with errOver when all events of the last watch are received.
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

// stream is a watch that sends events, or fails. It ends after its life, if life isn't 0.
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

// forAllNamespaces is a client that doesn't show its namespace.
type forAllNamespaces struct {
	await.Client[*v1alpha1.DataPlane]
}

// watchTeller sends on a channel when a watch has begun.
type watchTeller[T helpers.Object] struct {
	await.Client[T]
	watching chan<- struct{}
}

func (w watchTeller[T]) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	watcher, err := w.Client.Watch(ctx, opts)
	w.watching <- struct{}{}
	return watcher, err
}
