// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package await_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
)

func dataPlane(conditions ...metav1.Condition) *v1alpha1.DataPlane {
	return &v1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "prod", Generation: 2},
		Status:     v1alpha1.DataPlaneStatus{Conditions: conditions},
	}
}

func ExampleFor() {
	client := fake.NewClientset(dataPlane(
		metav1.Condition{Type: "Ready", Status: "True", Reason: "Reconciled", ObservedGeneration: 2},
	))
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	dp, err := await.For(ctx, dataPlanes, "prod", await.True(v1alpha1.DataPlaneConditionReady), await.MinGeneration(2))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(dp.Name, "is ready")
	// Output: prod is ready
}

// The error says what the conditions were, so a program needs no code for that.
func ExampleError() {
	client := fake.NewClientset(dataPlane(
		metav1.Condition{Type: "Ready", Status: "True", Reason: "Reconciled", ObservedGeneration: 1},
		metav1.Condition{
			Type: "Connected", Status: "False", Reason: "AgentUnreachable", Message: "dial tcp: refused", ObservedGeneration: 2,
			LastTransitionTime: metav1.NewTime(time.Now().Add(-72 * time.Hour)),
		},
		metav1.Condition{Type: "Created", Status: "True", Reason: "Created", ObservedGeneration: 2},
	))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()

	_, err := await.For(ctx, client.OpenChoreoV1alpha1().DataPlanes("default"), "prod", await.True("Ready"))
	var waitErr *await.Error
	if errors.As(err, &waitErr) {
		waitErr.Elapsed = 30 * time.Second // for the output of this example
		fmt.Println(waitErr.Last.Verdict("Ready").Code)
	}
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	fmt.Println(err)
	// Output:
	// Stale
	// true
	// data plane default/prod: waited 30s for Ready=True: Ready=True (Reconciled), observed generation 1 of 2 (stale); Connected=False (AgentUnreachable: dial tcp: refused) for 72h0m0s; GatewayProvisioned not reported; other types: Created=True: context deadline exceeded
}

// OpenChoreo's own controller sets Created and no other condition.
func ExampleMatch() {
	client := fake.NewClientset(dataPlane(metav1.Condition{Type: "Created", Status: "True", Reason: "Created"}))
	created := await.Match("Created or Ready", func(report helpers.Report) bool {
		return report.Verdict("Created").Status == metav1.ConditionTrue || report.Verdict("Ready").Status == metav1.ConditionTrue
	})
	dp, err := await.For(context.Background(), client.OpenChoreoV1alpha1().DataPlanes("default"), "prod", created)
	fmt.Println(dp.Name, err)
	// Output: prod <nil>
}

func ExampleForDeletion() {
	dp := dataPlane()
	dp.UID = "the one that was deleted"
	next := dataPlane()
	next.UID = "another one that was created since"
	dataPlanes := fake.NewClientset(next).OpenChoreoV1alpha1().DataPlanes("default")

	fmt.Println(await.ForDeletion(context.Background(), dataPlanes, dp.Name, await.UID(dp.UID)))
	// Output: <nil>
}
