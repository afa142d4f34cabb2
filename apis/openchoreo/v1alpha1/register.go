// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of DataPlane and ClusterDataPlane.
const GroupName = "openchoreo.dev"

// SchemeGroupVersion is the group and version of the types in this package.
var SchemeGroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

// GroupVersion is SchemeGroupVersion under the name that controller-runtime
// projects look for.
var GroupVersion = SchemeGroupVersion

var schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

// AddToScheme adds the types of this package to a scheme, and to no other.
var AddToScheme = schemeBuilder.AddToScheme

// Kind returns the group-qualified name of a kind of this group, such as
// Kind("DataPlane").
func Kind(kind string) schema.GroupKind {
	return SchemeGroupVersion.WithKind(kind).GroupKind()
}

// Resource returns the group-qualified name of a resource of this group, such as
// Resource("dataplanes").
func Resource(resource string) schema.GroupResource {
	return SchemeGroupVersion.WithResource(resource).GroupResource()
}

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(SchemeGroupVersion, &DataPlane{}, &DataPlaneList{}, &ClusterDataPlane{}, &ClusterDataPlaneList{})
	metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
	return nil
}
