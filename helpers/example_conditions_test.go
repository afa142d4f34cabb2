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
	// Created Unknown NotReported
}

func ExampleIsReady() {
	dataPlane := &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{
		Conditions: []metav1.Condition{{Type: "Ready", Status: "True", Reason: "AllGood"}},
	}}
	fmt.Println(helpers.IsReady(dataPlane), helpers.IsConnected(dataPlane))
	// Output: true false
}

// OpenChoreo itself writes no Ready. Stock reads what each release writes instead.
func ExampleStock() {
	v03 := dataplanetest.DataPlane("default", "old", dataplanetest.Condition("Created", metav1.ConditionTrue))
	v1 := dataplanetest.DataPlane("default", "new", dataplanetest.V1)
	for _, dataPlane := range []*v1alpha1.DataPlane{v03, v1} {
		ready := helpers.EvaluateCondition(dataPlane, "Ready", helpers.Stock())
		fmt.Println(helpers.IsReady(dataPlane), ready.Status, "by", ready.From)
	}
	// Output:
	// false True by Created
	// false True by Connected
}

// The state of an agent's connection is old if OpenChoreo has stopped updating it.
func ExampleHeartbeatWithin() {
	for _, age := range []time.Duration{time.Minute, time.Hour} {
		dataPlane := dataplanetest.DataPlane("default", "prod", dataplanetest.V1, dataplanetest.HeartbeatAgo(age))
		fmt.Println(age, helpers.IsReady(dataPlane, helpers.Stock(), helpers.HeartbeatWithin(5*time.Minute, nil)))
	}
	// Output:
	// 1m0s true
	// 1h0m0s false
}

// Ready follows other conditions while no controller writes it.
func ExampleReadyFrom() {
	dataPlane := dataplanetest.DataPlane("default", "prod", dataplanetest.Condition("Connected", metav1.ConditionTrue))
	readyFrom := helpers.ReadyFrom("Connected", "GatewayProvisioned")
	fmt.Println(helpers.IsReady(dataPlane, readyFrom), helpers.EvaluateCondition(dataPlane, "Ready", readyFrom).From)
	// Output: false GatewayProvisioned
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
	}, helpers.PatchConditionsOptions{FieldManager: "my-controller"})
	fmt.Println(helpers.IsConnected(stored), err)
	// Output: true <nil>
}

// The condition of a ClusterDataPlane, which OpenChoreo v1 has instead of DataPlanes. A condition Connected would
// hide its status.agentConnection.
func ExamplePatchConditions_clusterDataPlane() {
	ctx := context.Background()
	clusterDataPlanes := dataplanetest.NewClientset(dataplanetest.ClusterDataPlane("default")).OpenChoreoV1alpha1().ClusterDataPlanes()

	cdp, err := clusterDataPlanes.Get(ctx, "default", metav1.GetOptions{}) // or from a lister
	if err != nil {
		fmt.Println(err)
		return
	}
	cdp, err = helpers.PatchConditions(ctx, clusterDataPlanes, cdp, []metav1.Condition{
		{Type: v1alpha1.DataPlaneConditionReady, Status: metav1.ConditionFalse, Reason: "Maintenance", Message: "until Monday"},
	}, helpers.PatchConditionsOptions{FieldManager: "my-controller"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(helpers.EvaluateCondition(cdp.AsDataPlane(), v1alpha1.DataPlaneConditionReady, helpers.Stock()).Status)
	// Output: False
}

// The verdict on one condition, and why it differs from the reported status.
func ExampleEvaluateCondition() {
	dataPlane := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready, dataplanetest.Stale)
	ready := helpers.EvaluateCondition(dataPlane, v1alpha1.DataPlaneConditionReady)
	fmt.Println(ready.Status, ready.Code, "reported:", ready.Reported)
	// Output: Unknown Stale reported: True
}

func ExampleReport_String() {
	dataPlane := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready, dataplanetest.Stale, dataplanetest.Connected)
	fmt.Println(helpers.Evaluate(dataPlane))
	// Output: data plane default/prod: Ready=Unknown, stale (observed generation 1 of 2): reported True (Tested); Connected=True (Tested); not reported: GatewayProvisioned, Created
}

// A data plane gets workloads once it has been ready for five minutes.
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

// A condition without an observed generation counts, unless RequireObserved is passed.
func ExampleRequireObserved() {
	dataPlane := &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{
		Conditions: []metav1.Condition{{Type: "Ready", Status: "True", Reason: "AllGood"}},
	}}
	fmt.Println(helpers.IsReady(dataPlane), helpers.IsReady(dataPlane, helpers.RequireObserved()))
	// Output: true false
}

// The controller updates only status.observedGeneration.
func ExampleStatusGenerationOnly() {
	dataPlane := &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Generation: 2},
		Status: v1alpha1.DataPlaneStatus{
			ObservedGeneration: 2,
			Conditions:         []metav1.Condition{{Type: "Ready", Status: "True", Reason: "AllGood", ObservedGeneration: 1}},
		},
	}
	fmt.Println(helpers.IsReady(dataPlane), helpers.IsReady(dataPlane, helpers.StatusGenerationOnly()))
	// Output: false true
}
