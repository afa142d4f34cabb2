// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

// crdTimeout bounds the wait for definitions that the API server has accepted.
const crdTimeout = 2 * time.Minute

// InstallCRDs creates CustomResourceDefinitions or brings them up to date, and returns when the
// API server serves every version of each. An element holds one or more YAML or JSON documents.
// Anything else than a CustomResourceDefinition in them is an error, and nothing is installed then.
func (cp *ControlPlane) InstallCRDs(ctx context.Context, crds ...[]byte) error {
	var definitions []*unstructured.Unstructured
	for _, data := range crds {
		parsed, err := parseCRDs(data)
		if err != nil {
			return fmt.Errorf("install CRDs: %w", err)
		}
		definitions = append(definitions, parsed...)
	}
	client, err := dynamic.NewForConfig(cp.Config())
	if err != nil {
		return err
	}
	ctx, cancel := cp.bound(ctx)
	defer cancel()
	ctx, cancelTimeout := context.WithTimeout(ctx, crdTimeout)
	defer cancelTimeout()
	for _, definition := range definitions {
		options := metav1.ApplyOptions{FieldManager: "controlplane", Force: true}
		if _, err := client.Resource(crdResource).Apply(ctx, definition.GetName(), definition, options); err != nil {
			return fmt.Errorf("install CRD %s: %w", definition.GetName(), err)
		}
	}
	for _, definition := range definitions {
		if err := poll(ctx, func(ctx context.Context) error { return served(ctx, client, definition) }); err != nil {
			return fmt.Errorf("wait for CRD %s: %w", definition.GetName(), err)
		}
	}
	return nil
}

func parseCRDs(data []byte) ([]*unstructured.Unstructured, error) {
	var definitions []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		switch {
		case errors.Is(err, io.EOF):
			return definitions, nil
		case err != nil:
			return nil, err
		case len(object.Object) == 0: // a document with comments only
			continue
		}
		want := crdResource.GroupVersion().WithKind("CustomResourceDefinition")
		if got := object.GroupVersionKind(); got != want {
			return nil, fmt.Errorf("%s isn't a CustomResourceDefinition", got)
		}
		definitions = append(definitions, object)
	}
}

// served returns nil if the API server lists the resource in every version that it's to be served.
func served(ctx context.Context, client dynamic.Interface, definition *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	for _, version := range versions {
		version, _ := version.(map[string]any)
		if isServed, _, _ := unstructured.NestedBool(version, "served"); !isServed {
			continue
		}
		name, _, _ := unstructured.NestedString(version, "name")
		resource := schema.GroupVersionResource{Group: group, Version: name, Resource: plural}
		if _, err := client.Resource(resource).List(ctx, metav1.ListOptions{Limit: 1}); err != nil {
			return err
		}
	}
	return nil
}
