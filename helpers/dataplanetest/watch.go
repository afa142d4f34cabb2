// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"fmt"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// selects returns a function that reports whether options select an object. There is no
// object nil.
func selects(namespace string, options metav1.ListOptions) (func(*v1alpha1.DataPlane) bool, error) {
	byLabel, err := labels.Parse(options.LabelSelector)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	byField, err := fields.ParseSelector(options.FieldSelector)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	for _, requirement := range byField.Requirements() {
		if !slices.Contains([]string{"metadata.name", "metadata.namespace"}, requirement.Field) {
			return nil, apierrors.NewBadRequest("field label not supported: " + requirement.Field)
		}
	}
	return func(dp *v1alpha1.DataPlane) bool {
		return dp != nil && (namespace == "" || dp.Namespace == namespace) && byLabel.Matches(labels.Set(dp.Labels)) &&
			byField.Matches(fields.Set{"metadata.name": dp.Name, "metadata.namespace": dp.Namespace})
	}, nil
}

func (s *store) reactToWatch(action clienttesting.Action) (handled bool, _ watch.Interface, _ error) {
	options := action.(clienttesting.WatchActionImpl).ListOptions
	selected, err := selects(action.GetNamespace(), options)
	if err != nil {
		return true, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, initial := len(s.changes), []watch.Event(nil)
	if initially := options.SendInitialEvents; options.ResourceVersion == "" || options.ResourceVersion == "0" || initially != nil && *initially {
		list, err := s.list(action.GetNamespace(), options)
		if err != nil {
			return true, nil, err
		}
		for i := range list.Items {
			initial = append(initial, watch.Event{Type: watch.Added, Object: &list.Items[i]})
		}
		if initially != nil && *initially {
			initial = append(initial, watch.Event{Type: watch.Bookmark, Object: &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{
				ResourceVersion: list.ResourceVersion, Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
			}}})
		}
	} else {
		version, err := strconv.Atoi(options.ResourceVersion)
		if err != nil || version < 1 {
			return true, nil, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version %q", options.ResourceVersion))
		}
		if version > seen+1 {
			return true, nil, apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", version, seen+1), 1)
		}
		seen = version - 1
	}
	events := make(chan watch.Event)
	watcher := watch.NewProxyWatcher(events)
	go s.send(events, watcher.StopChan(), initial, seen, selected)
	return true, watcher, nil
}

// send sends events, and then those of all changes after those that are seen, until stop.
func (s *store) send(events chan<- watch.Event, stop <-chan struct{}, pending []watch.Event, seen int, selected func(*v1alpha1.DataPlane) bool) {
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
			before, after := selected(c.before), selected(c.after)
			switch {
			case before && after:
				pending = append(pending, watch.Event{Type: watch.Modified, Object: c.after.DeepCopy()})
			case after:
				pending = append(pending, watch.Event{Type: watch.Added, Object: c.after.DeepCopy()})
			case before: // deleted or no longer selected: the last state, at the resource version of the change
				last := c.before.DeepCopy()
				last.ResourceVersion = strconv.Itoa(seen + 1)
				pending = append(pending, watch.Event{Type: watch.Deleted, Object: last})
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
