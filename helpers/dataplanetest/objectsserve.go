// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/apimachinery/pkg/watch"
	kubernetesscheme "k8s.io/client-go/kubernetes/scheme"
)

// ServeHTTP implements http.Handler.
func (o *Objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/version":
		writeJSON(w, http.StatusOK, version.Info{Major: "1", Minor: "33", GitVersion: "v1.33.1"})
	case isHealth(r.URL.Path):
		healthy(w, r)
	default:
		if err := o.serve(w, r); err != nil {
			status := apierrors.APIStatus(nil)
			_ = errors.As(asStatus(err), &status)
			writeStatus(w, status.Status())
		}
	}
}

// serve answers a request for objects, or returns an error and answers nothing.
func (o *Objects) serve(w http.ResponseWriter, r *http.Request) error {
	resource, key, ok := parsePath(r.URL.Path)
	o.mu.Lock()
	gvk, known := o.kinds[resource]
	o.mu.Unlock()
	var options metav1.ListOptions
	switch accept := r.Header.Get("Accept"); {
	case r.Method != http.MethodGet:
		return unserved(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, r.Method+"; call Set and Delete")
	case !ok: // in plain text, since client-go's discovery reads no Status
		http.Error(w, "dataplanetest.Objects doesn't serve the path "+r.URL.Path, http.StatusNotImplemented)
		return nil
	case !known:
		return unserved(http.StatusNotFound, metav1.StatusReasonNotFound, "the resource "+resource.String()+" before Set of such an object")
	case strings.Contains(accept, "as=PartialObjectMetadata"):
		return unserved(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable, accept)
	case key.Name != "":
		o.mu.Lock()
		raw := o.objects[objectKey{gvk, key}]
		o.mu.Unlock()
		if raw == nil {
			return apierrors.NewNotFound(resource.GroupResource(), key.Name)
		}
		writeJSON(w, http.StatusOK, raw.Object)
		return nil
	}
	if err := kubernetesscheme.ParameterCodec.DecodeParameters(r.URL.Query(), schema.GroupVersion{Version: "v1"}, &options); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	version, err := parseVersion(options.ResourceVersion)
	if err != nil {
		return apierrors.NewBadRequest("invalid resource version: " + err.Error())
	}
	ofAnyKind, err := kind{namespaced: true}.selector(key.Namespace, options)
	if err != nil {
		return err
	}
	selects := func(raw *unstructured.Unstructured) bool { return ofAnyKind(raw) && raw.GroupVersionKind() == gvk }
	if options.Watch {
		return o.watch(w, r, options, version, selects)
	}
	o.list(w, gvk, selects)
	return nil
}

func unserved(code int32, reason metav1.StatusReason, what string) error {
	return failure(code, reason, "dataplanetest.Objects doesn't serve "+what)
}

// parsePath returns the resource in a path, and its namespace and name, if the path has them.
func parsePath(path string) (resource schema.GroupVersionResource, key types.NamespacedName, ok bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		resource.Version, parts = parts[1], parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		resource.Group, resource.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return resource, key, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		key.Namespace, parts = parts[1], parts[2:]
	}
	if resource.Resource = parts[0]; len(parts) > 1 {
		key.Name = parts[1]
	}
	return resource, key, len(parts) < 3
}

func (o *Objects) list(w http.ResponseWriter, gvk schema.GroupVersionKind, selects func(*unstructured.Unstructured) bool) {
	o.mu.Lock()
	items, current := []map[string]any{}, o.version(len(o.changes))
	for _, raw := range selected(o.objects, selects) {
		item := maps.Clone(raw.Object)
		if kubernetesscheme.Scheme.Recognizes(gvk) { // API servers leave these out, except in custom resources
			delete(item, "apiVersion")
			delete(item, "kind")
		}
		items = append(items, item)
	}
	o.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{
		"apiVersion": gvk.GroupVersion().String(),
		"kind":       gvk.Kind + "List",
		"metadata":   map[string]any{"resourceVersion": current},
		"items":      items,
	})
}

// watch sends the events after the resource version from until the client gives up or timeoutSeconds
// have passed. Without a version, it begins with the current objects.
func (o *Objects) watch(w http.ResponseWriter, r *http.Request, options metav1.ListOptions, from uint64, selects func(*unstructured.Unstructured) bool) error {
	if options.SendInitialEvents != nil && *options.SendInitialEvents { // reflectors then list
		return unserved(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents=true")
	}
	var initial []*unstructured.Unstructured
	o.mu.Lock()
	seen := len(o.changes)
	if from == 0 {
		initial = selected(o.objects, selects)
	}
	o.mu.Unlock()
	switch current := o.first + uint64(seen); {
	case from > current:
		return apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", from, current), 1)
	case from > 0 && from < o.first: // API servers report it in an event: a RetryWatcher ends
		expired := apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", from, o.first)).Status()
		expired.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		writeJSON(w, http.StatusOK, map[string]any{"type": watch.Error, "object": expired})
		return nil
	case from > 0:
		seen = int(from - o.first)
	}
	ctx := r.Context()
	if seconds := options.TimeoutSeconds; seconds != nil && *seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*seconds)*time.Second)
		defer cancel()
	}
	w.Header().Set("Content-Type", "application/json")
	send := func(event watch.EventType, raw *unstructured.Unstructured) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": event, "object": raw.Object})
	}
	for _, raw := range initial {
		send(watch.Added, raw)
	}
	for {
		o.mu.Lock()
		changes, changed := o.changes[seen:], o.changed
		o.mu.Unlock()
		for _, c := range changes {
			seen++
			if event, raw := c.event(selects, o.version(seen)); raw != nil {
				send(event, raw)
			}
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
