// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// A program changes one field of those that it applied before and keeps the others:
// extract them, change one, and apply.
func Example_extract() {
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
