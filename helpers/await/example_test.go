// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package await_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

func ExampleFor() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	prod := dataplanetest.DataPlane("default", "prod")
	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")

	go func() { // a controller
		_, _ = helpers.PatchConditions(ctx, dataPlanes, prod, []metav1.Condition{
			{Type: v1alpha1.DataPlaneConditionReady, Status: metav1.ConditionTrue, Reason: "Reconciled"},
		}, helpers.PatchConditionsOptions{})
	}()

	ready, err := await.For(ctx, dataPlanes, "prod", await.True(v1alpha1.DataPlaneConditionReady))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ready.Name, "is ready")
	// Output: prod is ready
}

// A program changes a DataPlane and waits until its controller has handled the change.
func ExampleMinGeneration() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready)
	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")

	patch := []byte(`{"spec":{"registry":{"prefix":"ghcr.io/myorg"}}}`)
	patched, err := dataPlanes.Patch(ctx, "prod", types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { // the controller
		_, _ = helpers.PatchConditions(ctx, dataPlanes, patched, []metav1.Condition{
			{Type: v1alpha1.DataPlaneConditionReady, Status: metav1.ConditionTrue, Reason: "Reconciled"},
		}, helpers.PatchConditionsOptions{ObserveGeneration: true})
	}()

	ready, err := await.For(ctx, dataPlanes, "prod", await.True(v1alpha1.DataPlaneConditionReady),
		await.MinGeneration(patched.Generation))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("ready with", ready.Spec.Registry.Prefix)
	// Output: ready with ghcr.io/myorg
}

// The error describes the conditions, so a program needn't.
func ExampleError() {
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready, dataplanetest.Stale, func(dp *v1alpha1.DataPlane) {
		_, _ = helpers.SetCondition(dp, metav1.Condition{
			Type: v1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionFalse,
			Reason: "AgentUnreachable", Message: "dial tcp: refused",
		})
		dp.Status.ObservedGeneration = 2
		for i := range dp.Status.Conditions {
			dp.Status.Conditions[i].LastTransitionTime = metav1.Time{} // otherwise the error shows the age, too
		}
	})
	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()

	_, err := await.For(ctx, dataPlanes, "prod", await.True("Ready"))
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
	// data plane default/prod: waited 30s for Ready=True: Ready=Unknown, stale (observed generation 1 of 2): reported True (Tested); Connected=False (AgentUnreachable: dial tcp: refused); not reported: GatewayProvisioned, Created: context deadline exceeded
}

func ExampleTrue() {
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.Ready, dataplanetest.Connected)
	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")

	both := await.True(v1alpha1.DataPlaneConditionReady, v1alpha1.DataPlaneConditionConnected)
	_, err := await.For(context.Background(), dataPlanes, "prod", both)
	fmt.Println(err)
	// Output: <nil>
}

func ExampleMatch() {
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.Connected)
	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")

	either := await.Match("Connected or Ready", func(report helpers.Report) bool {
		return report.Connected.Status == metav1.ConditionTrue || report.Ready.Status == metav1.ConditionTrue
	})
	_, err := await.For(context.Background(), dataPlanes, "prod", either)
	fmt.Println(err)
	// Output: <nil>
}

// Stock OpenChoreo never reports Ready, so JudgeBy derives it from what OpenChoreo reports.
func ExampleJudgeBy() {
	ctx := context.Background()
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.Condition("Created", metav1.ConditionTrue))
	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	dp, err := await.For(ctx, dataPlanes, "prod", await.True("Ready"),
		await.JudgeBy(helpers.Stock())) // a reported Ready still comes first
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(dp.Name)
	// Output: prod
}

// The wait ends once the data plane is known to be unreachable.
func ExampleFailOn() {
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.Condition(v1alpha1.DataPlaneConditionConnected, metav1.ConditionFalse))
	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")

	errUnreachable := errors.New("data plane can't be reached")
	_, err := await.For(context.Background(), dataPlanes, "prod", await.True(v1alpha1.DataPlaneConditionReady),
		await.FailOn(func(report helpers.Report) error {
			if report.Connected.Status == metav1.ConditionFalse {
				return errUnreachable
			}
			return nil
		}))
	fmt.Println(errors.Is(err, errUnreachable))
	// Output: true
}

func ExampleAllowMissing() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	dataPlanes := dataplanetest.NewClientset().OpenChoreoV1alpha1().DataPlanes("default")

	go func() { // another program
		_, _ = dataPlanes.Create(ctx, dataplanetest.DataPlane("default", "prod"), metav1.CreateOptions{})
	}()

	created, err := await.For(ctx, dataPlanes, "prod", await.True(), await.AllowMissing())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(created.Name, "exists")
	// Output: prod exists
}

// A DataPlane is deleted and recreated with the same name.
func ExampleFollowReplacement() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.Deleted)
	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")

	go func() { // other programs
		noFinalizers := []byte(`{"metadata":{"finalizers":null}}`)
		_, _ = dataPlanes.Patch(ctx, "prod", types.MergePatchType, noFinalizers, metav1.PatchOptions{})
		_, _ = dataPlanes.Create(ctx, dataplanetest.DataPlane("default", "prod"), metav1.CreateOptions{})
	}()

	// AllowMissing: the old object may already be gone, and the new one not yet created.
	replacement, err := await.For(ctx, dataPlanes, "prod", await.True(), await.FollowReplacement(), await.AllowMissing())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("another object:", replacement.UID != prod.UID)
	// Output: another object: true
}

func ExampleForDeletion() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.Deleted)
	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")

	go func() { // a controller, after its cleanup
		noFinalizers := []byte(`{"metadata":{"finalizers":null}}`)
		_, _ = dataPlanes.Patch(ctx, "prod", types.MergePatchType, noFinalizers, metav1.PatchOptions{})
	}()

	fmt.Println(await.ForDeletion(ctx, dataPlanes, "prod"))
	// Output: <nil>
}

// The deleted DataPlane is gone, even if another now has its name.
func ExampleUID() {
	deleted := dataplanetest.DataPlane("default", "prod")
	next := dataplanetest.DataPlane("default", "prod", func(dp *v1alpha1.DataPlane) { dp.UID = "another" })
	dataPlanes := dataplanetest.NewClientset(next).OpenChoreoV1alpha1().DataPlanes("default")

	fmt.Println(await.ForDeletion(context.Background(), dataPlanes, "prod", await.UID(deleted.UID)))
	// Output: <nil>
}
