// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"encoding/json"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	fieldschema "sigs.k8s.io/structured-merge-diff/v4/schema"
	"sigs.k8s.io/structured-merge-diff/v4/typed"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/scheme"
	openchoreoschema "github.com/openchoreo/dataplane-sdk-go/internal/schema"
)

// kind is a kind of objects, as a store needs it.
type kind struct {
	schema.GroupVersionKind
	plural     string
	namespaced bool
	fields     func() typed.ParseableType
}

// kinds are the kinds that a Clientset serves.
var kinds = []kind{
	{v1alpha1.SchemeGroupVersion.WithKind("DataPlane"), "dataplanes", true, openchoreoschema.DataPlane},
	{v1alpha1.SchemeGroupVersion.WithKind("ClusterDataPlane"), "clusterdataplanes", false, openchoreoschema.ClusterDataPlane},
}

func (k kind) resource() schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: k.plural}
}

// encode returns the JSON of an object as a client sends it: with times in whole seconds, and
// without empty optional fields.
func (k kind) encode(object runtime.Object) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	raw := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(data, &raw.Object); err != nil {
		return nil, err
	}
	raw.SetGroupVersionKind(k.GroupVersionKind)
	return raw, k.roundTripMetadata(raw)
}

// decode returns an object as a typed client reads it, without its kind.
func (k kind) decode(raw *unstructured.Unstructured) (runtime.Object, error) {
	object, err := scheme.Scheme.New(k.GroupVersionKind)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(raw.Object)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, object); err != nil {
		return nil, err
	}
	object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return object, nil
}

// clean removes from an object the fields that its kind doesn't have, and returns their paths.
// It fails if the object has no kind or malformed metadata.
func (k kind) clean(raw *unstructured.Unstructured) (unknown []string, err error) {
	if raw.GetKind() == "" {
		return nil, errors.New("object 'kind' is missing")
	}
	if raw.GroupVersionKind() == k.GroupVersionKind { // otherwise, the validation refuses it
		fields := k.fields()
		prune(fields.Schema, fields.TypeRef, "", raw.Object, &unknown)
	}
	if _, isText := raw.Object["apiVersion"].(string); !isText && raw.Object["apiVersion"] != nil {
		return nil, errors.New("apiVersion is not a string")
	}
	return unknown, k.roundTripMetadata(raw)
}

func (k kind) roundTripMetadata(raw *unstructured.Unstructured) error {
	data, err := json.Marshal(raw.Object["metadata"])
	if err != nil {
		return err
	}
	var meta metav1.ObjectMeta
	if err := utiljson.Unmarshal(data, &meta); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	raw.Object["metadata"], err = runtime.DefaultUnstructuredConverter.ToUnstructured(&meta)
	return err
}

// prune removes from a value the fields that its type doesn't have, and fields that are null.
func prune(types *fieldschema.Schema, ref fieldschema.TypeRef, path string, value any, unknown *[]string) {
	atom, known := types.Resolve(ref)
	if !known {
		return
	}
	switch value := value.(type) {
	case map[string]any:
		for name, child := range value {
			if atom.Map == nil {
				return
			}
			field, known := atom.FindField(name)
			switch {
			case known && child == nil:
				delete(value, name)
			case known:
				prune(types, field.Type, path+"."+name, child, unknown)
			case atom.Map.ElementType != (fieldschema.TypeRef{}):
				prune(types, atom.Map.ElementType, path+"."+name, child, unknown)
			default:
				delete(value, name)
				*unknown = append(*unknown, (path + "." + name)[1:])
			}
		}
	case []any:
		for i, child := range value {
			if atom.List != nil {
				prune(types, atom.List.ElementType, fmt.Sprintf("%s[%d]", path, i), child, unknown)
			}
		}
	}
}
