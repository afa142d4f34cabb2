// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// watcher prints the changes of ClusterDataPlanes, and of the DataPlanes of one namespace or of all.
type watcher struct {
	config    *rest.Config
	namespace string
	print     func(Event) error
	handled   chan<- struct{} // receives one value for each change, printed or not; may be nil
}

// run watches until whileWatching returns. It calls whileWatching after it has printed all existing
// DataPlanes.
func (w *watcher) run(ctx context.Context, whileWatching func(context.Context) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	fmt.Fprintf(os.Stderr, "watching DataPlanes in %s of %s, and ClusterDataPlanes\n", cmp.Or(w.namespace, "all namespaces"), w.config.Host)
	missing := w.clusterDataPlanesMissing(ctx)
	switch {
	case apierrors.IsNotFound(missing), apierrors.IsForbidden(missing):
		fmt.Fprintf(os.Stderr, "watch: no ClusterDataPlanes: %v\n", missing)
	case missing != nil: // they may exist
		return missing
	}
	config := rest.CopyConfig(w.config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &connection{next: next} })
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
	informers := []cache.SharedIndexInformer{factory.OpenChoreo().V1alpha1().DataPlanes().Informer()}
	if missing == nil {
		informers = append(informers, factory.OpenChoreo().V1alpha1().ClusterDataPlanes().Informer())
	}
	var synced []cache.InformerSynced
	for _, informer := range informers {
		registration, err := informer.AddEventHandler(w.handler(ctx, fail))
		if err != nil {
			return err
		}
		synced = append(synced, registration.HasSynced)
	}
	factory.StartWithContext(ctx)
	defer func() {
		fail(nil)
		factory.Shutdown()
	}()
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		err = whileWatching(ctx)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// clusterDataPlanesMissing returns the error of a list of ClusterDataPlanes. It is NotFound if they aren't installed, and
// Forbidden if the user may not list them: an informer would then retry for ever.
func (w *watcher) clusterDataPlanesMissing(ctx context.Context) error {
	client, err := openchoreoclient.NewForConfig(w.config)
	if err != nil {
		return err
	}
	_, err = client.OpenChoreoV1alpha1().ClusterDataPlanes().List(ctx, metav1.ListOptions{Limit: 1})
	return err
}

// handler is called for the changes of one kind, one after the other.
func (w *watcher) handler(ctx context.Context, fail func(error)) cache.ResourceEventHandler {
	done := func(err error) {
		if err != nil {
			fail(err)
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
	return errors.Join(err, w.print(event))
}

func (w *watcher) updated(before, after *openchoreov1alpha1.DataPlane) error {
	if before.UID != after.UID { // deleted and created again while the watch was interrupted
		return errors.Join(w.print(newEvent(watch.Deleted, before)), w.added(after, false))
	}
	event, err := modified(before, after)
	if err != nil || len(event.Transitions)+len(event.Changes) == 0 {
		return err
	}
	return w.print(event)
}

// connection prints what an informer hides: that the API server can't be reached or returns an error,
// and that it answers again.
type connection struct {
	next    http.RoundTripper
	trouble atomic.Bool
}

// RoundTrip implements http.RoundTripper.
func (c *connection) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(request)
	problem := err
	if err == nil && response.StatusCode >= http.StatusBadRequest && response.StatusCode != http.StatusGone { // after 410, it lists again
		problem = errors.New(response.Status)
	}
	switch {
	case request.Context().Err() != nil:
	case problem == nil && c.trouble.Swap(false):
		fmt.Fprintln(os.Stderr, "watch: resumed")
	case problem != nil && !c.trouble.Swap(true):
		fmt.Fprintf(os.Stderr, "watch: interrupted, trying again: %v\n", problem)
	}
	return response, err
}

// hideSecrets returns a transform that replaces each secret by a digest. Use it in place of
// informer.DropSecrets if the informer must see that a secret has changed, or needs managed
// fields. The digest has a random key that never leaves the process, so nobody can check
// guesses against it. Annotations are replaced too, because tools keep copies of the whole
// object there.
func hideSecrets() (cache.TransformFunc, error) {
	key := make([]byte, sha256.Size)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	digest := rand.Text() + ":"
	hide := func(secret string) string {
		if secret == "" || strings.HasPrefix(secret, digest) { // from client-go 0.34 on, informers can transform an object twice
			return secret
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(secret))
		return digest + hex.EncodeToString(mac.Sum(nil))
	}
	return func(obj any) (any, error) {
		dp, ok := obj.(*openchoreov1alpha1.DataPlane)
		if !ok {
			return obj, nil
		}
		creds := &dp.Spec.KubernetesCluster.Credentials
		creds.ClientKey = hide(creds.ClientKey)
		if observer := dp.Spec.Observer; observer != nil {
			observer.Authentication.BasicAuth.Password = hide(observer.Authentication.BasicAuth.Password)
		}
		for name, value := range dp.Annotations {
			dp.Annotations[name] = hide(value)
		}
		return dp, nil
	}, nil
}
