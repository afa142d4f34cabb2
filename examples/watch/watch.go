// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// watcher prints what happens to the DataPlanes of a namespace, or of all.
type watcher struct {
	config    *rest.Config
	namespace string
	print     printFunc
	trouble   *trouble
	handled   chan<- struct{} // gets one for each change, printed or not; nil for nobody

	failed context.CancelCauseFunc // of run
	lists  atomic.Int32            // how often the informer has asked for all DataPlanes
}

// run watches until meanwhile is over. That begins when all that was there is printed.
func (w *watcher) run(ctx context.Context, meanwhile func(context.Context) error) error {
	ctx, w.failed = context.WithCancelCause(ctx)
	defer w.failed(nil)
	if err := w.tryWatch(ctx); err != nil {
		return err
	}
	where := "in namespace " + w.namespace
	if w.namespace == metav1.NamespaceAll {
		where = "in all namespaces"
	}
	fmt.Fprintf(w.trouble.stderr, "watching DataPlanes %s of %s\n", where, w.config.Host)

	config := rest.CopyConfig(w.config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return connection{next, w} })
	client, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return err
	}
	transform, err := hideSecrets()
	if err != nil {
		return err
	}
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(client, 0,
		openchoreoinformers.WithNamespace(w.namespace), openchoreoinformers.WithTransform(transform))
	informer := factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
	if err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		w.watchError(ctx, err)
	}); err != nil {
		return err
	}
	registration, err := informer.AddEventHandler(w.handler(ctx))
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	defer func() {
		w.failed(nil)
		factory.Shutdown()
	}()
	if cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		err = meanwhile(ctx)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// tryWatch does once what the informer does again and again however often it fails, so
// that whoever may not do it, or asks the wrong cluster, learns that at once.
func (w *watcher) tryWatch(ctx context.Context) error {
	client, err := openchoreoclient.NewForConfig(w.config)
	if err != nil {
		return err
	}
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes(w.namespace)
	list, err := dataPlanes.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return fmt.Errorf("listing DataPlanes: %w", err)
	}
	watcher, err := dataPlanes.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return fmt.Errorf("watching DataPlanes: %w", err)
	}
	watcher.Stop()
	return nil
}

// handler is called for one change after the other.
func (w *watcher) handler(ctx context.Context) cache.ResourceEventHandler {
	done := func(err error) {
		if err != nil {
			w.failed(err)
		}
		if w.handled != nil {
			select {
			case w.handled <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}
	return helpers.EventHandler(helpers.EventHandlerFuncs{
		OnAdd:    func(dp *openchoreov1alpha1.DataPlane, initial bool) { done(w.added(dp, initial)) },
		OnUpdate: func(before, after *openchoreov1alpha1.DataPlane) { done(w.updated(before, after)) },
		OnDelete: func(last *openchoreov1alpha1.DataPlane) { done(w.print(newEvent(watch.Deleted, last))) },
	})
}

func (w *watcher) added(dp *openchoreov1alpha1.DataPlane, initial bool) error {
	event, err := added(dp, initial)
	if err != nil {
		return err
	}
	return w.print(event)
}

func (w *watcher) updated(before, after *openchoreov1alpha1.DataPlane) error {
	if before.UID != after.UID { // deleted and created again while the watch was interrupted
		return errors.Join(w.print(newEvent(watch.Deleted, before)), w.added(after, false))
	}
	// A watch tells of every write, and goes on where it was when its connection breaks. Only
	// when the informer had to list anew, several writes can have come as one update.
	event, different, err := modified(before, after, w.lists.Load() <= 1)
	if !different || err != nil {
		return err
	}
	return w.print(event)
}

// watchError is called with why the informer lists or watches anew, which is not always an error.
func (w *watcher) watchError(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	w.trouble.is(err)
}

// trouble says once what keeps the informer from watching, and when that is over.
type trouble struct {
	stderr io.Writer

	mu   sync.Mutex
	last helpers.Reachability // "" when there is none
}

func (t *trouble) is(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kind := helpers.Classify(err); kind != t.last {
		t.last = kind
		fmt.Fprintf(t.stderr, "watch: interrupted, trying again: %v\n", err)
	}
}

func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != "" {
		t.last = ""
		fmt.Fprintln(t.stderr, "watch: goes on")
	}
}

// connection tells of what an informer keeps to itself: that the API server can't be
// reached, which it just tries again, that it can be watched again, and that all has been
// listed anew.
type connection struct {
	next    http.RoundTripper
	watcher *watcher
}

// RoundTrip implements http.RoundTripper.
func (c connection) RoundTrip(request *http.Request) (*http.Response, error) {
	query := request.URL.Query()
	// A later client-go may list by a watch that begins with all there is.
	if (!query.Has("watch") && !query.Has("continue")) || query.Has("sendInitialEvents") {
		c.watcher.lists.Add(1)
	}
	response, err := c.next.RoundTrip(request)
	switch {
	case request.Context().Err() != nil:
	case err != nil:
		c.watcher.trouble.is(err)
	case response.StatusCode == http.StatusOK && query.Has("watch"):
		c.watcher.trouble.over()
	}
	return response, err
}
