// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fieldset finds the fields in which DataPlanes differ, and the managers of a field. For a
// ClusterDataPlane, pass its [v1alpha1.ClusterDataPlane.AsDataPlane]: the fields have the same
// paths.
//
//	changes, err := fieldset.Changed(before, after)
//	if err != nil {
//		return err
//	}
//	log.Info("DataPlane changed", "modified", changes.Modified) // [.spec.registry.prefix]
//
//	managers, err := fieldset.Managers(dp, ".spec.registry.prefix") // [kubectl operator]
//
// It names fields and never shows their values, so its results are safe to log.
package fieldset

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v4/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v4/typed"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
	"github.com/openchoreo/dataplane-sdk-go/internal/schema"
)

// Changes are the sorted paths of the fields that differ, such as ".spec.registry.prefix"
// and `.status.conditions[type="Ready"].status`. They contain no values, except for the keys
// of lists and maps.
type Changes struct {
	Added    []string `json:"added,omitempty"`
	Modified []string `json:"modified,omitempty"`
	Removed  []string `json:"removed,omitempty"`
}

// Empty reports whether nothing differs.
func (c Changes) Empty() bool { return len(c.Added)+len(c.Modified)+len(c.Removed) == 0 }

// Changed returns the fields in which two states of a DataPlane differ. It matches
// conditions by type, in any order. A nil DataPlane has no fields. Changed ignores managed
// fields and the resource version, which change with every write.
func Changed(before, after *v1alpha1.DataPlane) (Changes, error) {
	from, err := typedValue(before)
	if err != nil {
		return Changes{}, err
	}
	to, err := typedValue(after)
	if err != nil {
		return Changes{}, err
	}
	comparison, err := from.Compare(to)
	if err != nil {
		return Changes{}, fmt.Errorf("comparing data planes: %w", err)
	}
	return Changes{
		Added: paths(comparison.Added), Modified: paths(comparison.Modified), Removed: paths(comparison.Removed),
	}, nil
}

func typedValue(dp *v1alpha1.DataPlane) (*typed.TypedValue, error) {
	if dp == nil {
		return schema.DataPlane().FromUnstructured(map[string]any{})
	}
	dp = dp.DeepCopy()
	dp.ManagedFields, dp.ResourceVersion = nil, ""
	dp.TypeMeta = metav1.TypeMeta{} // Only some clients fill it in.
	value, err := schema.DataPlane().FromStructured(dp, typed.AllowDuplicates)
	if err != nil {
		return nil, fmt.Errorf("matching data plane %s with its schema: %w", dataplane.Name(dp.Namespace, dp.Name), err)
	}
	return value, nil
}

func paths(set *fieldpath.Set) []string {
	var result []string
	set.Leaves().Iterate(func(path fieldpath.Path) { result = append(result, path.String()) })
	slices.Sort(result)
	return result
}

// Managers returns the sorted names of the managers that own a field of dp, or a field
// below it, according to its managed fields. It explains the conflict of a server-side
// apply. The path has the form of those in [Changes] and in the error of the conflict, such as
// ".spec.registry.prefix". A manager of a whole list owns everything in it.
//
// The result is empty if no manager owns the field, or if the object comes from an
// informer that strips managed fields.
func Managers(dp *v1alpha1.DataPlane, path string) ([]string, error) {
	if dp == nil {
		return nil, dataplane.ErrNil
	}
	if !isPath.MatchString(path) {
		return nil, fmt.Errorf("field path %.100q: want a path such as .spec.registry.prefix", path)
	}
	var managers []string
	for _, entry := range dp.ManagedFields {
		if entry.FieldsV1 == nil {
			continue
		}
		// Not FieldsV1.Raw: from apimachinery 0.36 on, a build tag replaces it.
		raw, err := entry.FieldsV1.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("managed fields of %q: %w", entry.Manager, err)
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(bytes.NewReader(raw)); err != nil {
			return nil, fmt.Errorf("managed fields of %q: %w", entry.Manager, err)
		}
		set.Leaves().Iterate(func(leaf fieldpath.Path) {
			if owns(leaf, path) {
				managers = append(managers, entry.Manager)
			}
		})
	}
	slices.Sort(managers)
	return slices.Compact(managers), nil
}

// isPath matches names of fields, each of which may be followed by keys, values or indices.
var isPath = regexp.MustCompile(`^(\.[^\[\]]+(\[("(\\.|[^"\\])*"|[^"\[\]])+\])*)+$`)

// owns reports whether the owner of a leaf owns the field at path or a field below it.
func owns(leaf fieldpath.Path, path string) bool {
	for i := range leaf {
		if leaf[:i+1].String() == path {
			return true
		}
	}
	// The owner of a whole list, or of a whole item, owns the fields in it. For other leaves,
	// text doesn't distinguish children from siblings: labels "app" and "app.kubernetes.io/name".
	below, ok := strings.CutPrefix(path, leaf.String())
	isItem := len(leaf) > 0 && leaf[len(leaf)-1].FieldName == nil
	return ok && (strings.HasPrefix(below, "[") || isItem && strings.HasPrefix(below, "."))
}
