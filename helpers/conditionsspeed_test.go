// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// A writer of a status must not be able to stall its readers: one call with 16 times as many
// types must not take much longer than 16 calls. Other programs can slow an attempt.
func TestManyTypesTakeLinearTime(t *testing.T) {
	const times, attempts = 16, 5
	for name, test := range map[string]struct {
		few  int
		call func(t *testing.T, dp *v1alpha1.DataPlane)
	}{
		"Evaluate": {2000, func(t *testing.T, dp *v1alpha1.DataPlane) {
			assert.Len(t, helpers.Evaluate(dp).Others, len(dp.Status.Conditions))
		}},
		"SetCondition": {2000, func(t *testing.T, dp *v1alpha1.DataPlane) {
			_, err := helpers.SetCondition(dp.DeepCopy(), condition(ready, yes, 1))
			require.NoError(t, err)
		}},
		"PatchConditions": {300, func(t *testing.T, dp *v1alpha1.DataPlane) {
			before := withConditions(1)
			stored, err := helpers.PatchConditions(t.Context(), serve(before), before, dp.Status.Conditions, helpers.PatchConditionsOptions{})
			require.NoError(t, err)
			assert.Len(t, stored.Status.Conditions, len(dp.Status.Conditions))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var dps [2]*v1alpha1.DataPlane
			for i, count := range []int{test.few, test.few * times} {
				dps[i] = withConditions(1)
				for n := range count {
					dps[i].Status.Conditions = append(dps[i].Status.Conditions, condition(fmt.Sprintf("Type%d", n), yes, 1))
				}
			}
			var one, many time.Duration
			for range attempts {
				start := time.Now()
				for range times {
					test.call(t, dps[0])
				}
				many = time.Since(start)
				start = time.Now()
				test.call(t, dps[1])
				if one = time.Since(start); one < 6*many {
					return
				}
			}
			assert.Failf(t, "more than linear", "%s for one call, %s for %d", one, many, times)
		})
	}
}

func TestReadersDoNotAllocate(t *testing.T) {
	stock := helpers.Stock()
	for name, test := range map[string]struct {
		dp   *v1alpha1.DataPlane
		opts []helpers.EvaluateOption
	}{
		"the defined types":           {dp: allTrue(created)},
		"ReadyFrom":                   {dp: stockV03(), opts: []helpers.EvaluateOption{helpers.ReadyFrom(created)}},
		"v0.3":                        {dp: stockV03(), opts: []helpers.EvaluateOption{stock}},
		"v1":                          {dp: stockV1(), opts: []helpers.EvaluateOption{stock}},
		"v1 with a limited heartbeat": {dp: stockV1(), opts: []helpers.EvaluateOption{stock, heartbeatWithin(time.Minute, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Zero(t, testing.AllocsPerRun(100, func() {
				if !helpers.IsReady(test.dp, test.opts...) || helpers.Evaluate(test.dp, test.opts...).Ready.Status != yes {
					t.Fail()
				}
			}))
		})
	}
	others := allTrue("A", "B", "C", "D", created)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if !helpers.IsReady(others) || !helpers.IsConnected(others) || !helpers.IsGatewayProvisioned(others) {
			t.Fail()
		}
	}))
	assert.EqualValues(t, 1, testing.AllocsPerRun(100, func() { helpers.Evaluate(others) }), "the list of the others")
}

// The floors do the minimum by hand: they find the three conditions, or the fields that stock
// OpenChoreo writes, and read the status.
func BenchmarkConditions(b *testing.B) {
	type read = func(*v1alpha1.DataPlane) bool
	stock := helpers.Stock()
	defined := map[string]read{
		"floor": func(dp *v1alpha1.DataPlane) bool {
			return meta.IsStatusConditionTrue(dp.Status.Conditions, ready) && meta.IsStatusConditionTrue(dp.Status.Conditions, connected) &&
				meta.IsStatusConditionTrue(dp.Status.Conditions, gateway)
		},
		"IsReady": func(dp *v1alpha1.DataPlane) bool { return helpers.IsReady(dp) },
		"three-readers": func(dp *v1alpha1.DataPlane) bool {
			return helpers.IsReady(dp) && helpers.IsConnected(dp) && helpers.IsGatewayProvisioned(dp)
		},
		"Evaluate":       func(dp *v1alpha1.DataPlane) bool { return helpers.Evaluate(dp).Ready.Status == yes },
		"Evaluate-Stock": func(dp *v1alpha1.DataPlane) bool { return helpers.Evaluate(dp, stock).Ready.Status == yes },
	}
	byStock := map[string]read{
		"floor": func(dp *v1alpha1.DataPlane) bool {
			if dp.Status.AgentConnection != nil {
				return dp.Status.AgentConnection.Connected
			}
			return meta.IsStatusConditionTrue(dp.Status.Conditions, created)
		},
		"IsReady":        func(dp *v1alpha1.DataPlane) bool { return !helpers.IsReady(dp) },
		"IsReady-Stock":  func(dp *v1alpha1.DataPlane) bool { return helpers.IsReady(dp, stock) },
		"Evaluate":       func(dp *v1alpha1.DataPlane) bool { return helpers.Evaluate(dp).Created.Reported == yes },
		"Evaluate-Stock": func(dp *v1alpha1.DataPlane) bool { return helpers.Evaluate(dp, stock).Ready.Status == yes },
	}
	for _, status := range []struct {
		name  string
		dp    *v1alpha1.DataPlane
		reads map[string]read
	}{
		{"v0.3", stockV03(), byStock},
		{"v1", stockV1(), byStock},
		{"three", allTrue(), defined},
		{"three-and-Created", allTrue(created), defined},
		{"eight", allTrue("A", "B", "C", "D", created), defined},
	} {
		for _, name := range slices.Sorted(maps.Keys(status.reads)) {
			read := status.reads[name]
			b.Run(status.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if !read(status.dp) {
						b.Fatal()
					}
				}
			})
		}
	}
}
