// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func ExampleEvaluate() {
	dataPlane := &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Generation: 2},
		Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{
			{Type: "Ready", Status: "True", ObservedGeneration: 1, Reason: "AllGood"},
			{Type: "Connected", Status: "True", ObservedGeneration: 2, Reason: "Probed"},
		}},
	}
	for _, verdict := range helpers.Evaluate(dataPlane).Verdicts() {
		fmt.Println(verdict.Type, verdict.Status, verdict.Code)
	}
	// Output:
	// Ready Unknown Stale
	// Connected True Current
	// GatewayProvisioned Unknown NotReported
}

func ExampleIsReady() {
	dataPlane := &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{
		Conditions: []metav1.Condition{{Type: "Ready", Status: "True", Reason: "AllGood"}},
	}}
	fmt.Println(helpers.IsReady(dataPlane), helpers.IsConnected(dataPlane))
	// Output: true false
}

// OpenChoreo itself writes Created and no Ready.
func ExampleReadyFrom() {
	dataPlane := &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{
		Conditions: []metav1.Condition{{Type: "Created", Status: "True", Reason: "DataPlaneCreated"}},
	}}
	fmt.Println(helpers.IsReady(dataPlane), helpers.IsReady(dataPlane, helpers.ReadyFrom(v1alpha1.DataPlaneConditionCreated)))
	fmt.Println(helpers.Evaluate(dataPlane, helpers.ReadyFrom(v1alpha1.DataPlaneConditionCreated)).Verdict("Ready").From)
	// Output:
	// false true
	// Created
}

func ExampleSetCondition() {
	dataPlane := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
	changed, err := helpers.SetCondition(dataPlane, metav1.Condition{
		Type: v1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue, Reason: "Probed",
	})
	fmt.Println(changed, err)
	fmt.Println("observed generation", dataPlane.Status.Conditions[0].ObservedGeneration)
	// Output:
	// true <nil>
	// observed generation 3
}

func ExamplePatchConditions() {
	client := fake.NewClientset(&v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod"}})
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
	reconcile := func(ctx context.Context, dataPlane *v1alpha1.DataPlane) error {
		_, err := helpers.PatchConditions(ctx, dataPlanes, dataPlane, []metav1.Condition{
			{Type: v1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue, Reason: "Probed"},
		}, helpers.PatchOptions{FieldManager: "my-controller"})
		return err
	}

	ctx := context.Background()
	dataPlane, err := dataPlanes.Get(ctx, "prod", metav1.GetOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(reconcile(ctx, dataPlane))
	dataPlane, err = dataPlanes.Get(ctx, "prod", metav1.GetOptions{})
	fmt.Println(helpers.IsConnected(dataPlane), err)
	// Output:
	// <nil>
	// true <nil>
}
