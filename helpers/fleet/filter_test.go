// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

func TestFilterSelectsWhichDataPlanesHaveRuns(t *testing.T) {
	onlyConnected := fleet.OnlyConnected()
	gold := func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"tier": "gold"} }
	setConnected := func(status metav1.ConditionStatus) func(*v1alpha1.DataPlane) {
		return func(dp *v1alpha1.DataPlane) {
			gold(dp)
			dp.Status.Conditions = []metav1.Condition{connected(status, dp.Generation)}
		}
	}
	f := newFleetTest(t, false, fleet.Options{Filter: func(dp *v1alpha1.DataPlane, selected bool) bool {
		return dp.Labels["tier"] == "gold" && onlyConnected(dp, selected)
	}})
	f.add("silver", setConnected(metav1.ConditionTrue), func(dp *v1alpha1.DataPlane) { dp.Labels = nil })
	dp := f.add("a", gold)
	f.requireNoRun()
	assert.Empty(t, f.fleet.Status().Planes)

	dp = f.modify(dp, setConnected(metav1.ConditionTrue))
	r := f.next()
	dp = f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Generation++ }) // nobody has looked since
	r.requireGoesOn(t)
	dp = f.modify(dp, setConnected(metav1.ConditionFalse))
	require.ErrorIs(t, r.cause(t), fleet.ErrNotSelected)
	f.requireState("a", fleet.StateNotSelected)
	dp = f.modify(dp, setConnected(metav1.ConditionUnknown))
	f.requireNoRun()
	dp = f.modify(dp, setConnected(metav1.ConditionTrue))
	r = f.next()
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = nil })
	require.ErrorIs(t, r.cause(t), fleet.ErrNotSelected)
}

// No run follows, as one would after ErrDataPlaneChanged, until the DataPlane is selected again.
func TestAChangeThatAlsoDeselectsEndsTheRunAsNotSelected(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{
		Filter: func(dp *v1alpha1.DataPlane, _ bool) bool { return dp.Labels["hidden"] == "" },
		RestartOn: func(before, after *v1alpha1.DataPlane) bool {
			return before.Labels["version"] != after.Labels["version"]
		},
	})
	dp := f.add("a")
	r := f.next()
	dp = f.modify(dp, label("version", "2", "hidden", "x"))
	require.ErrorIs(t, r.cause(t), fleet.ErrNotSelected)
	dp = f.modify(dp, label("version", "2"))
	f.next().end <- nil
	f.requireState("a", fleet.StateDone)

	dp = f.modify(dp, label("version", "3", "hidden", "x")) // the change still needs a run
	f.requireState("a", fleet.StateNotSelected)
	dp = f.modify(dp, label("version", "3"))
	r = f.next()

	f.modify(dp, func(dp *v1alpha1.DataPlane) { // which is no longer the run's object
		dp.UID = "uid-2"
		label("hidden", "x")(dp)
	})
	require.ErrorIs(t, r.cause(t), helpers.ErrReplaced)
}

// Another object of the same name isn't selected because the previous one was.
func TestOnlyConnectedDecidesAnewForAnotherObject(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{Filter: fleet.OnlyConnected()})
	dp := f.add("a", func(dp *v1alpha1.DataPlane) {
		dp.Status.Conditions = []metav1.Condition{connected(metav1.ConditionTrue, 1)}
	})
	r := f.next()
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.UID, dp.Status.Conditions = "uid-2", nil })
	require.ErrorIs(t, r.cause(t), helpers.ErrReplaced)
	f.requireNoRun()
}

// No event comes when a condition has been True for long enough.
func TestOnlyConnectedJudgesTimeAtTheNextEvent(t *testing.T) {
	since := time.Unix(1000, 0)
	var now atomic.Pointer[time.Time]
	now.Store(&since)
	f := newFleetTest(t, false, fleet.Options{
		Filter: fleet.OnlyConnected(helpers.StableFor(time.Minute, func() time.Time { return *now.Load() })),
	})
	dp := f.add("a", func(dp *v1alpha1.DataPlane) {
		dp.Status.Conditions = []metav1.Condition{connected(metav1.ConditionTrue, 1)}
		dp.Status.Conditions[0].LastTransitionTime = metav1.NewTime(since)
	})
	f.requireNoRun()
	later := since.Add(time.Hour)
	now.Store(&later)
	f.requireNoRun()
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"x": "y"} }) // or a resync
	f.next()
}

func connected(status metav1.ConditionStatus, observed int64) metav1.Condition {
	return metav1.Condition{
		Type: v1alpha1.DataPlaneConditionConnected, Status: status, ObservedGeneration: observed, Reason: "Tested",
	}
}

// OpenChoreo v1 reports the connection of an agent, and no condition.
func TestOnlyConnectedReadsTheAgentsConnection(t *testing.T) {
	onlyConnected := fleet.OnlyConnected()
	dp := dataplanetest.DataPlane("default", "a", dataplanetest.V1)
	assert.True(t, onlyConnected(dp, false))
	dataplanetest.AgentAway(dp)
	assert.False(t, onlyConnected(dp, true))
	assert.False(t, onlyConnected(dataplanetest.DataPlane("default", "a"), false), "v0.3 reports neither")
}
