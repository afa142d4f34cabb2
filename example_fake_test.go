// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// Tests of your own code use a fake clientset that behaves like an API server.
func Example_fake() {
	ctx := context.Background()
	prod := dataplanetest.DataPlane("default", "prod")

	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")
	updated, err := helpers.PatchConditions(ctx, dataPlanes, prod, []metav1.Condition{
		{Type: openchoreov1alpha1.DataPlaneConditionReady, Status: metav1.ConditionTrue, Reason: "Tested"},
	}, helpers.PatchConditionsOptions{})
	fmt.Println(helpers.IsReady(updated), err)
	// Output: true <nil>
}
