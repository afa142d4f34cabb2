// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"
)

// selector returns a function that reports whether options select an object. nil isn't selected.
func (k kind) selector(namespace string, options metav1.ListOptions) (func(*unstructured.Unstructured) bool, error) {
	byLabel, byField, err := parseSelectors(options)
	if err != nil {
		return nil, err
	}
	if err := invalidOptions("ListOptions", validation.ValidateListOptions(&internalversion.ListOptions{
		Watch:                options.Watch,
		ResourceVersion:      options.ResourceVersion,
		ResourceVersionMatch: options.ResourceVersionMatch,
		SendInitialEvents:    options.SendInitialEvents,
	}, true)); err != nil {
		return nil, err
	}
	fieldsOf := func(raw *unstructured.Unstructured) fields.Set {
		if !k.namespaced {
			return fields.Set{"metadata.name": raw.GetName()}
		}
		return fields.Set{"metadata.name": raw.GetName(), "metadata.namespace": raw.GetNamespace()}
	}
	for _, requirement := range byField.Requirements() {
		if !fieldsOf(&unstructured.Unstructured{}).Has(requirement.Field) {
			return nil, apierrors.NewBadRequest("field label not supported: " + requirement.Field)
		}
	}
	return func(raw *unstructured.Unstructured) bool {
		return raw != nil && (namespace == "" || raw.GetNamespace() == namespace) &&
			byLabel.Matches(labels.Set(raw.GetLabels())) && byField.Matches(fieldsOf(raw))
	}, nil
}

func parseSelectors(options metav1.ListOptions) (labels.Selector, fields.Selector, error) {
	byLabel, err := labels.Parse(options.LabelSelector)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	byField, err := fields.ParseSelector(options.FieldSelector)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest(err.Error())
	}
	return byLabel, byField, nil
}

func (s *store) reactToWatch(action clienttesting.Action) (handled bool, _ watch.Interface, _ error) {
	options := action.(clienttesting.WatchActionImpl).ListOptions
	selects, err := s.selector(action.GetNamespace(), options)
	if err != nil {
		return true, nil, asStatus(err)
	}
	parsed, err := parseVersion(options.ResourceVersion)
	if err != nil {
		return true, nil, asStatus(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	version, seen, initial := int(parsed), len(s.changes), []watch.Event(nil)
	initially := version == 0
	if options.SendInitialEvents != nil {
		initially = *options.SendInitialEvents
	}
	switch {
	case initially:
		for _, raw := range selected(s.objects, selects) {
			initial = append(initial, s.event(watch.Added, raw))
		}
		if options.AllowWatchBookmarks {
			bookmark := newRaw(s.GroupVersionKind)
			bookmark.SetResourceVersion(s.resourceVersion())
			bookmark.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
			initial = append(initial, s.event(watch.Bookmark, bookmark))
		}
	case version > seen+1:
		return true, nil, apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", version, seen+1), 1)
	case version > 0:
		seen = version - 1
	}
	events := make(chan watch.Event)
	watcher := watch.NewProxyWatcher(events)
	go s.send(events, watcher.StopChan(), initial, seen, selects)
	return true, watcher, nil
}

// send sends the pending events, and then the events of all changes after the first seen ones,
// until stop is closed.
func (s *store) send(events chan<- watch.Event, stop <-chan struct{}, pending []watch.Event, seen int, selects func(*unstructured.Unstructured) bool) {
	defer close(events)
	for {
		for _, event := range pending {
			select {
			case events <- event:
			case <-stop:
				return
			}
		}
		pending = nil
		s.mu.Lock()
		changes, changed := s.changes[seen:], s.changed
		s.mu.Unlock()
		for _, c := range changes {
			seen++
			if event, raw := c.event(selects, strconv.Itoa(seen+1)); raw != nil {
				pending = append(pending, s.event(event, raw))
			}
		}
		if len(changes) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-stop:
			return
		}
	}
}

// event returns the event of a change at a resource version, or nil if the change concerns no
// selected object.
func (c change) event(selects func(*unstructured.Unstructured) bool, version string) (watch.EventType, *unstructured.Unstructured) {
	switch before, after := selects(c.before), selects(c.after); {
	case before && after:
		return watch.Modified, c.after
	case after:
		return watch.Added, c.after
	case before: // deleted or no longer selected: the last state, at the resource version of the change
		last := c.before.DeepCopy()
		last.SetResourceVersion(version)
		return watch.Deleted, last
	default:
		return "", nil
	}
}

func (s *store) event(kind watch.EventType, raw *unstructured.Unstructured) watch.Event {
	object, err := s.decode(raw)
	if err != nil {
		failure := apierrors.NewInternalError(err).Status()
		return watch.Event{Type: watch.Error, Object: &failure}
	}
	return watch.Event{Type: kind, Object: object}
}
