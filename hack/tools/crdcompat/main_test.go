// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

const definition = `
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions:
  - name: v1
    served: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            properties:
              size: {type: integer, minimum: 1, maximum: 9}
              color: {type: string, enum: [red, blue], description: a color}
              name: {type: string, pattern: "^a"}
              tags: {type: array, maxItems: 3, items: {type: string, maxLength: 5}}
          status: {type: object}
`

func TestCompare(t *testing.T) {
	for name, test := range map[string]struct{ from, to, want string }{
		"nothing":                        {},
		"a description":                  {"a color", "the color", ""},
		"a new optional field":           {"size: {", "note: {type: string}\n              size: {", ""},
		"a field no longer required":     {"required: [spec]", "required: []", ""},
		"a new enumeration value":        {"[red, blue]", "[red, blue, green]", ""},
		"no enumeration":                 {"enum: [red, blue], ", "", ""},
		"a wider bound":                  {"maximum: 9", "maximum: 10", ""},
		"no bound":                       {"minimum: 1, ", "", ""},
		"no pattern":                     {`, pattern: "^a"`, "", ""},
		"another group":                  {"group: example.com\n", "group: example.org\n", "group: was example.com, is example.org"},
		"another scope":                  {"Namespaced", "Cluster", "scope: was Namespaced, is Cluster"},
		"a version removed":              {"name: v1", "name: v2", "v1: no longer served"},
		"a version not served":           {"served: true", "served: false", "v1: no longer served"},
		"the status subresource removed": {"subresources: {status: {}}", "subresources: {}", "v1: subresource status removed"},
		"a field removed":                {"size: {type: integer, minimum: 1, maximum: 9}", "", "v1.spec.size: removed"},
		"another type":                   {"size: {type: integer", "size: {type: number", "v1.spec.size: type: was integer, is number"},
		"a new required field":           {"required: [spec]", "required: [spec, status]", "v1.status: required now"},
		"an enumeration value removed":   {"[red, blue]", "[red]", "v1.spec.color: value blue removed"},
		"a new enumeration":              {`pattern: "^a"`, "enum: [a]", "v1.spec.name: an enumeration now"},
		"a lower maximum":                {"maximum: 9", "maximum: 8", "v1.spec.size: maximum was 9, is 8"},
		"a higher minimum":               {"minimum: 1", "minimum: 2", "v1.spec.size: minimum was 1, is 2"},
		"a new bound":                    {`pattern: "^a"`, "maxLength: 3", "v1.spec.name: maxLength was <nil>, is 3"},
		"a bound of an item":             {"maxLength: 5", "maxLength: 4", "v1.spec.tags[]: maxLength was 5, is 4"},
		"another pattern":                {"^a", "^b", "v1.spec.name: pattern: was ^a, is ^b"},
		"a keyword that isn't known":     {"status: {type: object}", "status: {type: object, nullable: true}", "v1.status: nullable: was <nil>, is true"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, definition, test.from)
			got := compare(parse(t, definition), parse(t, strings.Replace(definition, test.from, test.to, 1)))
			assert.Equal(t, test.want, strings.Join(got, "\n"))
		})
	}
}

func parse(t *testing.T, text string) (o object) {
	t.Helper()
	require.NoError(t, yaml.Unmarshal([]byte(text), &o))
	return o
}
