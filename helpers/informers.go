// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

var (
	_ cache.TransformFunc = StripManagedFields
	_ cache.TransformFunc = DropSecrets
)

// StripManagedFields is a [cache.TransformFunc] for an informer of any kind of object: it
// removes the managed fields, which often are the larger part of an object and serve
// only those who ask who set what. It changes the object in place, as the informer's own
// transforms do. Without them, Extract of an apply configuration finds nothing.
//
//	informer.SetTransform(helpers.StripManagedFields)
func StripManagedFields(obj any) (any, error) {
	if object, err := meta.Accessor(obj); err == nil && len(object.GetManagedFields()) > 0 {
		object.SetManagedFields(nil)
	}
	return obj, nil
}

// DropSecrets is a [cache.TransformFunc] for an informer of DataPlanes whose program
// doesn't connect to them: it does what [StripManagedFields] does, replaces the
// observer's password and the credentials by [v1alpha1.Redacted], and removes the
// annotation in which kubectl apply keeps a copy of them. The certificates are no
// secrets, but serve nobody without the key, and are most of what is left of a DataPlane
// otherwise; the URL of the API server stays. It does the same to a DataPlane of a dynamic
// or a metadata informer. Objects of other kinds keep all but their managed fields.
//
// Such a DataPlane can neither be connected to nor be written by [MergePatch], which
// fail with [ErrSecretsDropped]. An Update of it would destroy the credentials.
func DropSecrets(obj any) (any, error) {
	obj, err := StripManagedFields(obj)
	if err != nil {
		return obj, err
	}
	switch dp := obj.(type) {
	case *v1alpha1.DataPlane:
		if dp == nil {
			return obj, nil
		}
		dropCopies(dp.Annotations)
		creds := &dp.Spec.KubernetesCluster.Credentials
		for _, value := range []*string{&creds.CACert, &creds.ClientCert, &creds.ClientKey} {
			drop(value)
		}
		if dp.Spec.Observer != nil {
			drop(&dp.Spec.Observer.Authentication.BasicAuth.Password)
		}
	case *unstructured.Unstructured:
		if isDataPlane(dp) {
			dropUnstructured(dp.Object)
		}
	case *metav1.PartialObjectMetadata:
		if isDataPlane(dp) {
			dropCopies(dp.Annotations)
		}
	}
	return obj, nil
}

func isDataPlane(obj runtime.Object) bool {
	kind := obj.GetObjectKind().GroupVersionKind()
	return kind.Group == v1alpha1.GroupName && kind.Kind == "DataPlane"
}

func drop(secret *string) {
	if *secret != "" {
		*secret = v1alpha1.Redacted
	}
}

func dropCopies(annotations map[string]string) {
	for _, annotation := range copyAnnotations {
		delete(annotations, annotation)
	}
}

// dropUnstructured drops whatever is in the place of a secret, of any type.
func dropUnstructured(object map[string]any) {
	at := func(path ...string) map[string]any {
		fields, _, _ := unstructured.NestedFieldNoCopy(object, path...)
		found, _ := fields.(map[string]any)
		return found
	}
	for _, annotation := range copyAnnotations {
		delete(at("metadata", "annotations"), annotation)
	}
	for _, secret := range []struct {
		in    map[string]any
		names []string
	}{
		{at("spec", "kubernetesCluster", "credentials"), []string{"caCert", "clientCert", "clientKey"}},
		{at("spec", "observer", "authentication", "basicAuth"), []string{"password"}},
	} {
		for _, name := range secret.names {
			if value, ok := secret.in[name]; ok && value != "" && value != nil {
				secret.in[name] = v1alpha1.Redacted
			}
		}
	}
}

// copyAnnotations are where kubectl apply and kapp keep the whole object. Package v1alpha1
// has the same list, which a test compares.
var copyAnnotations = [...]string{
	"kubectl.kubernetes.io/last-applied-configuration",
	"kapp.k14s.io/original",
}
