// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// The wait's connection is cut until etcd has compacted the resource version from which its next watch
// begins. The test chooses that version; by itself, a wait begins from the latest. No watch cache hides
// the compaction.
func TestWaitForOutlastsACompaction(t *testing.T) {
	skipIfShort(t)
	t.Parallel()
	p := ownPlane(t, crds.DataPlane(),
		controlplane.WithAPIServerFlags("--watch-cache=false", "--etcd-compaction-interval=1s"))
	s := p.space(t)
	s.create(t, behaviours.NewDataPlane("other"))
	s.create(t, behaviours.NewDataPlane("prod"))
	resourceVersion := s.setReady(t, metav1.ConditionFalse, 0).ResourceVersion
	l := newLine()
	far, watches := s.over(t, l)
	var result <-chan error
	pprof.Do(t.Context(), pprof.Labels("wait", s.namespace), func(ctx context.Context) { result = far.waiting(ctx) })
	require.Eventually(t, func() bool { return watches.begun.Load() == 1 }, eventually, tick)

	l.cut()
	deadline := time.Now().Add(2 * eventually)
	for !s.forgotten(t, "other", resourceVersion) {
		require.True(t, time.Now().Before(deadline), "nothing was compacted")
		time.Sleep(tick)
	}
	require.Zero(t, watches.expired.Load())
	watches.from.Store(&resourceVersion)
	l.mend()
	require.Eventually(t, func() bool { return watches.expired.Load() > 0 }, eventually, tick)
	// It watches again from a later change, which doesn't end the wait.
	told := watches.told.Load()
	for observed := int64(2); watches.told.Load() == told; observed++ {
		require.True(t, time.Now().Before(deadline), "the wait has not watched again")
		s.setReady(t, metav1.ConditionFalse, observed)
		time.Sleep(tick)
	}
	goesOn(t, result)
	s.setReady(t, metav1.ConditionTrue, 0)
	require.NoError(t, ended(t, result))

	transport := far.openchoreo.OpenChoreoV1alpha1().RESTClient().(*rest.RESTClient).Client.Transport
	left := func() string {
		utilnet.CloseIdleConnectionsFor(transport) // their goroutines aren't the wait's
		var goroutines bytes.Buffer
		require.NoError(t, pprof.Lookup("goroutine").WriteTo(&goroutines, 1))
		if !strings.Contains(goroutines.String(), s.namespace) {
			return ""
		}
		return goroutines.String()
	}
	for ; left() != ""; time.Sleep(tick) {
		require.True(t, time.Now().Before(deadline), "goroutines of the wait are left:\n%s", left())
	}
}

// forgotten returns whether a watch from a resource version is refused, after a change that it would
// otherwise send.
func (s *space) forgotten(t *testing.T, change, resourceVersion string) bool {
	t.Helper()
	s.setStatus(t, change, func(status *openchoreov1alpha1.DataPlaneStatus) { status.ObservedGeneration++ })
	event := next(t, s.watch(t, metav1.ListOptions{ResourceVersion: resourceVersion}))
	if event.Type != watch.Error {
		return false
	}
	err := apierrors.FromObject(event.Object)
	require.True(t, apierrors.IsResourceExpired(err), "%v", err)
	return true
}

// An object may be older than all changes that the API server still has, such as an object that hasn't
// changed since the server started. A wait watches it nevertheless.
func testWaitForWatchesAnOldObject(t *testing.T, p *plane) {
	s := p.space(t)
	s.create(t, behaviours.NewDataPlane("prod"))
	resourceVersion := s.setReady(t, metav1.ConditionFalse, 0).ResourceVersion
	s.create(t, behaviours.NewDataPlane("later"))
	require.NoError(t, p.APIServer.Restart(t.Context()))
	require.Eventually(t, func() bool { return s.forgotten(t, "later", resourceVersion) }, eventually, tick)
	far, watches := s.over(t, newLine())
	result := far.waiting(t.Context())
	require.Eventually(t, func() bool { return watches.told.Load() > 0 }, eventually, tick, "the watch sent no event")
	goesOn(t, result)
	s.setReady(t, metav1.ConditionTrue, 0)
	require.NoError(t, ended(t, result))
	assert.EqualValues(t, 1, watches.begun.Load())
	assert.Zero(t, watches.expired.Load())
}

