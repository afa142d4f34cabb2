// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// document returns JSON for one side, with values of that side, such as its resource versions.
type document func(*side) any

// patchOf returns a step that sends a patch.
func (g *generator) patchOf(name, subresource string, kind types.PatchType, patch func(*side) []byte, options metav1.PatchOptions) step {
	namespace := g.namespace()
	return step{
		dryRun: len(options.DryRun) > 0,
		name:   fmt.Sprintf("%s %s of %s %+v: %s", kind, subresource, name, options, patch(&side{})),
		write: func(ctx context.Context, s *side, check []string) (*v1alpha1.DataPlane, error) {
			options := options
			options.DryRun = either(options.DryRun, check)
			if kind == types.ApplyPatchType {
				s.awaitLastWrite(ctx)
			}
			subresources := []string{}
			if subresource != "" {
				subresources = append(subresources, subresource)
			}
			return s.client(namespace).Patch(ctx, name, kind, patch(s), options, subresources...)
		},
	}
}

func (g *generator) patchOptions(kind types.PatchType) metav1.PatchOptions {
	options := metav1.PatchOptions{DryRun: g.dryRun(), FieldManager: g.manager(), FieldValidation: g.fieldValidation()}
	if kind == types.ApplyPatchType {
		options.Force = pick(g, nil, new(bool), ptr(true), ptr(true))
	} else {
		options.Force = usually(g, 20, nil, ptr(true), new(bool))
	}
	return options
}

func (g *generator) mergePatch() step {
	subresource, options := g.subresource(), g.patchOptions(types.MergePatchType)
	doc := g.mergeDocument()
	malformed := usually(g, 20, "", "{", "[]", "null", "5", `""`, `{"metadata": 5}`, `{"spec": null, "spec": {}}`)
	if malformed != "" {
		options.FieldValidation = "" // otherwise, it changes how API servers decode the patch
	}
	return g.patchOf(g.name(), subresource, types.MergePatchType, func(s *side) []byte {
		if malformed != "" {
			return []byte(malformed)
		}
		return behaviours.Encode(doc(s))
	}, options)
}

// mergeDocument returns a document of one to three fields.
func (g *generator) mergeDocument() document {
	var fields []func(*side, map[string]any)
	for range 1 + g.IntN(3) {
		fields = append(fields, g.mergeField())
	}
	return func(s *side) any {
		doc := map[string]any{}
		for _, field := range fields {
			field(s, doc)
		}
		return doc
	}
}

func (g *generator) mergeField() func(*side, map[string]any) {
	set := func(value any, path ...string) func(*side, map[string]any) {
		return func(_ *side, doc map[string]any) { behaviours.Put(doc, value, path...) }
	}
	index := g.Int()
	switch g.IntN(18) {
	case 0, 1:
		return set(pick[any](g, "gold", "silver", nil), "metadata", "labels", "tier")
	case 2:
		return set(pick[any](g, nil, map[string]any{}, map[string]any{v1alpha1.AnnotationDescription: "x"}), "metadata", "annotations")
	case 3, 4:
		return set(g.finalizers(), "metadata", "finalizers")
	case 5, 6:
		return set(pick(g, "one", "two"), g.kind.Required...)
	case 7:
		return set(pick[any](g, "secret", "", nil), g.kind.Optional...)
	case 8:
		return set(pick(g, nil, g.kind.PartValue), g.kind.Part...)
	case 9:
		return set(1, pick(g, []string{"spec", "unknown"}, []string{"spec", "gateway", "unknown"}, []string{"unknown"}, []string{"metadata", "unknown"}, []string{"status", "unknown"})...)
	case 10, 11, 12:
		return set(pick[any](g, nil, g.status(), map[string]any{"conditions": nil}), "status")
	case 13:
		wrong := pick[any](g, false, false, nil, "", "1", "text")
		return func(s *side, doc map[string]any) {
			if version := wrong; version == false {
				behaviours.Put(doc, s.object(index).ResourceVersion, "metadata", "resourceVersion")
			} else {
				behaviours.Put(doc, version, "metadata", "resourceVersion")
			}
		}
	case 14:
		return set(pick[any](g, nil, "", "wrong"), "metadata", "uid")
	case 15:
		i := g.IntN(2)
		if g.oneIn(2) {
			return set(pick[any](g, nil, "a", "other"), "metadata", "name")
		}
		return func(s *side, doc map[string]any) { behaviours.Put(doc, s.Namespaces[i], "metadata", "namespace") }
	case 16:
		return pick(g,
			set(9, "metadata", "generation"), set(nil, "metadata", "creationTimestamp"), set("2020-01-01T00:00:00Z", "metadata", "creationTimestamp"),
			set("2020-01-01T00:00:00Z", "metadata", "deletionTimestamp"), set(nil, "metadata", "deletionTimestamp"),
			set(5, "metadata", "deletionGracePeriodSeconds"), set(nil, "metadata", "managedFields"), set([]any{}, "metadata", "managedFields"),
			set([]any{map[string]any{}}, "metadata", "managedFields"), set(g.owners(), "metadata", "ownerReferences"), set("x-", "metadata", "generateName"))
	case 17:
		return pick(g, set(nil, "kind"), set("Other", "kind"), set(nil, "apiVersion"), set("other.example.com/v1alpha1", "apiVersion"))
	default:
		panic("no such field")
	}
}

