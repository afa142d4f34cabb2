// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// edit changes an object before it is created or updated.
type edit struct {
	name  string
	apply func(*side, *v1alpha1.DataPlane)
}

type edits []edit

func (e edits) apply(s *side, dp *v1alpha1.DataPlane) {
	for _, edit := range e {
		edit.apply(s, dp)
	}
}

func (e edits) String() string {
	names := make([]string, 0, len(e))
	for _, edit := range e {
		names = append(names, edit.name)
	}
	return strings.Join(names, ", ")
}

func (g *generator) edits(create bool) (list edits) {
	for range g.IntN(4) {
		list = append(list, g.edit(create))
	}
	return list
}

func (g *generator) edit(create bool) edit {
	on := func(name string, apply func(*v1alpha1.DataPlane)) edit {
		return edit{name, func(_ *side, dp *v1alpha1.DataPlane) { apply(dp) }}
	}
	switch n := g.IntN(20); n {
	case 0, 1:
		value := pick(g, "one", "two")
		return on("required "+value, func(dp *v1alpha1.DataPlane) { g.kind.Required.Set(dp, value) })
	case 2, 3:
		value := pick(g, "", "secret")
		return on("optional "+value, func(dp *v1alpha1.DataPlane) { g.kind.Optional.Set(dp, value) })
	case 4:
		value := pick(g, nil, g.kind.PartValue)
		return on("part", func(dp *v1alpha1.DataPlane) { g.kind.Part.Set(dp, value) })
	case 5, 6, 7:
		labels := usually(g, 12, g.labels(), map[string]string{"tier": "not valid!"}, map[string]string{"not valid!": "x"})
		return on("labels", func(dp *v1alpha1.DataPlane) { dp.Labels = labels })
	case 8:
		value := pick(g, nil, map[string]string{}, map[string]string{v1alpha1.AnnotationDescription: pick(g, "one", "two", "")})
		return on("annotations", func(dp *v1alpha1.DataPlane) { dp.Annotations = value })
	case 9, 10:
		value := g.finalizers()
		return on("finalizers "+strings.Join(value, " "), func(dp *v1alpha1.DataPlane) { dp.Finalizers = value })
	case 11:
		value := g.owners()
		return on("owners", func(dp *v1alpha1.DataPlane) { dp.OwnerReferences = value })
	case 12, 13, 14, 15:
		value := g.status()
		return on("status", func(dp *v1alpha1.DataPlane) { dp.Status = *value.DeepCopy() })
	case 16:
		value := pick(g, "", "", "wrong")
		return on("uid "+value, func(dp *v1alpha1.DataPlane) { dp.UID = types.UID(value) })
	case 17:
		value := pick(g, "", "", "1", "0", "text")
		if create {
			value = pick(g, "", "1", "0", "text")
		}
		return on("resource version "+value, func(dp *v1alpha1.DataPlane) { dp.ResourceVersion = value })
	case 18:
		i := usually(g, 3, -1, 0, 1)
		return edit{"namespace", func(s *side, dp *v1alpha1.DataPlane) {
			if dp.Namespace = ""; i >= 0 {
				dp.Namespace = s.Namespaces[i]
			}
		}}
	default:
		return g.serversEdit(on)
	}
}

// serversEdit returns an edit of a field that the server sets.
func (g *generator) serversEdit(on func(string, func(*v1alpha1.DataPlane)) edit) edit {
	long, seconds := metav1.Unix(1_000_000_000, 0), int64(7)
	switch g.IntN(7) {
	case 0:
		return on("generation", func(dp *v1alpha1.DataPlane) { dp.Generation = 7 })
	case 1:
		return on("no creation time", func(dp *v1alpha1.DataPlane) { dp.CreationTimestamp = metav1.Time{} })
	case 2:
		return on("creation time", func(dp *v1alpha1.DataPlane) { dp.CreationTimestamp = long })
	case 3:
		return on("deletion time", func(dp *v1alpha1.DataPlane) { dp.DeletionTimestamp = &long })
	case 4:
		return on("grace period", func(dp *v1alpha1.DataPlane) { dp.DeletionGracePeriodSeconds = &seconds })
	case 5:
		return on("no deletion", func(dp *v1alpha1.DataPlane) { dp.DeletionTimestamp, dp.DeletionGracePeriodSeconds = nil, nil })
	default:
		value := pick(g, nil, []metav1.ManagedFieldsEntry{{}}, []metav1.ManagedFieldsEntry{{Manager: "one", Operation: "Odd"}})
		return on("managed fields", func(dp *v1alpha1.DataPlane) { dp.ManagedFields = value })
	}
}

func (g *generator) labels() map[string]string {
	return pick(g, nil, map[string]string{}, map[string]string{"tier": "gold"}, map[string]string{"tier": "silver", "zone": "a"}, map[string]string{"zone": "b"})
}

func (g *generator) finalizers() []string {
	return usually(g, 12, pick(g, nil, []string{}, []string{"example.com/hold"}, []string{"example.com/hold", "example.com/more"},
		[]string{"example.com/more"}, []string{metav1.FinalizerDeleteDependents}, []string{"example.com/hold", metav1.FinalizerOrphanDependents}),
		[]string{"not valid!"}, []string{metav1.FinalizerDeleteDependents, metav1.FinalizerOrphanDependents}, []string{"example.com/hold", "example.com/hold"})
}

func (g *generator) owners() []metav1.OwnerReference {
	one := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "one", UID: "1"}
	two := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "two", UID: "2", Controller: ptr(true)}
	three := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "three", UID: "3", Controller: ptr(true)}
	return pick(g, nil, []metav1.OwnerReference{one}, []metav1.OwnerReference{one, one}, []metav1.OwnerReference{one, two},
		[]metav1.OwnerReference{two, three}, []metav1.OwnerReference{{Kind: "ConfigMap"}})
}

func (g *generator) status() *v1alpha1.DataPlaneStatus {
	status := &v1alpha1.DataPlaneStatus{ObservedGeneration: int64(g.IntN(3))}
	for _, conditionType := range []string{v1alpha1.DataPlaneConditionReady, v1alpha1.DataPlaneConditionConnected, "Other"} {
		if g.oneIn(2) {
			condition := behaviours.NewCondition(conditionType, pick(g, metav1.ConditionTrue, metav1.ConditionFalse))
			condition.Message = pick(g, "by hand", "by chance")
			if g.oneIn(4) {
				condition.LastTransitionTime = metav1.Unix(1_700_000_000, 123_456_789)
			}
			status.Conditions = append(status.Conditions, condition)
		}
	}
	if status.Conditions == nil && g.oneIn(2) {
		status.Conditions = []metav1.Condition{}
	}
	if g.kind.Spec.ClusterAgent != nil && g.oneIn(3) {
		// Always the same values: if managers owned different fields of it, one field could be left
		// without the other, which the CRD refuses.
		status.AgentConnection = &v1alpha1.AgentConnectionStatus{Connected: true, ConnectedAgents: 1}
	}
	return status
}