// While a wait's connection is cut, no watch sends it the changes.
func TestWaitForNoticesChangesThatNoWatchHasSent(t *testing.T) {
	t.Parallel()
	remove := func(t *testing.T, s *space) {
		t.Helper()
		require.NoError(t, s.typed.Delete(t.Context(), "prod", metav1.DeleteOptions{}))
	}
	replace := func(t *testing.T, s *space) {
		t.Helper()
		remove(t, s)
		s.create(t, behaviours.NewDataPlane("prod"))
		s.setReady(t, metav1.ConditionTrue, 0)
	}
	for name, test := range map[string]struct {
		unwatched   func(*testing.T, *space)
		opts        []await.Option
		want        error // nil is success
		wantDeleted error
	}{
		"it became ready": {
			unwatched:   func(t *testing.T, s *space) { t.Helper(); s.setReady(t, metav1.ConditionTrue, 0) },
			wantDeleted: context.Canceled,
		},
		"it was deleted":                          {unwatched: remove, want: helpers.ErrDeleted},
		"it was replaced by one that is ready":    {unwatched: replace, want: helpers.ErrReplaced},
		"it was replaced by one that is followed": {unwatched: replace, opts: []await.Option{await.FollowReplacement()}},
	} {
		t.Run(name, func(t *testing.T) {
			s := shared.space(t)
			uid := s.create(t, behaviours.NewDataPlane("prod")).UID
			l := newLine()
			far, watches := s.over(t, l)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			result := far.waiting(ctx, test.opts...)
			deletion := make(chan error, 1)
			go func() { deletion <- await.ForDeletion(ctx, far.typed, "prod") }()
			require.Eventually(t, func() bool { return watches.begun.Load() == 2 }, eventually, tick)

			l.cut()
			test.unwatched(t, s)
			goesOn(t, result)
			goesOn(t, deletion)
			l.mend()
			err := ended(t, result)
			require.ErrorIs(t, err, test.want)
			if test.want != nil {
				var waitErr *await.Error
				require.ErrorAs(t, err, &waitErr)
				assert.Equal(t, uid, waitErr.UID, "the object that was waited for")
				assert.Equal(t, s.namespace, waitErr.Key.Namespace)
			}
			if test.wantDeleted != nil {
				goesOn(t, deletion)
				cancel()
			}
			require.ErrorIs(t, ended(t, deletion), test.wantDeleted)
		})
	}
}

// over returns the namespace with clients over a line, and the counter of its typed client's watches.
func (s *space) over(t *testing.T, l *line) (*space, *watchCounter) {
	t.Helper()
	config := s.Config()
	config.Dial = l.dial
	client, err := openchoreoclient.NewForConfig(config)
	require.NoError(t, err)
	p := *s.plane
	p.openchoreo = client
	far := p.in(s.namespace)
	watches := &watchCounter{DataPlaneInterface: far.typed}
	far.typed = watches
	return far, watches
}

// watchCounter counts watches, their events, and the watches that the API server refuses because their
// resource version is too old.
type watchCounter struct {
	openchoreotyped.DataPlaneInterface
	begun, told, expired atomic.Int64
	from                 atomic.Pointer[string] // the resource version from which the next watch begins
}

func (c *watchCounter) Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	if from := c.from.Swap(nil); from != nil {
		opts.ResourceVersion = *from
	}
	watcher, err := c.DataPlaneInterface.Watch(ctx, opts)
	if err != nil {
		return nil, err
	}
	c.begun.Add(1)
	events := make(chan watch.Event)
	proxy := watch.NewProxyWatcher(events)
	go func() {
		defer close(events)
		defer watcher.Stop()
		for {
			var event watch.Event
			var open bool
			select {
			case event, open = <-watcher.ResultChan():
			case <-proxy.StopChan():
			}
			if !open {
				return
			}
			switch {
			case event.Type != watch.Error:
				c.told.Add(1)
			case apierrors.IsResourceExpired(apierrors.FromObject(event.Object)):
				c.expired.Add(1)
			}
			select {
			case events <- event:
			case <-proxy.StopChan():
				return
			}
		}
	}()
	return proxy, nil
}
