// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// Server-side apply changes the fields that it names and no others.
func ExampleDataPlane() {
	client := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod"))
	applied, err := client.OpenChoreoV1alpha1().DataPlanes("default").Apply(context.Background(),
		openchoreoapply.DataPlane("prod", "default").WithSpec(openchoreoapply.DataPlaneSpec().
			WithRegistry(openchoreoapply.Registry().WithSecretRef("registry-credentials"))),
		metav1.ApplyOptions{FieldManager: "my-program"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(applied.Spec.Registry.Prefix, applied.Spec.Registry.SecretRef)
	// Output: docker.io/myorg registry-credentials
}

// A program changes one field of those that it applied before and keeps the others:
// extract them, change one, and apply.
func ExampleExtractDataPlane() {
	ctx := context.Background()
	dataPlanes := dataplanetest.NewClientset(dataplanetest.DataPlane("default", "prod")).OpenChoreoV1alpha1().DataPlanes("default")
	options := metav1.ApplyOptions{FieldManager: "my-program"}
	applied, err := dataPlanes.Apply(ctx, openchoreoapply.DataPlane("prod", "default").
		WithLabels(map[string]string{"region": "eu"}).
		WithAnnotations(map[string]string{"example.com/team": "blue"}), options)
	if err != nil {
		fmt.Println(err)
		return
	}

	mine, err := openchoreoapply.ExtractDataPlane(applied, "my-program")
	if err != nil {
		fmt.Println(err)
		return
	}
	applied, err = dataPlanes.Apply(ctx, mine.WithAnnotations(map[string]string{"example.com/team": "green"}), options)
	fmt.Println(applied.Labels, applied.Annotations, err)
	// Output: map[region:eu] map[example.com/team:green] <nil>
}
