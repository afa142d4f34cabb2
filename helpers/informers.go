// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"k8s.io/apimachinery/pkg/api/meta"
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
// otherwise; the URL of the API server stays. Objects of other kinds keep all but their
// managed fields.
//
// Such a DataPlane can neither be connected to nor be written by [MergePatch], which
// fail with [ErrSecretsDropped]. An Update of it would destroy the credentials.
func DropSecrets(obj any) (any, error) {
	obj, err := StripManagedFields(obj)
	dp, ok := obj.(*v1alpha1.DataPlane)
	if !ok || err != nil {
		return obj, err
	}
	for _, annotation := range copyAnnotations {
		delete(dp.Annotations, annotation)
	}
	creds := &dp.Spec.KubernetesCluster.Credentials
	for _, value := range []*string{&creds.CACert, &creds.ClientCert, &creds.ClientKey} {
		if *value != "" {
			*value = v1alpha1.Redacted
		}
	}
	if observer := dp.Spec.Observer; observer != nil && observer.Authentication.BasicAuth.Password != "" {
		observer.Authentication.BasicAuth.Password = v1alpha1.Redacted
	}
	return dp, nil
}

// copyAnnotations are where kubectl apply and kapp keep the whole object.
var copyAnnotations = [...]string{
	"kubectl.kubernetes.io/last-applied-configuration",
	"kapp.k14s.io/original",
}
