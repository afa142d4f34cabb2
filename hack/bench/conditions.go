// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

var conditionTypes = [...]string{
	openchoreov1alpha1.DataPlaneConditionReady,
	openchoreov1alpha1.DataPlaneConditionConnected,
	openchoreov1alpha1.DataPlaneConditionGatewayProvisioned,
}

func evaluateRows() []row {
	of := func(read func(dp *openchoreov1alpha1.DataPlane) bool) func(context.Context, *input) (measureFunc, error) {
		return func(context.Context, *input) (measureFunc, error) {
			dp := conditioned()
			return func(context.Context, func() (int, error)) (values, error) {
				return perCallOf(func() error {
					if !read(dp) {
						return errors.New("the conditions are not True")
					}
					return nil
				})
			}, nil
		}
	}
	return []row{{
		name:    "conditions",
		title:   "three conditions of a DataPlane",
		metrics: perCall,
		rounds:  [2]int{3, 15},
		subjects: []subject{
			{
				name: "sdk",
				how:  "helpers.Evaluate: status, generation, age, duplicates and deletion",
				start: of(func(dp *openchoreov1alpha1.DataPlane) bool {
					report := helpers.Evaluate(dp)
					for _, conditionType := range conditionTypes {
						if report.Verdict(conditionType).Status != metav1.ConditionTrue {
							return false
						}
					}
					return true
				}),
			},
			{
				name:  "sdk, yes or no",
				how:   "helpers.IsOperational, which asks the same of all three",
				aside: true,
				start: of(func(dp *openchoreov1alpha1.DataPlane) bool { return helpers.IsOperational(dp) }),
			},
			{
				name: "apimachinery",
				how:  "meta.FindStatusCondition three times: status only, also where it is stale",
				start: of(func(dp *openchoreov1alpha1.DataPlane) bool {
					for _, conditionType := range conditionTypes {
						c := meta.FindStatusCondition(dp.Status.Conditions, conditionType)
						if c == nil || c.Status != metav1.ConditionTrue {
							return false
						}
					}
					return true
				}),
			},
		},
	}}
}

func conditioned() *openchoreov1alpha1.DataPlane {
	dp := &openchoreov1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Name: "prod", Namespace: "default", Generation: 4}}
	dp.Status.ObservedGeneration = 4
	for _, conditionType := range conditionTypes {
		dp.Status.Conditions = append(dp.Status.Conditions, metav1.Condition{
			Type: conditionType, Status: metav1.ConditionTrue, ObservedGeneration: 4,
			Reason: "Reconciled", Message: "as of the last look at the cluster", LastTransitionTime: metav1.Unix(1_700_000_000, 0),
		})
	}
	return dp
}
