// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Tests of your own code use the fake clientset.
func Example_fake() {
	ctx := context.Background()
	prod := &openchoreov1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod"}}

	dataPlanes := fake.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")
	updated, err := helpers.PatchConditions(ctx, dataPlanes, prod, []metav1.Condition{
		{Type: openchoreov1alpha1.DataPlaneConditionReady, Status: metav1.ConditionTrue, Reason: "Tested"},
	}, helpers.PatchOptions{})
	fmt.Println(helpers.IsReady(updated), err)
	// Output: true <nil>
}
