// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command crdcompat prints how a new CustomResourceDefinition could break users of the old one: the
// fields that it removes, and the values that it no longer accepts. Its arguments are the two files.
package main

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: crdcompat OLD NEW")
		os.Exit(2)
	}
	var definitions [2]object
	for i, file := range os.Args[1:] {
		data, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(data, &definitions[i])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "crdcompat:", err)
			os.Exit(2)
		}
	}
	if problems := compare(definitions[0], definitions[1]); len(problems) > 0 {
		fmt.Printf("%s could break users of %s:\n  %s\n", os.Args[2], os.Args[1], strings.Join(problems, "\n  "))
		os.Exit(1)
	}
}

type object = map[string]any

// compare returns the changes that can break users, sorted.
func compare(older, newer object) []string {
	c := &comparison{}
	oldSpec, newSpec := child(older, "spec"), child(newer, "spec")
	for _, key := range []string{"group", "scope"} {
		c.same(key, oldSpec[key], newSpec[key])
	}
	for _, key := range []string{"kind", "plural"} {
		c.same("names."+key, child(oldSpec, "names")[key], child(newSpec, "names")[key])
	}
	newVersions := versions(newSpec)
	for name, version := range versions(oldSpec) {
		now, ok := newVersions[name]
		if !ok || version["served"] == true && now["served"] != true {
			c.add(name, "no longer served")
			continue
		}
		for subresource := range child(version, "subresources") {
			if _, ok := child(now, "subresources")[subresource]; !ok {
				c.add(name, "subresource %s removed", subresource)
			}
		}
		c.schema(name, child(version, "schema", "openAPIV3Schema"), child(now, "schema", "openAPIV3Schema"))
	}
	slices.Sort(c.problems)
	return c.problems
}

type comparison struct{ problems []string }

func (c *comparison) add(path, format string, args ...any) {
	c.problems = append(c.problems, path+": "+fmt.Sprintf(format, args...))
}

func (c *comparison) same(path string, older, newer any) {
	if !reflect.DeepEqual(older, newer) {
		c.add(path, "was %v, is %v", older, newer)
	}
}

// schema compares two schemas by keywords. A keyword that it doesn't know must not change.
func (c *comparison) schema(path string, older, newer object) {
	keywords := maps.Clone(older)
	maps.Copy(keywords, newer)
	for keyword := range keywords {
		was, is := older[keyword], newer[keyword]
		switch keyword {
		case "description", "title", "example", "externalDocs":
		case "properties":
			for name := range child(older, keyword) {
				if property := child(newer, keyword, name); property != nil {
					c.schema(path+"."+name, child(older, keyword, name), property)
				} else {
					c.add(path+"."+name, "removed")
				}
			}
		case "items":
			c.schema(path+"[]", child(older, keyword), child(newer, keyword))
		case "required":
			for _, name := range without(is, was) {
				c.add(fmt.Sprintf("%s.%v", path, name), "required now")
			}
		case "enum":
			if was == nil {
				c.add(path, "an enumeration now")
			} else if is != nil {
				for _, value := range without(was, is) {
					c.add(path, "value %v removed", value)
				}
			}
		case "maximum", "maxLength", "maxItems", "maxProperties":
			if is != nil && (was == nil || is.(float64) < was.(float64)) {
				c.add(path, "%s was %v, is %v", keyword, was, is)
			}
		case "minimum", "minLength", "minItems", "minProperties":
			if is != nil && (was == nil || is.(float64) > was.(float64)) {
				c.add(path, "%s was %v, is %v", keyword, was, is)
			}
		case "pattern", "format", "multipleOf", "uniqueItems", "x-kubernetes-validations":
			if is != nil {
				c.same(path+": "+keyword, was, is)
			}
		default:
			c.same(path+": "+keyword, was, is)
		}
	}
}

// child returns the object at the end of path, or nil.
func child(o object, path ...string) object {
	for _, key := range path {
		o, _ = o[key].(object)
	}
	return o
}

func versions(spec object) map[string]object {
	byName := map[string]object{}
	list, _ := spec["versions"].([]any)
	for _, version := range list {
		byName[version.(object)["name"].(string)] = version.(object)
	}
	return byName
}

// without returns the elements of list a that list b doesn't have.
func without(a, b any) []any {
	list, _ := a.([]any)
	others, _ := b.([]any)
	return slices.DeleteFunc(slices.Clone(list), func(v any) bool { return slices.Contains(others, v) })
}
