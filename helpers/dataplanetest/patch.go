// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/structured-merge-diff/v4/typed"
	"sigs.k8s.io/structured-merge-diff/v4/value"
)

func (s *store) patch(action clienttesting.PatchActionImpl) (*unstructured.Unstructured, error) {
	options := action.PatchOptions
	if !slices.Contains([]types.PatchType{types.JSONPatchType, types.MergePatchType, types.ApplyPatchType}, action.PatchType) {
		return nil, failure(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
			fmt.Sprintf("%ss can't be patched by %s", s.Kind, action.PatchType))
	}
	if err := invalidOptions("PatchOptions", validation.ValidatePatchOptions(&options, action.PatchType)); err != nil {
		return nil, err
	}
	if action.PatchType == types.ApplyPatchType {
		return s.apply(action)
	}
	live, err := s.get(action.Namespace, action.Name)
	if err != nil {
		return nil, err
	}
	sent, err := s.patched(live, action)
	if err != nil {
		return nil, err
	}
	r := writeRequest{action.Namespace, action.Name, action.Subresource, options.FieldManager, options.DryRun}
	if err := r.checkKey(sent); err != nil {
		return nil, err
	}
	return s.replace(live, sent, r)
}

// checkKey refuses an object whose name or namespace differs from the request's.
func (r writeRequest) checkKey(raw *unstructured.Unstructured) error {
	if err := inNamespace(raw, r.namespace); err != nil {
		return err
	}
	if name := raw.GetName(); name != r.name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", name, r.name))
	}
	return nil
}

// patched returns the result of a JSON or merge patch of an object.
func (s *store) patched(live *unstructured.Unstructured, action clienttesting.PatchActionImpl) (*unstructured.Unstructured, error) {
	var err error
	if action.PatchType == types.JSONPatchType {
		var operations []struct {
			Op    *string         `json:"op,omitempty"`
			Path  *string         `json:"path,omitempty"`
			From  *string         `json:"from,omitempty"`
			Value json.RawMessage `json:"value"` // null if missing: without a value, the operation test panics
		}
		if err = utiljson.Unmarshal(action.Patch, &operations); err == nil {
			action.Patch, err = json.Marshal(operations)
		}
	} else {
		var document map[string]any
		if err = utiljson.Unmarshal(action.Patch, &document); err == nil && document == nil {
			err = errors.New("not an object")
		}
	}
	if err != nil {
		return nil, apierrors.NewBadRequest("error decoding patch: " + err.Error())
	}
	patcher := &patcher{live: live}
	if _, _, err := clienttesting.ObjectReaction(patcher)(action); err != nil {
		return nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", err.Error(), 0, false)
	}
	unknown, err := s.clean(patcher.patched)
	if err == nil && len(unknown) > 0 && action.PatchOptions.FieldValidation == metav1.FieldValidationStrict {
		err = fmt.Errorf("unknown fields %q", unknown)
	}
	if err != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{
			field.Invalid(field.NewPath("patch"), string(action.Patch), err.Error()),
		})
	}
	return patcher.patched, nil
}

// patcher is an object tracker with one object. It keeps the result of client-go's patch.
type patcher struct {
	clienttesting.ObjectTracker
	live, patched *unstructured.Unstructured
}

func (p *patcher) Get(schema.GroupVersionResource, string, string, ...metav1.GetOptions) (runtime.Object, error) {
	return &document{*p.live.DeepCopy()}, nil
}

func (p *patcher) Patch(_ schema.GroupVersionResource, patched runtime.Object, _ string, _ ...metav1.PatchOptions) error {
	p.patched = &patched.(*document).Unstructured
	return nil
}

// document is an object that a patch may have left without a kind.
type document struct{ unstructured.Unstructured }

func (d *document) UnmarshalJSON(data []byte) error { return utiljson.Unmarshal(data, &d.Object) }

