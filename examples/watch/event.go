// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Event is what has happened to a DataPlane. It holds no secrets.
type Event struct {
	// Time is when this program saw it.
	Time time.Time `json:"time"`
	// Type is ADDED, MODIFIED or DELETED.
	Type watch.EventType `json:"type"`
	// Initial says of an ADDED DataPlane that it was there when the watch began.
	Initial bool `json:"initial,omitempty"`

	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	// ResourceVersion and what follows is of the DataPlane after the event, or of its
	// last known state when it is DELETED.
	ResourceVersion string `json:"resourceVersion"`
	Generation      int64  `json:"generation"`
	// Cluster is the name of the target cluster.
	Cluster string `json:"cluster"`
	// Conditions holds Ready, Connected and GatewayProvisioned, reported or not, and then
	// every other type that is there.
	Conditions []helpers.Verdict `json:"conditions"`

	// Transitions are the conditions of which something else holds than before.
	Transitions []Transition `json:"transitions,omitempty"`
	// Changes are the fields that differ, by path. The generation of a MODIFIED
	// DataPlane is not among them. For an ADDED one, it is the spec as a whole.
	Changes []Change `json:"changes,omitempty"`
}

// Transition is a condition type of which the verdict has changed.
type Transition struct {
	Type string `json:"type"`
	From State  `json:"from"`
	To   State  `json:"to"`
}

// State is what counts of a verdict.
type State struct {
	Status metav1.ConditionStatus `json:"status"`
	Code   helpers.Code           `json:"code"`
}

// String returns the status, with the code unless the condition is up to date.
func (s State) String() string {
	if s.Code == helpers.CodeCurrent {
		return string(s.Status)
	}
	return string(s.Status) + " (" + string(s.Code) + ")"
}

// Change is a field that differs.
type Change struct {
	// Path is that of the field, such as ".spec.registry.prefix".
	Path string `json:"path"`
	// Type is added, modified or removed.
	Type ChangeType `json:"type"`
	// Managers are who owns the field. Nobody owns one that was removed; there it is who
	// wrote the object, if its managed fields tell. What the API server sets itself, such
	// as a deletionTimestamp, has none.
	Managers []string `json:"managers,omitempty"`
}

// ChangeType says how a field differs.
type ChangeType string

// The types of a [Change].
const (
	Added    ChangeType = "added"
	Modified ChangeType = "modified"
	Removed  ChangeType = "removed"
)

// newEvent leaves out what can be known only in comparison.
func newEvent(eventType watch.EventType, dp *openchoreov1alpha1.DataPlane) Event {
	return Event{
		Time:            time.Now(),
		Type:            eventType,
		Namespace:       dp.Namespace,
		Name:            dp.Name,
		UID:             dp.UID,
		ResourceVersion: dp.ResourceVersion,
		Generation:      dp.Generation,
		Cluster:         dp.Spec.KubernetesCluster.Name,
		Conditions:      helpers.Evaluate(dp).Verdicts,
	}
}

func added(dp *openchoreov1alpha1.DataPlane, initial bool) (Event, error) {
	event := newEvent(watch.Added, dp)
	event.Initial = initial
	const spec = ".spec"
	managers, err := helpers.FieldManagers(dp, spec)
	event.Changes = []Change{{Path: spec, Type: Added, Managers: managers}}
	return event, err
}

// modified also says whether anything is different. single says that after was made of
// before by one write.
func modified(before, after *openchoreov1alpha1.DataPlane, single bool) (event Event, different bool, err error) {
	event = newEvent(watch.Modified, after)
	event.Transitions = transitions(helpers.Evaluate(before), helpers.Evaluate(after))
	event.Changes, err = changes(before, after, single)
	return event, len(event.Transitions)+len(event.Changes) > 0, err
}

func transitions(before, after helpers.Report) []Transition {
	var result []Transition
	compare := func(conditionType string) {
		from, to := before.Verdict(conditionType), after.Verdict(conditionType)
		t := Transition{Type: conditionType, From: State{from.Status, from.Code}, To: State{to.Status, to.Code}}
		if t.From != t.To {
			result = append(result, t)
		}
	}
	for _, verdict := range after.Verdicts {
		compare(verdict.Type)
	}
	for _, verdict := range before.Verdicts { // types that are gone
		if !slices.ContainsFunc(after.Verdicts, func(v helpers.Verdict) bool { return v.Type == verdict.Type }) {
			compare(verdict.Type)
		}
	}
	return result
}

func changes(before, after *openchoreov1alpha1.DataPlane, single bool) ([]Change, error) {
	fields, err := helpers.ChangedFields(before, after)
	if err != nil {
		return nil, err
	}
	var result []Change
	for _, group := range []struct {
		changeType ChangeType
		paths      []string
	}{{Added, fields.Added}, {Modified, fields.Modified}, {Removed, fields.Removed}} {
		for _, path := range group.paths {
			if path == ".metadata.generation" {
				continue // counts the changes of the spec, which are here
			}
			change := Change{Path: path, Type: group.changeType}
			switch {
			case change.Type != Removed:
				if change.Managers, err = helpers.FieldManagers(after, path); err != nil {
					return nil, err
				}
			case single:
				change.Managers = writers(before, after)
			}
			result = append(result, change)
		}
	}
	slices.SortStableFunc(result, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return result, nil
}

// writers returns who made after of before by a single write: the manager whose entry in
// the managed fields has got another time. An API server leaves the times of everybody else
// alone, also where they lose fields, and sets none for who applies what is there already.
// So nobody is named when there is no such entry, as when a manager did nothing but take
// fields away by an update, or wrote twice in a second, which is as fine as times are.
func writers(before, after *openchoreov1alpha1.DataPlane) []string {
	type key struct {
		manager, subresource, apiVersion string
		operation                        metav1.ManagedFieldsOperationType
	}
	keyOf := func(entry metav1.ManagedFieldsEntry) key {
		return key{entry.Manager, entry.Subresource, entry.APIVersion, entry.Operation}
	}
	times := map[key]*metav1.Time{}
	for _, entry := range before.ManagedFields {
		times[keyOf(entry)] = entry.Time
	}
	var result []string
	for _, entry := range after.ManagedFields {
		if entry.Time != nil && !entry.Time.Equal(times[keyOf(entry)]) {
			result = append(result, entry.Manager)
		}
	}
	if len(result) != 1 {
		return nil
	}
	return result
}
