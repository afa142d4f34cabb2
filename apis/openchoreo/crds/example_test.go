// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package crds_test

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
)

// Decode the definition for a dynamic client. An apiextensionsv1.CustomResourceDefinition
// is decoded in the same way.
func ExampleDataPlane() {
	crd := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(crds.DataPlane(), &crd.Object); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(crd.GetKind(), crd.GetName() == crds.DataPlaneName)
	// Output: CustomResourceDefinition true
}
