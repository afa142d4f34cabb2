// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fieldset"
)

// Event is a change of a DataPlane or ClusterDataPlane. It holds no secrets.
type Event struct {
	// Time is when this program saw the change.
	Time time.Time `json:"time"`
	// Type is ADDED, MODIFIED or DELETED.
	Type watch.EventType `json:"type"`
	// Initial reports whether an ADDED DataPlane existed when the watch began.
	Initial bool `json:"initial,omitempty"`

	// Namespace is empty for a ClusterDataPlane.
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	// ResourceVersion and the fields below describe the DataPlane after the event, or the
	// last known state of a DELETED one.
	ResourceVersion string `json:"resourceVersion"`
	Generation      int64  `json:"generation"`
	// Cluster is the name of the target cluster or, in OpenChoreo v1, the plane ID of its agent.
	Cluster string `json:"cluster"`
	// Conditions holds Ready, Connected and GatewayProvisioned, judged with helpers.Stock and
	// HeartbeatWithin, and then all other reported types.
	Conditions []helpers.Verdict `json:"conditions"`

	// Transitions are the conditions whose verdict has changed.
	Transitions []Transition `json:"transitions,omitempty"`
	// Changes are the fields that differ, by path, without metadata.generation and the heartbeat
	// of an agent. For an ADDED DataPlane, the only change is .spec.
	Changes []Change `json:"changes,omitempty"`
}

// Transition is a change of the verdict on a condition type.
type Transition struct {
	Type string `json:"type"`
	From State  `json:"from"`
	To   State  `json:"to"`
}

// State is the part of a verdict that a Transition compares.
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
	// Path is the path of the field, such as ".spec.registry.prefix".
	Path string `json:"path"`
	// Type is added, modified or removed.
	Type ChangeType `json:"type"`
	// Managers own the field. A removed field has no owner: Managers is then the manager that
	// removed it, if the managed fields show it. Fields that the API server sets itself, such
	// as deletionTimestamp, have no managers.
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

// newEvent returns an event without transitions and changes.
func newEvent(eventType watch.EventType, dp *openchoreov1alpha1.DataPlane) Event {
	return Event{
		Time:            time.Now(),
		Type:            eventType,
		Namespace:       dp.Namespace,
		Name:            dp.Name,
		UID:             dp.UID,
		ResourceVersion: dp.ResourceVersion,
		Generation:      dp.Generation,
		Cluster:         cmp.Or(dp.Spec.KubernetesCluster.Name, dp.Spec.PlaneID, dp.Name),
		Conditions:      evaluate(dp).Verdicts(),
	}
}

func evaluate(dp *openchoreov1alpha1.DataPlane) helpers.Report {
	return helpers.Evaluate(dp, helpers.Stock(), helpers.HeartbeatWithin(5*time.Minute, nil))
}

func added(dp *openchoreov1alpha1.DataPlane, initial bool) (Event, error) {
	event := newEvent(watch.Added, dp)
	event.Initial = initial
	const spec = ".spec"
	managers, err := fieldset.Managers(dp, spec)
	event.Changes = []Change{{Path: spec, Type: Added, Managers: managers}}
	return event, err
}

func modified(before, after *openchoreov1alpha1.DataPlane) (event Event, err error) {
	event = newEvent(watch.Modified, after)
	event.Transitions = transitions(evaluate(before), evaluate(after))
	event.Changes, err = changes(before, after)
	return event, err
}

func transitions(before, after helpers.Report) []Transition {
	var result []Transition
	compared := map[string]bool{}
	for _, verdict := range append(after.Verdicts(), before.Verdicts()...) { // types that are no longer reported come last
		if compared[verdict.Type] {
			continue
		}
		compared[verdict.Type] = true
		from, to := before.Verdict(verdict.Type), after.Verdict(verdict.Type)
		t := Transition{Type: verdict.Type, From: State{from.Status, from.Code}, To: State{to.Status, to.Code}}
		if t.From != t.To {
			result = append(result, t)
		}
	}
	return result
}

func changes(before, after *openchoreov1alpha1.DataPlane) ([]Change, error) {
	fields, err := fieldset.Changed(before, after)
	if err != nil {
		return nil, err
	}
	var result []Change
	for _, group := range []struct {
		changeType ChangeType
		paths      []string
	}{{Added, fields.Added}, {Modified, fields.Modified}, {Removed, fields.Removed}} {
		for _, path := range group.paths {
			switch path {
			case ".metadata.generation", // counts changes of the spec, which are listed
				".status.agentConnection.lastHeartbeatTime": // changes every minute
				continue
			}
			change := Change{Path: path, Type: group.changeType}
			if change.Type == Removed {
				change.Managers = writers(before, after)
			} else if change.Managers, err = fieldset.Managers(after, path); err != nil {
				return nil, err
			}
			result = append(result, change)
		}
	}
	slices.SortStableFunc(result, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return result, nil
}

// entryOf returns a key that is unique among the entries of managed fields.
func entryOf(e metav1.ManagedFieldsEntry) string {
	return strings.Join([]string{e.Manager, e.Subresource, e.APIVersion, string(e.Operation)}, "|")
}

// writers returns the manager that turned before into after: its entry in the managed fields has
// another time. The API server doesn't change the times of other managers, even if they lose fields.
// writers returns nil if several entries have another time, or none has: the manager only removed
// fields by an update, or wrote twice within a second, the precision of the times.
func writers(before, after *openchoreov1alpha1.DataPlane) []string {
	times := map[string]*metav1.Time{}
	for _, entry := range before.ManagedFields {
		times[entryOf(entry)] = entry.Time
	}
	var result []string
	for _, entry := range after.ManagedFields {
		if entry.Time != nil && !entry.Time.Equal(times[entryOf(entry)]) {
			result = append(result, entry.Manager)
		}
	}
	if len(result) != 1 {
		return nil
	}
	return result
}
