// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/structured-merge-diff/v4/typed"

	"github.com/openchoreo/dataplane-sdk-go/applyconfigurations"
)

func newFieldManager(kind kind, subresource string) *managedfields.FieldManager {
	manager, err := managedfields.NewDefaultCRDFieldManager(applyconfigurations.NewTypeConverter(nil),
		untyped{}, untyped{}, untyped{}, kind.GroupVersionKind, kind.GroupVersion(), subresource, nil)
	if err != nil {
		panic(err)
	}
	return manager
}

// untyped is a field manager's converter, defaulter and creator for unstructured objects of one
// version, without defaults.
type untyped struct {
	runtime.ObjectConvertor // its other methods aren't called
}

func (untyped) ConvertToVersion(object runtime.Object, version runtime.GroupVersioner) (runtime.Object, error) {
	kind := object.GetObjectKind().GroupVersionKind()
	if other, _ := version.KindForGroupVersionKinds([]schema.GroupVersionKind{kind}); other != kind {
		return nil, fmt.Errorf("%s has no other version", kind)
	}
	return object, nil
}

func (untyped) Default(runtime.Object) {}

func (untyped) New(kind schema.GroupVersionKind) (runtime.Object, error) { return newRaw(kind), nil }

func newRaw(kind schema.GroupVersionKind) *unstructured.Unstructured {
	raw := &unstructured.Unstructured{}
	raw.SetGroupVersionKind(kind)
	return raw
}

// manage records in the managed fields of after which fields a manager changes.
func (s *store) manage(live, after *unstructured.Unstructured, subresource, manager string) *unstructured.Unstructured {
	if manager == "" { // like API servers, take the first word of the User-Agent
		manager, _, _ = strings.Cut(rest.DefaultKubernetesUserAgent(), "/")
	}
	managed, err := s.managers[subresource].Update(live, after.DeepCopy(), manager)
	if err != nil { // like API servers, forget the managers of an object that doesn't fit its schema
		after.SetManagedFields(nil)
		return after
	}
	return managed.(*unstructured.Unstructured)
}

// fits reports whether an object is of the store's kind and has values of the types of its schema.
func (s *store) fits(raw *unstructured.Unstructured) bool {
	_, err := s.fields().FromUnstructured(raw.Object, typed.AllowDuplicates)
	return err == nil && raw.GroupVersionKind() == s.GroupVersionKind
}
