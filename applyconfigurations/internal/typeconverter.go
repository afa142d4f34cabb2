// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package internal

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

//go:embed openapi.json
var openAPI []byte

// TypeConverter returns a converter for the types of this module. It is made on
// first use, by apimachinery, from the same schema as Parser.
var TypeConverter = sync.OnceValue(func() managedfields.TypeConverter {
	var document struct {
		Definitions map[string]*spec.Schema `json:"definitions"`
	}
	err := json.Unmarshal(openAPI, &document)
	if err != nil {
		panic(fmt.Sprintf("Failed to parse schema: %v", err)) //nolint:forbidigo // of what is embedded, as the generated Parser does
	}
	converter, err := managedfields.NewTypeConverter(document.Definitions, false)
	if err != nil {
		panic(fmt.Sprintf("Failed to use schema: %v", err)) //nolint:forbidigo // see above
	}
	return converter
})
