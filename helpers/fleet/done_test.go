// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestFleetIsDoneWithARunThatReturnsNil(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{})
	dp := f.add("a")
	r := f.next()
	r.end <- nil
	f.requireState("a", fleet.StateDone)
	testserver.Receive(t, r.cluster.Done())
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"x": "y"} })
	f.requireNoRun()
	f.requireState("a", fleet.StateDone)
	dp = f.rotate(dp, "new")
	f.requireNoRun()
	f.move(dp)
	f.next()
}

// A data plane that is done has another run when ConfigFor names another server.
func TestFleetThatIsDoneRunsAgainForAnotherServer(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{
		Remote: remote.Options{ConfigFor: labelConfig},
		Filter: func(dp *v1alpha1.DataPlane, _ bool) bool { return dp.Labels["hidden"] == "" },
	})
	dp := f.add("a")
	f.next().end <- nil
	f.requireState("a", fleet.StateDone)
	dp = f.modify(dp, label("token", "2"))
	f.requireNoRun()
	dp = f.modify(dp, label("broken", "x"))
	f.requireNoRun()
	dp = f.modify(dp, func(dp *v1alpha1.DataPlane) {
		dp.Labels = nil
		dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://other.example.com" // which isn't read
	})
	f.requireNoRun()
	dp = f.modify(dp, label("path", "x"))
	f.next().end <- nil
	f.requireState("a", fleet.StateDone)

	dp = f.modify(dp, label("path", "y", "hidden", "x")) // while it isn't selected
	f.requireState("a", fleet.StateNotSelected)
	f.modify(dp, label("path", "y"))
	f.next()
	require.NoError(t, f.ended())
}

// A run that ends while the credentials can't be used was for the server before.
func TestFleetThatIsDoneWhileBrokenRunsAgainForAnotherServer(t *testing.T) {
	rotations := make(chan error, 10)
	f := newFleetTest(t, false, fleet.Options{
		Remote: remote.Options{ConfigFor: labelConfig},
		Hooks:  fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) { rotations <- err }},
	})
	dp := f.add("a")
	r := f.next()
	dp = f.modify(dp, label("broken", "x"))
	require.Error(t, testserver.Receive(t, rotations))
	r.end <- nil
	f.requireState("a", fleet.StateDone)
	f.modify(dp, label("path", "x"))
	f.next()
	require.NoError(t, f.ended())
}

func TestFleetRemembersWhatIsDoneWhileNotSelected(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{Filter: func(dp *v1alpha1.DataPlane, _ bool) bool { return dp.Labels == nil }})
	dp := f.add("a")
	f.next().end <- nil
	f.requireState("a", fleet.StateDone)
	dp = f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"x": "y"} })
	f.requireState("a", fleet.StateNotSelected)
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = nil })
	f.requireState("a", fleet.StateDone)
	f.requireNoRun()
}
