// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package informer

import (
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/redact"
)

var (
	_ cache.TransformFunc = StripManagedFields
	_ cache.TransformFunc = DropSecrets
)

// StripManagedFields is a [cache.TransformFunc] that removes the managed fields of an
// object of any kind, often the larger part of the object. Without managed fields, neither
// fieldset.Managers nor Extract of an apply configuration finds anything. It modifies the
// object in place and never fails.
func StripManagedFields(obj any) (any, error) {
	if v := reflect.ValueOf(obj); v.Kind() == reflect.Pointer && v.IsNil() {
		return obj, nil
	}
	if object, err := meta.Accessor(obj); err == nil && len(object.GetManagedFields()) > 0 {
		object.SetManagedFields(nil)
	}
	return obj, nil
}

// DropSecrets is a [cache.TransformFunc] for programs that watch DataPlanes but don't
// connect to them. It removes the managed fields, and everything that is or may be secret:
//
//   - [v1alpha1.Redacted] replaces the client key, the observer's password, user information
//     in URLs, and the annotations in which kubectl apply, kapp and Rancher keep a copy of the
//     object. It also replaces the certificates, which are of no use without the key and take
//     most of the space.
//   - From dynamic objects, it removes spec.kubernetesCluster.auth, where OpenChoreo v0.4 to
//     v0.8 keeps credentials. It replaces values whose type differs from the schema.
//
// It leaves spec.clusterAgent.clientCA.value, which is public.
//
// It works with typed, dynamic and metadata informers. It treats all objects of a metadata
// informer as DataPlanes, since their kind isn't always set. From other kinds, it removes only
// the managed fields. It modifies the object in place and never fails.
//
// [helpers.RESTConfigFor] and [helpers.MergePatch] refuse a DataPlane without its secrets,
// with [helpers.ErrSecretsDropped]. Never send one in an Update: that would destroy the
// credentials.
func DropSecrets(obj any) (any, error) {
	obj, err := StripManagedFields(obj)
	switch o := obj.(type) {
	case *v1alpha1.DataPlane:
		if o != nil {
			creds := &o.Spec.KubernetesCluster.Credentials
			creds.CACert, creds.ClientCert = redact.Value(creds.CACert), redact.Value(creds.ClientCert) // which Redacted would decode
			*o = *o.Redacted()
		}
	case *metav1.PartialObjectMetadata:
		if o != nil {
			redact.InAnnotations(o.Annotations)
		}
	case *unstructured.Unstructured:
		if o != nil && o.GroupVersionKind().GroupKind() == v1alpha1.SchemeGroupVersion.WithKind("DataPlane").GroupKind() {
			dropUnstructured(o.Object)
		}
	}
	return obj, err
}

// dropUnstructured replaces the secrets, and any value of another type where a secret, or an
// object that holds one, belongs.
func dropUnstructured(object map[string]any) {
	at := func(path ...string) map[string]any {
		fields := object
		for _, name := range path {
			next, isObject := fields[name].(map[string]any)
			if !isObject && fields[name] != nil {
				fields[name] = redact.Marker
			}
			fields = next
		}
		return fields
	}
	replace := func(fields map[string]any, name string, by func(string) string) {
		if text, ok := fields[name].(string); ok {
			fields[name] = by(text)
		} else if fields[name] != nil {
			fields[name] = redact.Marker
		}
	}
	annotations := at("metadata", "annotations")
	for _, key := range redact.Annotations {
		replace(annotations, key, redact.Value)
	}
	delete(at("spec", "kubernetesCluster"), "auth")
	creds, observer := at("spec", "kubernetesCluster", "credentials"), at("spec", "observer")
	for _, name := range []string{"caCert", "clientCert", "clientKey"} {
		replace(creds, name, redact.Value)
	}
	replace(creds, "apiServerURL", redact.URL)
	replace(at("spec", "observer", "authentication", "basicAuth"), "password", redact.Value)
	replace(observer, "url", redact.URL)
}
