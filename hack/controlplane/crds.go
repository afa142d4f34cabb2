// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

var crdResource = schema.GroupVersionResource{
	Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
}

// crdTimeout limits InstallCRDs, which waits until the API server serves the CRDs.
const crdTimeout = 2 * time.Minute

// InstallCRDs creates or updates CustomResourceDefinitions, each a YAML or JSON document. It returns
// when the API server serves every version of each.
func (cp *ControlPlane) InstallCRDs(ctx context.Context, crds ...[]byte) error {
	client, err := dynamic.NewForConfig(cp.Config())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, crdTimeout)
	defer cancel()
	var installed []schema.GroupVersionResource
	for _, data := range crds {
		crd := &unstructured.Unstructured{}
		var definition struct {
			Spec struct {
				Group    string
				Names    struct{ Plural string }
				Versions []struct{ Name string }
			}
		}
		if err := errors.Join(yaml.Unmarshal(data, &crd.Object), yaml.Unmarshal(data, &definition)); err != nil {
			return fmt.Errorf("install CRD: %w", err)
		}
		options := metav1.ApplyOptions{FieldManager: "controlplane", Force: true}
		if _, err := client.Resource(crdResource).Apply(ctx, crd.GetName(), crd, options); err != nil {
			return fmt.Errorf("install CRD %s: %w", crd.GetName(), err)
		}
		for _, version := range definition.Spec.Versions {
			resource := schema.GroupVersionResource{Group: definition.Spec.Group, Version: version.Name, Resource: definition.Spec.Names.Plural}
			installed = append(installed, resource)
		}
	}
	for _, resource := range installed {
		if err := poll(ctx, func(ctx context.Context) error {
			_, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1})
			return err
		}); err != nil {
			return fmt.Errorf("wait for %s: %w", resource.String(), err)
		}
	}
	return nil
}
