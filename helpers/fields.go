// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v4/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v4/typed"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/schema"
)

// Changes are the paths of fields that differ, sorted, such as ".spec.registry.prefix" and
// `.status.conditions[type="Ready"].status`. They name fields and never show values, apart
// from the keys of lists and maps.
type Changes struct {
	Added    []string `json:"added,omitempty"`
	Modified []string `json:"modified,omitempty"`
	Removed  []string `json:"removed,omitempty"`
}

// Empty says whether nothing differs.
func (c Changes) Empty() bool { return len(c.Added)+len(c.Modified)+len(c.Removed) == 0 }

// ChangedFields returns the fields in which two states of a DataPlane differ. Entries of
// the list of conditions are told apart by type. nil is a state without any field. Managed
// fields and the resource version, which differ in every two states, are left out.
func ChangedFields(before, after *v1alpha1.DataPlane) (Changes, error) {
	old, err := typedValue(before)
	if err != nil {
		return Changes{}, err
	}
	changed, err := typedValue(after)
	if err != nil {
		return Changes{}, err
	}
	comparison, err := old.Compare(changed)
	if err != nil {
		return Changes{}, fmt.Errorf("comparing the data planes: %w", err)
	}
	return Changes{
		Added: paths(comparison.Added), Modified: paths(comparison.Modified), Removed: paths(comparison.Removed),
	}, nil
}

func typedValue(dp *v1alpha1.DataPlane) (*typed.TypedValue, error) {
	dataPlane := schema.DataPlane()
	if dp == nil {
		return dataPlane.FromUnstructured(map[string]any{})
	}
	dp = dp.DeepCopy()
	dp.ManagedFields, dp.ResourceVersion = nil, ""
	dp.TypeMeta = metav1.TypeMeta{} // which clients fill in or not
	value, err := dataPlane.FromStructured(dp, typed.AllowDuplicates)
	if err != nil {
		return nil, fmt.Errorf("matching data plane %s with its schema: %w", keyOf(dp), err)
	}
	return value, nil
}

func paths(set *fieldpath.Set) []string {
	var result []string
	set.Leaves().Iterate(func(path fieldpath.Path) { result = append(result, path.String()) })
	slices.Sort(result)
	return result
}

// FieldManagers returns who owns a field of dp, or a field below it, according to its
// managed fields: the names of managers, sorted, each once. It explains the conflict of a
// server-side apply. The path is as in [Changes] and in the error of the conflict, such as
// ".spec.registry.prefix". Nobody may own it; an informer that strips managed fields knows
// of none.
func FieldManagers(dp *v1alpha1.DataPlane, path string) ([]string, error) {
	if dp == nil {
		return nil, errors.New("nil data plane")
	}
	if len(path) < 2 || path[0] != '.' {
		return nil, fmt.Errorf("field path %.100q: want a path such as .spec.registry.prefix", path)
	}
	var managers []string
	for _, entry := range dp.ManagedFields {
		if entry.FieldsV1 == nil {
			continue
		}
		raw, err := entry.FieldsV1.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("managed fields of %q: %w", entry.Manager, err)
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(bytes.NewReader(raw)); err != nil {
			return nil, fmt.Errorf("managed fields of %q: %w", entry.Manager, err)
		}
		set.Leaves().Iterate(func(owned fieldpath.Path) {
			if owns(owned, path) {
				managers = append(managers, entry.Manager)
			}
		})
	}
	slices.Sort(managers)
	return slices.Compact(managers), nil
}

// owns says whether who owns a leaf owns the field of a path, or something below it. An
// atomic list is a leaf that owns all its items. Keys of labels may have dots, so that a
// path in text does not tell what is below what.
func owns(leaf fieldpath.Path, path string) bool {
	for i := range leaf {
		if leaf[:i+1].String() == path {
			return true
		}
	}
	item, ok := strings.CutPrefix(path, leaf.String())
	return ok && strings.HasPrefix(item, "[")
}
