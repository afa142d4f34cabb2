// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
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
	dataPlane := dataplanetest.DataPlane("default", "prod")
	dataPlanes := dataplanetest.NewClientset(dataPlane).OpenChoreoV1alpha1().DataPlanes("default")

	stored, err := helpers.PatchConditions(context.Background(), dataPlanes, dataPlane, []metav1.Condition{
		{Type: v1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue, Reason: "Probed"},
	}, helpers.PatchOptions{FieldManager: "my-controller"})
	fmt.Println(helpers.IsConnected(stored), err)
	// Output: true <nil>
}

// One condition, and why it isn't as it was written.
func ExampleEvaluateCondition() {
	dataPlane := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready, dataplanetest.Stale)
	ready := helpers.EvaluateCondition(dataPlane, v1alpha1.DataPlaneConditionReady)
	fmt.Println(ready.Status, ready.Code, "reported:", ready.Reported)
	// Output: Unknown Stale reported: True
}

func ExampleReport_String() {
	dataPlane := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready, dataplanetest.Stale, dataplanetest.Connected)
	fmt.Println(helpers.Evaluate(dataPlane))
	// Output: data plane default/prod: Ready=Unknown, stale (observed generation 1 of 2): reported True (Tested); Connected=True (Tested); not reported: GatewayProvisioned
}

// Workloads wait until the data plane has been ready for five minutes.
func ExampleStableFor() {
	dataPlane := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready)
	since := dataPlane.Status.Conditions[0].LastTransitionTime.Time
	for _, age := range []time.Duration{time.Minute, 10 * time.Minute} {
		clock := func() time.Time { return since.Add(age) } // outside tests, pass nil
		fmt.Println(age, helpers.IsReady(dataPlane, helpers.StableFor(5*time.Minute, clock)))
	}
	// Output:
	// 1m0s false
	// 10m0s true
}

// A condition that doesn't say which generation it describes counts, unless this option
// is passed.
func ExampleRequireObserved() {
	dataPlane := &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{
		Conditions: []metav1.Condition{{Type: "Ready", Status: "True", Reason: "AllGood"}},
	}}
	fmt.Println(helpers.IsReady(dataPlane), helpers.IsReady(dataPlane, helpers.RequireObserved()))
	// Output: true false
}

// OpenChoreo v0.14 and later updates status.observedGeneration, but not that of Created.
func ExampleStatusGenerationOnly() {
	dataPlane := &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Generation: 2},
		Status: v1alpha1.DataPlaneStatus{
			ObservedGeneration: 2,
			Conditions:         []metav1.Condition{{Type: "Created", Status: "True", Reason: "Created", ObservedGeneration: 1}},
		},
	}
	created := helpers.ReadyFrom(v1alpha1.DataPlaneConditionCreated)
	fmt.Println(helpers.IsReady(dataPlane, created), helpers.IsReady(dataPlane, created, helpers.StatusGenerationOnly()))
	// Output: false true
}

func ExampleIsOperational() {
	dataPlane := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready, dataplanetest.Connected)
	fmt.Println(helpers.IsReady(dataPlane), helpers.IsConnected(dataPlane), helpers.IsGatewayProvisioned(dataPlane))
	fmt.Println(helpers.IsOperational(dataPlane))
	// Output:
	// true true false
	// false
}
