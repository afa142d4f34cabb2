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
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// watcher prints the changes of the DataPlanes of one namespace or of all.
type watcher struct {
	config    *rest.Config
	namespace string
	print     printFunc
	trouble   *trouble
	handled   chan<- struct{} // receives one value for each change, printed or not; may be nil

	failed context.CancelCauseFunc // of run
	lists  atomic.Int32            // how often the informer has listed all DataPlanes
}

// run watches until meanwhile returns. It calls meanwhile after it has printed all existing
// DataPlanes.
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
	dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
	if err := dataPlanes.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		w.watchError(ctx, err)
	}); err != nil {
		return err
	}
	registration, err := dataPlanes.AddEventHandler(w.handler(ctx))
	if err != nil {
		return err
	}
	factory.StartWithContext(ctx)
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

// tryWatch lists and watches once. An informer would retry for ever; so a user without the
// rights, or with the wrong cluster, gets an error at once.
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
	return informer.Handler(informer.Funcs{
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
	// A watch sees every write, and resumes where it was when its connection breaks. Only
	// after a new list can several writes come as one update.
	event, different, err := modified(before, after, w.lists.Load() <= 1)
	if !different || err != nil {
		return err
	}
	return w.print(event)
}

// watchError is called when the informer lists or watches again. Not every reason is an error.
func (w *watcher) watchError(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	w.trouble.is(err)
}

// trouble prints once why the informer can't watch, and when it can again.
type trouble struct {
	stderr io.Writer

	mu   sync.Mutex
	last remote.Reachability // "" while the watch works
}

func (t *trouble) is(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kind := remote.Classify(err); kind != t.last {
		t.last = kind
		fmt.Fprintf(t.stderr, "watch: interrupted, trying again: %v\n", err)
	}
}

func (t *trouble) over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != "" {
		t.last = ""
		fmt.Fprintln(t.stderr, "watch: resumed")
	}
}

// connection sees what an informer doesn't report: that the API server can't be reached,
// that a watch has started again, and that all DataPlanes were listed again.
type connection struct {
	next    http.RoundTripper
	watcher *watcher
}

// RoundTrip implements http.RoundTripper.
func (c connection) RoundTrip(request *http.Request) (*http.Response, error) {
	query := request.URL.Query()
	// Later versions of client-go may list by a watch with sendInitialEvents.
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
