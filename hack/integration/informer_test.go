// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
	openchoreolisters "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

func TestEndsOfTheAPIServer(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	p := ownPlane(t, crds.DataPlane())

	t.Run("clients and informers continue after a crash", func(t *testing.T) {
		s := p.space(t)
		s.create(t, behaviours.NewDataPlane("changed"))
		s.create(t, behaviours.NewDataPlane("deleted"))
		f := s.follow(t, s.openchoreo)
		f.awaitAll(t, awaited{added, "changed", ""}, awaited{added, "deleted", ""})

		require.NoError(t, p.APIServer.Kill())
		_, err := s.typed.Get(t.Context(), "changed", metav1.GetOptions{})
		require.Error(t, err)
		_, err = f.lister.Get("changed")
		require.NoError(t, err, "the cache needs no API server")
		require.NoError(t, p.APIServer.Start(t.Context()))

		dp := s.get(t, "changed")
		dp.Spec.Registry.Prefix = "docker.io/other"
		dp, err = s.typed.Update(t.Context(), dp, metav1.UpdateOptions{})
		require.NoError(t, err)
		require.NoError(t, s.typed.Delete(t.Context(), "deleted", metav1.DeleteOptions{}))
		created := s.create(t, behaviours.NewDataPlane("created"))
		f.awaitAll(t,
			awaited{updated, "changed", dp.ResourceVersion},
			awaited{added, "created", created.ResourceVersion},
			awaited{gone, "deleted", ""}, // the informer may have listed again before or after the deletion
		)
		f.requireCached(t, s)
	})

	t.Run("a watch from before the restart is expired", func(t *testing.T) {
		s := p.space(t)
		s.create(t, behaviours.NewDataPlane("prod"))
		list, err := s.typed.List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		s.setStatus(t, "prod", behaviours.SetConditions)
		require.NoError(t, p.APIServer.Restart(t.Context()))
		requireExpired(t, s, list.ResourceVersion)
	})

	// The informer learns of the deletion from a list: no watch has it.
	t.Run("an informer notices a deletion that happened while it was cut off", func(t *testing.T) {
		s := p.space(t)
		s.create(t, behaviours.NewDataPlane("kept"))
		s.create(t, behaviours.NewDataPlane("deleted"))
		line := newLine()
		far, _ := s.over(t, line)
		f := s.follow(t, far.openchoreo)
		f.awaitAll(t, awaited{added, "kept", ""}, awaited{added, "deleted", ""})

		line.cut()
		require.NoError(t, s.typed.Delete(t.Context(), "deleted", metav1.DeleteOptions{}))
		kept := s.setStatus(t, "kept", behaviours.SetConditions)
		created := s.create(t, behaviours.NewDataPlane("created"))
		require.NoError(t, p.APIServer.Restart(t.Context()))
		_, err := f.lister.Get("deleted")
		require.NoError(t, err, "the informer can't know yet")
		line.mend()

		f.awaitAll(t,
			awaited{updated, "kept", kept.ResourceVersion},
			awaited{added, "created", created.ResourceVersion},
			awaited{deletedUnseen, "deleted", ""},
		)
		f.requireCached(t, s)
	})

	t.Run("an event handler gets each change of an outage once", func(t *testing.T) {
		testEventHandlerCutOff(t, p.space(t))
	})

	t.Run("a wait watches an object from before the restart", func(t *testing.T) { testWaitForWatchesAnOldObject(t, p) })
	t.Run("waits continue after a crash", func(t *testing.T) { testWaitForOutlastsTheAPIServer(t, p) })
	t.Run("requests follow the API server", func(t *testing.T) { testRequestsFollowTheAPIServer(t, p) })
	t.Run("a frozen API server costs little", func(t *testing.T) { testAFrozenAPIServerCostsLittle(t, p) })
	// This comes last, because it ends etcd.
	t.Run("probes follow the state of the API server", func(t *testing.T) { testProbeFollowsTheAPIServer(t, p) })
}

type eventKind string

const (
	added         eventKind = "added"
	updated       eventKind = "updated"
	deleted       eventKind = "deleted"
	deletedUnseen eventKind = "deleted unseen" // as cache.DeletedFinalStateUnknown
	gone          eventKind = "gone"           // either kind of deletion; only for awaitAll
)

