// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanesdk_test

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// Stock OpenChoreo reports no Ready, so a wait for it reads what OpenChoreo does report.
func Example_await() {
	ctx := context.Background()
	prod := dataplanetest.DataPlane("default", "prod", dataplanetest.Condition("Created", metav1.ConditionTrue))
	dataPlanes := dataplanetest.NewClientset(prod).OpenChoreoV1alpha1().DataPlanes("default")

	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	dp, err := await.For(ctx, dataPlanes, "prod", await.True("Ready"),
		await.JudgeBy(helpers.Stock())) // reads what OpenChoreo writes; a reported Ready counts first
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(dp.Name)
	// Output: prod
}