func (g *generator) jsonPatch() step {
	var operations []map[string]any
	for range 1 + g.IntN(3) {
		operations = append(operations, g.operation())
	}
	malformed := usually(g, 20, "", "{}", "[5]", "null", `[{"op": 5}]`, `[{"op": "odd", "path": "/spec"}]`, `[{"op": "add", "path": "/spec"}]`, "[]")
	options := g.patchOptions(types.JSONPatchType)
	if malformed != "" {
		options.FieldValidation = ""
	}
	return g.patchOf(g.name(), g.subresource(), types.JSONPatchType, func(*side) []byte {
		if malformed != "" {
			return []byte(malformed)
		}
		return behaviours.Encode(operations)
	}, options)
}

func (g *generator) operation() map[string]any {
	type value struct {
		path   string
		values []any
	}
	target := pick(g,
		value{g.kind.Required.Pointer(), []any{"one", "two"}},
		value{g.kind.Optional.Pointer(), []any{"secret", "", nil}},
		value{g.kind.Part.Pointer(), []any{g.kind.PartValue, nil}},
		value{"/spec/unknown", []any{1, map[string]any{}}},
		value{"/metadata/labels", []any{map[string]any{"tier": "gold"}, map[string]any{}}},
		value{"/metadata/labels/tier", []any{"gold", "silver"}},
		value{"/metadata/annotations", []any{map[string]any{}, map[string]any{"a": "b"}}},
		value{"/metadata/finalizers", []any{[]string{"example.com/hold"}, []string{}}},
		value{"/metadata/finalizers/0", []any{"example.com/hold", "example.com/more"}},
		value{"/metadata/finalizers/-", []any{"example.com/more"}},
		value{"/metadata/resourceVersion", []any{"1", "text", ""}},
		value{"/metadata/uid", []any{"wrong"}},
		value{"/metadata/generateName", []any{"x-"}},
		value{"/status", []any{map[string]any{}, map[string]any{"observedGeneration": 1}}},
		value{"/status/conditions", []any{[]any{}, []any{behaviours.NewCondition("Ready", metav1.ConditionTrue)}}},
		value{"/status/conditions/0/message", []any{"one", "two"}},
		value{"/status/conditions/-", []any{behaviours.NewCondition("Added", metav1.ConditionFalse)}},
		value{"/status/observedGeneration", []any{1, 2, 0}},
	)
	return map[string]any{"op": pick(g, "add", "add", "replace", "remove", "test"), "path": target.path, "value": pick(g, target.values...)}
}

func (g *generator) apply() step {
	name, options, doc := g.name(), g.patchOptions(types.ApplyPatchType), g.configuration()
	asYAML := g.oneIn(4)
	malformed := usually(g, 30, "", "{", "[]", "5", "a: b: c", "")
	if options.FieldManager == "" && !g.oneIn(8) {
		options.FieldManager = pick(g, "one", "two", "three")
	}
	return g.patchOf(name, g.subresource(), types.ApplyPatchType, func(s *side) []byte {
		switch configuration := doc(s, name); {
		case malformed != "":
			return []byte(malformed)
		case asYAML:
			return append([]byte("# YAML, but not JSON\n"), behaviours.Encode(configuration)...)
		default:
			return behaviours.Encode(configuration)
		}
	}, options)
}

// configuration returns the apply configuration that a step sends.
func (g *generator) configuration() func(s *side, name string) map[string]any {
	whole, optional, required := !g.oneIn(4), g.oneIn(3), pick(g, "one", "two")
	conditions, status := g.oneIn(2), g.status()
	index, odd := g.Int(), usually(g, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
	labels, finalizers := g.labels(), usually(g, 4, nil, g.finalizers())
	return func(s *side, name string) map[string]any {
		meta := map[string]any{"name": name}
		doc := map[string]any{"apiVersion": v1alpha1.SchemeGroupVersion.String(), "kind": g.kind.Name, "metadata": meta}
		if whole {
			var spec map[string]any
			_ = json.Unmarshal(behaviours.Encode(g.kind.Spec), &spec)
			doc["spec"] = spec
			behaviours.Put(doc, required, g.kind.Required...)
		}
		if optional {
			behaviours.Put(doc, "secret", g.kind.Optional...)
			behaviours.Put(doc, g.kind.PartValue, g.kind.Part...)
		}
		if conditions {
			doc["status"] = status
		}
		if labels != nil {
			meta["labels"] = labels
		}
		if finalizers != nil {
			meta["finalizers"] = finalizers
		}
		switch odd {
		case 1:
			meta["resourceVersion"] = s.object(index).ResourceVersion
		case 2:
			meta["resourceVersion"] = "1"
		case 3:
			meta["resourceVersion"] = "text"
		case 4:
			meta["uid"] = "wrong"
		case 5:
			meta["uid"] = s.object(index).UID
		case 6:
			meta["name"] = "other"
		case 7:
			delete(meta, "name")
		case 8:
			delete(doc, "metadata")
		case 9:
			meta["namespace"] = s.Namespaces[index&1]
		case 10:
			delete(doc, "kind")
		case 11:
			delete(doc, "apiVersion")
		case 12:
			doc["kind"] = "Other"
		case 13:
			doc["apiVersion"] = "openchoreo.dev/v9"
		case 14:
			behaviours.Put(doc, 1, "spec", "unknown")
		case 15:
			meta["managedFields"] = []any{}
		}
		return doc
	}
}
