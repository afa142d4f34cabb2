// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package internal extracts fields from objects, and converts them for fake clientsets.
package internal

import (
	"bytes"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v4/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v4/typed"
)

// ExtractInto reads from object the fields that fieldManager applied through
// subresource ("" is the main resource) into applyConfiguration. When it applied
// none, applyConfiguration is left as it is.
//
// It does what the function of this name in apimachinery's managedfields does, but
// always on structured-merge-diff/v4, whatever version client-go uses itself. Beyond
// that, it adds the keys of list items of which the manager owns only a part, and reads
// objects of a cluster whose definition has an atomic list where the schema here merges by
// key: duplicates of a key are no error, and a list that a manager owns as a whole is
// extracted as a whole.
func ExtractInto(object runtime.Object, objectType typed.ParseableType, fieldManager string, applyConfiguration any, subresource string) error {
	accessor, err := meta.Accessor(object)
	if err != nil {
		return fmt.Errorf("reading the metadata: %w", err)
	}
	owned, err := appliedFields(accessor, fieldManager, subresource)
	if owned == nil || err != nil {
		return err
	}
	value, err := objectType.FromStructured(object, typed.AllowDuplicates)
	if err != nil {
		return fmt.Errorf("matching the object with its schema: %w", err)
	}
	leaves := owned.Leaves()
	extracted := value.ExtractItems(leaves.Union(keyFields(leaves))).AsValue().Unstructured()
	fields, ok := extracted.(map[string]any)
	switch {
	case extracted == nil: // what it applied is gone, or is whole lists only
		fields = map[string]any{}
	case !ok:
		return fmt.Errorf("fields of manager %q are a %T, want a map", fieldManager, extracted)
	}
	if err := addWholeLists(object, owned, fields); err != nil {
		return err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, applyConfiguration); err != nil {
		return fmt.Errorf("filling in the apply configuration: %w", err)
	}
	return nil
}

// keyFields returns the key fields of the list items of which leaves has a part. The
// structured-merge-diff option for this (typed.WithAppendKeyFields) takes whole items too, and
// extracts those twice.
func keyFields(leaves *fieldpath.Set) *fieldpath.Set {
	keys := fieldpath.NewSet()
	leaves.Iterate(func(path fieldpath.Path) {
		for i, element := range path[:len(path)-1] {
			if element.Key == nil {
				continue
			}
			for _, field := range *element.Key {
				keys.Insert(append(path[:i+1:i+1], fieldpath.PathElement{FieldName: &field.Name}))
			}
		}
	})
	return keys
}

// addWholeLists adds to fields the lists of which the manager owns neither an item nor a
// part of one, but the list itself.
func addWholeLists(object runtime.Object, owned *fieldpath.Set, fields map[string]any) error {
	all, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("reading the object: %w", err)
	}
	owned.Leaves().Iterate(func(path fieldpath.Path) {
		names := make([]string, 0, len(path))
		for _, element := range path {
			if element.FieldName == nil {
				return
			}
			names = append(names, *element.FieldName)
		}
		list, found, notList := unstructured.NestedSlice(all, names...)
		if found && notList == nil {
			err = errors.Join(err, unstructured.SetNestedSlice(fields, list, names...))
		}
	})
	return err
}

// appliedFields returns nil when the manager applied nothing.
func appliedFields(object metav1.Object, manager, subresource string) (*fieldpath.Set, error) {
	for _, entry := range object.GetManagedFields() {
		if entry.Manager != manager || entry.Subresource != subresource ||
			entry.Operation != metav1.ManagedFieldsOperationApply || entry.FieldsV1 == nil {
			continue
		}
		// Not FieldsV1.Raw: from apimachinery 0.36 on, a build tag replaces it.
		raw, err := entry.FieldsV1.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("reading managed fields of %q: %w", manager, err)
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(bytes.NewReader(raw)); err != nil {
			return nil, fmt.Errorf("reading managed fields of %q: %w", manager, err)
		}
		return set, nil
	}
	return nil, nil //nolint:nilnil // see the comment above
}
