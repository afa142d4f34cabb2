// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command modelsschema prints the OpenAPI v2 definitions of DataPlane and ClusterDataPlane,
// and of the types that they reach, as JSON without descriptions.
//
// Its output has two uses: applyconfiguration-gen makes the schema for Extract from it, and the
// apply configurations embed it, so that the fake clientset can track field managers.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/codegen/openapi"
)

const api = "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1."

var kinds = []string{"DataPlane", "ClusterDataPlane"}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "modelsschema:", err)
		os.Exit(1)
	}
}

func run() error {
	var roots []string
	for _, kind := range kinds {
		roots = append(roots, api+kind)
	}
	swagger, err := builder.BuildOpenAPIDefinitionsForResources(&common.Config{
		Info:              &spec.Info{InfoProps: spec.InfoProps{Title: "DataPlane", Version: "v1alpha1"}},
		GetDefinitions:    openapi.GetOpenAPIDefinitions,
		GetDefinitionName: definitionName,
	}, roots...)
	if err != nil {
		return err
	}
	data, err := json.Marshal(swagger)
	if err != nil {
		return err
	}
	var document map[string]any
	if err := json.Unmarshal(data, &document); err != nil {
		return err
	}
	// Below "definitions" and "properties", a key is a name, perhaps "description", and not a keyword
	// of OpenAPI.
	definitions, ok := document["definitions"].(map[string]any)
	if !ok {
		return fmt.Errorf("no definitions for %s", roots)
	}
	for _, definition := range definitions {
		dropDescriptions(definition)
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	return encoder.Encode(document)
}

// definitionName returns the name of a Go type in the definitions. A root type has its group, version
// and kind too, by which field management finds it.
func definitionName(name string) (string, spec.Extensions) {
	friendly := util.ToRESTFriendlyName(name)
	kind := strings.TrimPrefix(name, api)
	if !slices.Contains(kinds, kind) {
		return friendly, nil
	}
	return friendly, spec.Extensions{
		"x-kubernetes-group-version-kind": []any{map[string]any{
			"group":   v1alpha1.SchemeGroupVersion.Group,
			"version": v1alpha1.SchemeGroupVersion.Version,
			"kind":    kind,
		}},
	}
}

func dropDescriptions(schema any) {
	object, ok := schema.(map[string]any)
	if !ok {
		return
	}
	delete(object, "description")
	dropDescriptions(object["items"])
	dropDescriptions(object["additionalProperties"])
	if properties, ok := object["properties"].(map[string]any); ok {
		for _, property := range properties {
			dropDescriptions(property)
		}
	}
}