func (s *store) apply(action clienttesting.PatchActionImpl) (*unstructured.Unstructured, error) {
	options := action.PatchOptions
	live, err := s.get(action.Namespace, action.Name)
	if err != nil && (action.Subresource == status || !apierrors.IsNotFound(err)) {
		return nil, err
	}
	current := live
	switch {
	case live == nil:
		current = newRaw(s.GroupVersionKind)
	case s.unowned[keyOf(live)]:
		if current, err = s.managedByOthers(live); err != nil {
			return nil, err
		}
	}
	configuration := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(action.Patch, &configuration.Object); err != nil {
		return nil, apierrors.NewBadRequest("error decoding YAML: " + err.Error())
	}
	changes := false
	if configuration.GroupVersionKind() == s.GroupVersionKind && configuration.GetManagedFields() == nil { // otherwise, the field manager refuses it
		if changes, err = s.wouldChange(current, configuration); err != nil {
			return nil, err
		}
	}
	fields := s.managers[action.Subresource]
	object, err := fields.Apply(part(current, action.Subresource), part(configuration, action.Subresource),
		options.FieldManager, options.Force != nil && *options.Force)
	if err == nil && changes { // the manager gets a new time, even if only the other part changes
		renewed := renew(object.(*unstructured.Unstructured), options.FieldManager, action.Subresource)
		object, err = fields.Update(renewed, renewed.DeepCopy(), options.FieldManager) // sorts by times
	}
	if err != nil {
		return nil, err
	}
	sent := object.(*unstructured.Unstructured)
	if uid := sent.GetUID(); live == nil && uid != "" {
		return nil, apierrors.NewConflict(s.resource(), action.Name,
			fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	r := writeRequest{action.Namespace, action.Name, action.Subresource, options.FieldManager, options.DryRun}
	if err := r.checkKey(sent); err != nil {
		return nil, err
	}
	if live != nil {
		return s.finish(live, sent, s.reset(live, sent, r.subresource), r)
	}
	if _, err := parseVersion(sent.GetResourceVersion()); err != nil {
		return nil, err
	}
	complete(sent)
	if err := s.validateNew(sent); err != nil {
		return nil, err
	}
	return s.write(nil, sent, r.dryRun), nil
}

// wouldChange returns whether a configuration would change an object if both its parts, the object
// and the status, were applied.
func (s *store) wouldChange(live, configuration *unstructured.Unstructured) (bool, error) {
	applied, err := s.fields().FromUnstructured(configuration.Object)
	if err != nil {
		return false, err
	}
	before, err := s.fields().FromUnstructured(live.Object, typed.AllowDuplicates)
	if err != nil {
		return false, err
	}
	after, err := before.Merge(applied)
	return err == nil && !value.Equals(before.AsValue(), after.AsValue()), err
}

// renew sets the time of an applying manager's entry to now.
func renew(raw *unstructured.Unstructured, manager, subresource string) *unstructured.Unstructured {
	at, entries := now(), raw.GetManagedFields()
	for i, entry := range entries {
		if entry.Operation == metav1.ManagedFieldsOperationApply && entry.Manager == manager && entry.Subresource == subresource {
			entries[i].Time = &at
		}
	}
	raw.SetManagedFields(entries)
	return raw
}

// part returns a copy of an object with only the fields that a subresource may change, and those
// that identify the object.
func part(raw *unstructured.Unstructured, subresource string) *unstructured.Unstructured {
	raw = raw.DeepCopy()
	if subresource == "" {
		delete(raw.Object, status)
		return raw
	}
	delete(raw.Object, "spec")
	if meta, ok := raw.Object["metadata"].(map[string]any); ok {
		keep := []string{"name", "namespace", "resourceVersion", "uid", "managedFields"}
		maps.DeleteFunc(meta, func(key string, _ any) bool { return !slices.Contains(keep, key) })
	}
	return raw
}

// managedByOthers returns a copy of an object without managed fields in which one manager owns all
// fields. The status has its own entry, as after Create and UpdateStatus. The field manager alone
// would record an owner only for the part that is applied first, as API servers do after a write
// removed the managed fields.
func (s *store) managedByOthers(object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	const others = "before-first-apply"
	created := part(object, "")
	created.SetUID("") // the field manager ignores updates of objects with a UID but no managed fields
	managed, err := s.managers[""].Update(newRaw(s.GroupVersionKind), created, others)
	if err != nil {
		return nil, err
	}
	created, object = managed.(*unstructured.Unstructured), object.DeepCopy()
	object.SetManagedFields(created.GetManagedFields())
	if managed, err = s.managers[status].Update(created, object, others); err != nil {
		return nil, err
	}
	return managed.(*unstructured.Unstructured), nil
}
