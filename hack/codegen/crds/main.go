// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command crds splits the CRD of the Go type DataPlane, which has the fields of two generations of
// OpenChoreo, into one CRD for each: it leaves out the fields of the other generation. Its arguments
// are the file with all fields, and the files to write for OpenChoreo v0.3 and for v1.
//
// A field or a column that the tables below don't list is an error.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"sigs.k8s.io/yaml"
)

type generation int

const (
	v03 generation = 1 << iota
	v1
)

// fields has the generations of each field, by the path of its object.
var fields = map[string]map[string]generation{
	"spec": {
		"kubernetesCluster":     v03,
		"registry":              v03,
		"gateway":               v03 | v1,
		"observer":              v03,
		"planeID":               v1,
		"clusterAgent":          v1,
		"secretStoreRef":        v1,
		"observabilityPlaneRef": v1,
	},
	"spec.gateway": {
		"publicVirtualHost":       v03,
		"organizationVirtualHost": v03,
		"ingress":                 v1,
		"egress":                  v1,
	},
	"status": {
		"observedGeneration": v03 | v1,
		"conditions":         v03 | v1,
		"agentConnection":    v1,
	},
}

// columns has the generations of each column of kubectl get.
var columns = map[string]generation{
	"Cluster":   v03,
	"Ready":     v03,
	"Connected": v03,
	"Gateway":   v03,
	"Plane ID":  v1,
	"Agent":     v1,
	"Created":   v03 | v1,
	"Age":       v03 | v1,
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: crds ALL V0.3 V1")
		os.Exit(2)
	}
	for i, g := range []generation{v03, v1} {
		if err := write(os.Args[1], os.Args[2+i], g); err != nil {
			fmt.Fprintln(os.Stderr, "crds:", err)
			os.Exit(1)
		}
	}
}

type object = map[string]any

func write(from, to string, g generation) error {
	source, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var crd object
	if err := yaml.Unmarshal(source, &crd); err != nil {
		return err
	}
	if err := filter(crd, g); err != nil {
		return err
	}
	data, err := yaml.Marshal(crd)
	if err != nil {
		return err
	}
	return os.WriteFile(to, append([]byte("---\n"), data...), 0o644)
}

func filter(crd object, g generation) (err error) {
	version := crd["spec"].(object)["versions"].([]any)[0].(object)
	keep := func(of map[string]generation, name string) bool {
		generations, known := of[name]
		if !known {
			err = errors.Join(err, fmt.Errorf("no generation is known for %q: add it to the tables", name))
		}
		return generations&g != 0
	}

	version["additionalPrinterColumns"] = slices.DeleteFunc(version["additionalPrinterColumns"].([]any), func(column any) bool {
		return !keep(columns, column.(object)["name"].(string))
	})

	root := version["schema"].(object)["openAPIV3Schema"].(object)
	spec, status := property(root, "spec"), property(root, "status")
	for path, schema := range map[string]object{"spec": spec, "spec.gateway": property(spec, "gateway"), "status": status} {
		properties := schema["properties"].(object)
		for name := range properties {
			if !keep(fields[path], name) {
				delete(properties, name)
			}
		}
		if required, ok := schema["required"].([]any); ok {
			schema["required"] = slices.DeleteFunc(required, func(name any) bool { return properties[name.(string)] == nil })
			if len(schema["required"].([]any)) == 0 {
				delete(schema, "required")
			}
		}
	}
	if g == v1 {
		spec["required"] = []any{"clusterAgent"} // the gateway is optional
		// v1's list of conditions is atomic; the Go types and v0.3's CRD merge it by type.
		conditions := property(status, "conditions")
		delete(conditions, "x-kubernetes-list-type")
		delete(conditions, "x-kubernetes-list-map-keys")
	}
	return err
}

func property(schema object, name string) object {
	return schema["properties"].(object)[name].(object)
}
