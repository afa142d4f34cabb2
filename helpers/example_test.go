// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

func ExampleMergePatch() {
	ctx := context.Background()
	dataPlanes := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod")).OpenChoreoV1alpha1().DataPlanes("default")

	before, err := dataPlanes.Get(ctx, "prod", metav1.GetOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	after := before.DeepCopy()
	after.Spec.Registry.Prefix = "ghcr.io/myorg"
	patch, err := helpers.MergePatch(before, after)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(patch))
	patched, err := dataPlanes.Patch(ctx, "prod", types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(patched.Spec.Registry.Prefix)
	// Output:
	// {"metadata":{"resourceVersion":"2"},"spec":{"registry":{"prefix":"ghcr.io/myorg"}}}
	// ghcr.io/myorg
}

func ExampleDisplayName() {
	dataPlane := dataplanetest.DataPlane("default", "prod")
	fmt.Println(helpers.DisplayName(dataPlane))
	dataPlane.Annotations = map[string]string{v1alpha1.AnnotationDisplayName: "Production"}
	fmt.Println(helpers.DisplayName(dataPlane))
	// Output:
	// prod
	// Production
}

func ExampleDescription() {
	dataPlane := dataplanetest.DataPlane("default", "prod")
	dataPlane.Annotations = map[string]string{v1alpha1.AnnotationDescription: "Runs customer workloads in Frankfurt."}
	fmt.Println(helpers.Description(dataPlane))
	// Output: Runs customer workloads in Frankfurt.
}