type informerEvent struct {
	kind   eventKind
	object *openchoreov1alpha1.DataPlane
}

// follower is a running informer, with the events of its handler.
type follower struct {
	lister openchoreolisters.DataPlaneNamespaceLister
	events chan informerEvent
}

// follow starts an informer that ends with the test, and returns when it has synced.
func (s *space) follow(t *testing.T, client openchoreoclient.Interface) *follower {
	t.Helper()
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0, openchoreoinformers.WithNamespace(s.namespace))
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
	f := &follower{lister: dataPlanes.Lister().DataPlanes(s.namespace), events: make(chan informerEvent, 100)}
	registration, err := dataPlanes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { f.events <- informerEvent{added, obj.(*openchoreov1alpha1.DataPlane)} },
		UpdateFunc: func(_, obj any) { f.events <- informerEvent{updated, obj.(*openchoreov1alpha1.DataPlane)} },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				f.events <- informerEvent{deletedUnseen, last.Obj.(*openchoreov1alpha1.DataPlane)}
				return
			}
			f.events <- informerEvent{deleted, obj.(*openchoreov1alpha1.DataPlane)}
		},
	})
	require.NoError(t, err)
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	ctx, cancel := context.WithTimeout(t.Context(), eventually)
	defer cancel()
	require.True(t, cache.WaitForCacheSync(ctx.Done(), registration.HasSynced), "the informer has not synced")
	return f
}

// await returns the object of the next event, which must have that kind and name.
func (f *follower) await(t *testing.T, kind eventKind, name string) *openchoreov1alpha1.DataPlane {
	t.Helper()
	got := f.next(t)
	require.Equal(t, kind, got.kind)
	require.Equal(t, name, got.object.Name)
	return got.object
}

func (f *follower) next(t *testing.T) informerEvent {
	t.Helper()
	select {
	case got := <-f.events:
		return got
	case <-time.After(eventually):
		require.Fail(t, "the informer sent no event")
		return informerEvent{}
	}
}

type awaited struct {
	kind            eventKind
	name            string
	resourceVersion string // "" is any
}

// awaitAll returns when all these events have come, in any order. An informer that lists again sends
// events for unchanged objects too.
func (f *follower) awaitAll(t *testing.T, wants ...awaited) {
	t.Helper()
	left := map[awaited]bool{}
	for _, w := range wants {
		left[w] = true
	}
	for len(left) > 0 {
		got := f.next(t)
		delete(left, awaited{got.kind, got.object.Name, got.object.ResourceVersion})
		delete(left, awaited{got.kind, got.object.Name, ""})
		if got.kind == deleted || got.kind == deletedUnseen {
			delete(left, awaited{gone, got.object.Name, ""})
		}
	}
}

// requireCached requires that the cache equals the API server's objects.
func (f *follower) requireCached(t *testing.T, s *space) {
	t.Helper()
	list, err := s.typed.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	cached, err := f.lister.List(labels.Everything())
	require.NoError(t, err)
	require.Len(t, cached, len(list.Items))
	for i := range list.Items {
		dp, err := f.lister.Get(list.Items[i].Name)
		require.NoError(t, err)
		behaviours.AssertSameCached(t, &list.Items[i], dp)
	}
}

// line is a network that can be cut. While it is cut, dials wait.
type line struct {
	mu          sync.Mutex
	whole       chan struct{} // closed while the line is not cut
	connections []net.Conn
}

func newLine() *line {
	l := &line{whole: make(chan struct{})}
	close(l.whole)
	return l
}

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	for {
		l.mu.Lock()
		whole := l.whole
		l.mu.Unlock()
		select {
		case <-whole:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		connection, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if l.add(connection, whole) {
			return connection, nil
		}
		_ = connection.Close()
	}
}

// add returns false if the line was cut after whole was read.
func (l *line) add(connection net.Conn, whole chan struct{}) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.whole != whole {
		return false
	}
	l.connections = append(l.connections, connection)
	return true
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.whole = make(chan struct{})
	for _, connection := range l.connections {
		_ = connection.Close()
	}
	l.connections = nil
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.whole)
}
