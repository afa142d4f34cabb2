// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestFleetRunsLastThroughRotations(t *testing.T) {
	type rotation struct {
		key types.NamespacedName
		err error
	}
	rotations, remotes := make(chan rotation, 10), make(chan types.NamespacedName, 10)
	f := newFleetTest(t, false, fleet.Options{
		Remote: remote.Options{OnRotate: func(key types.NamespacedName) { remotes <- key }},
		Hooks:  fleet.Hooks{OnRotate: func(key types.NamespacedName, err error) { rotations <- rotation{key, err} }},
	})
	dp := f.add("a")
	r := f.next()
	key := types.NamespacedName{Namespace: "default", Name: "a"}
	requireUser := func(want string) {
		user, err := get(t.Context(), r.cluster, "/")
		require.NoError(t, err)
		require.Equal(t, want, user)
	}
	requireUser("user-of-a")
	dp = f.rotate(dp, "second")
	assert.Equal(t, rotation{key, nil}, testserver.Receive(t, rotations))
	assert.Equal(t, key, testserver.Receive(t, remotes))
	requireUser("second")

	// Credentials that can't be used: requests fail, and never use the old ones.
	broken := f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Spec.KubernetesCluster.Credentials.ClientKey = "c2VjcmV0" })
	require.ErrorIs(t, testserver.Receive(t, rotations).err, helpers.ErrInvalidCredentials)
	_, err := get(t.Context(), r.cluster, "/")
	require.ErrorIs(t, err, helpers.ErrInvalidCredentials)
	assert.Equal(t, fleet.StateRunning, f.status("a").State)
	assert.Contains(t, f.status("a").LastError, "spec.kubernetesCluster.credentials.clientKey")

	f.rotate(broken, "third")
	assert.Equal(t, rotation{key, nil}, testserver.Receive(t, rotations))
	requireUser("third")
	f.modify(dp, func(dp *v1alpha1.DataPlane) {
		dp.Labels = map[string]string{"x": "y"}
		dp.Spec.KubernetesCluster.Credentials = f.server.DataPlane("a", "fourth").Spec.KubernetesCluster.Credentials
	})
	testserver.Receive(t, rotations)
	requireUser("fourth")
	r.requireGoesOn(t)
	assert.Zero(t, f.status("a").Restarts)
	require.NoError(t, f.ended())
	require.ErrorIs(t, r.cause(t), fleet.ErrStopped)
	assert.Empty(t, rotations, "an event without new credentials is no rotation")
}

func TestFleetRunsLastThroughAnotherSpellingOfTheAddress(t *testing.T) {
	rotations := make(chan error, 10)
	f := newFleetTest(t, false, fleet.Options{Hooks: fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) { rotations <- err }}})
	dp := f.add("a")
	r := f.next()
	f.modify(dp, func(dp *v1alpha1.DataPlane) {
		dp.Spec = f.server.DataPlane("a", "bob").Spec
		dp.Spec.KubernetesCluster.Credentials.APIServerURL += "/"
	})
	require.NoError(t, testserver.Receive(t, rotations))
	r.requireGoesOn(t)
	assert.Zero(t, f.status("a").Restarts)
}

// A run can send requests until it returns, so it follows rotations until then.
func TestFleetRotatesARunThatStops(t *testing.T) {
	type edit func(*fleetTest, *v1alpha1.DataPlane) *v1alpha1.DataPlane
	deselect := func(f *fleetTest, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
		return f.modify(dp, label("hidden", "x"))
	}
	restart := func(f *fleetTest, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
		return f.modify(dp, label("restart", "x"))
	}
	stop := func(f *fleetTest, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane { f.stop(nil); return dp }
	remove := func(f *fleetTest, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
		f.source.Delete(dp.DeepCopy())
		return dp
	}
	rotate := func(f *fleetTest, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane { return f.rotate(dp, "second") }
	replace := func(f *fleetTest, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
		dp = dp.DeepCopy()
		dp.UID = "uid-2"
		return f.rotate(dp, "second")
	}
	none := func(_ *fleetTest, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane { return dp }
	for name, test := range map[string]struct {
		cancel edit
		cause  error
		change edit
		want   string
	}{
		"deselected": {deselect, fleet.ErrNotSelected, rotate, "second"},
		"restarted":  {restart, fleet.ErrDataPlaneChanged, rotate, "second"},
		"restarted by the rotation": {func(f *fleetTest, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
			dp = dp.DeepCopy()
			label("restart", "x")(dp)
			return f.rotate(dp, "second")
		}, fleet.ErrDataPlaneChanged, none, "second"},
		"stopped":            {stop, fleet.ErrStopped, rotate, "second"},
		"back at its server": {(*fleetTest).move, remote.ErrServerChanged, rotate, "second"},

		"moved, then rotated": {(*fleetTest).move, remote.ErrServerChanged, func(f *fleetTest, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
			return f.modify(dp, func(dp *v1alpha1.DataPlane) {
				creds := f.server.DataPlane("a", "second").Spec.KubernetesCluster.Credentials
				creds.APIServerURL = dp.Spec.KubernetesCluster.Credentials.APIServerURL
				dp.Spec.KubernetesCluster.Credentials = creds
			})
		}, "user-of-a"},
		"deselected, then moved": {deselect, fleet.ErrNotSelected, func(f *fleetTest, dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
			return f.modify(dp, label("path", "/moved")) // which only ConfigFor knows
		}, "user-of-a"},
		"replaced":                  {replace, helpers.ErrReplaced, none, "user-of-a"},
		"deleted and created again": {remove, helpers.ErrDeleted, replace, "user-of-a"},
		"stopped, then replaced":    {stop, fleet.ErrStopped, replace, "user-of-a"},
		"stopped, then deleted":     {stop, fleet.ErrStopped, remove, "user-of-a"},
	} {
		t.Run(name, func(t *testing.T) {
			rotations := make(chan error, 10)
			f := newFleetTest(t, true, fleet.Options{
				Filter: func(dp *v1alpha1.DataPlane, _ bool) bool { return dp.Labels["hidden"] == "" },
				RestartOn: func(before, after *v1alpha1.DataPlane) bool {
					return before.Labels["restart"] != after.Labels["restart"]
				},
				Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
					config, err := helpers.RESTConfigFor(dp)
					if err == nil {
						config.Host += dp.Labels["path"]
					}
					return config, err
				}},
				Hooks: fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) { rotations <- err }},
			})
			dp := f.add("a")
			r := f.next()
			dp = test.cancel(f, dp)
			require.ErrorIs(t, r.cause(t), test.cause)
			test.change(f, dp)
			if test.want == "second" {
				require.NoError(t, testserver.Receive(t, rotations))
			} else {
				time.Sleep(50 * time.Millisecond)
			}
			user, err := get(t.Context(), r.cluster, "/")
			require.NoError(t, err)
			assert.Equal(t, test.want, user)
			assert.Equal(t, fleet.StateStopping, f.status("a").State)
			assert.Empty(t, rotations)

			r.end <- nil
			f.stop(nil)
			select {
			case next := <-f.runs: // it began before the Fleet stopped
				next.end <- nil
				err = testserver.Receive(t, f.result)
			case err = <-f.result:
			}
			require.NoError(t, err)
		})
	}
}

// A run begins with the DataPlane of the moment when its turn comes.
func TestFleetDoesNotRotateARunThatBegins(t *testing.T) {
	configs, seen := make(chan string, 10), make(chan struct{}, 10)
	f := newFleetTest(t, false, fleet.Options{
		StartLimit: 1, StartTimeout: -1,
		Filter: func(dp *v1alpha1.DataPlane, _ bool) bool {
			if dp.Name == "sentinel" {
				seen <- struct{}{}
			}
			return dp.Name != "sentinel"
		},
		Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			configs <- dp.Name + dp.Labels["version"]
			return helpers.RESTConfigFor(dp)
		}},
	})
	f.add("a")
	first := f.next()
	waits := f.add("b")
	f.requireState("b", fleet.StateStarting)
	f.modify(waits, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"version": "-2"} })
	f.add("sentinel")
	testserver.Receive(t, seen) // after the earlier events
	fleet.MarkStarted(first.ctx)
	f.next()
	f.modify(waits, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"version": "-3"} })
	for _, want := range []string{"a", "b-2", "b-3"} {
		assert.Equal(t, want, testserver.Receive(t, configs))
	}
	require.NoError(t, f.ended())
	assert.Empty(t, configs)
}

// A request asks ConfigFor again, in its own goroutine, when its credentials are refused.
func TestFleetCallsOnRotateOneAfterTheOther(t *testing.T) {
	var token atomic.Value
	token.Store("first")
	entered, leave := make(chan error), make(chan struct{})
	f := newFleetTest(t, false, fleet.Options{
		Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			config, err := helpers.RESTConfigFor(dp)
			if err == nil {
				config.BearerToken = token.Load().(string)
			}
			return config, err
		}},
		Hooks: fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) {
			entered <- err
			<-leave
		}},
	})
	f.server.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer third" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	dp := f.add("a")
	r := f.next()
	token.Store("second")
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Generation++ })
	require.NoError(t, testserver.Receive(t, entered))
	token.Store("third")
	_, err := get(t.Context(), r.cluster, "/")
	require.NoError(t, err)
	select {
	case err := <-entered:
		require.Fail(t, "OnRotate was called while another call was under way", err)
	case <-time.After(50 * time.Millisecond):
	}
	leave <- struct{}{}
	require.NoError(t, testserver.Receive(t, entered))
	leave <- struct{}{}
	r.requireGoesOn(t)
}

// OnRotate reports credentials that can't be used once, not for each update of the object.
func TestOnRotateReportsBadCredentialsOnce(t *testing.T) {
	var reports atomic.Int64
	f := newFleetTest(t, false, fleet.Options{Hooks: fleet.Hooks{
		OnRotate: func(types.NamespacedName, error) { reports.Add(1) },
	}})
	dp := f.add("a")
	f.next()
	dp = f.modify(dp, func(dp *v1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials.ClientCert = "bad"
	})
	require.Eventually(t, func() bool { return reports.Load() > 0 }, 10*time.Second, time.Millisecond)
	for i := range 5 { // such as a controller that writes its heartbeat into the status
		dp = f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Annotations = map[string]string{"heartbeat": strconv.Itoa(i)} })
		time.Sleep(20 * time.Millisecond)
	}
	assert.EqualValues(t, 1, reports.Load())
	require.NoError(t, f.ended())
}

// A request may find that ConfigFor names another API server now. No event of the DataPlane follows.
func TestARunEndsWhenARequestFindsAnotherServer(t *testing.T) {
	var path atomic.Value
	path.Store("/")
	f := newFleetTest(t, false, fleet.Options{
		Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			config, err := helpers.RESTConfigFor(dp)
			if err == nil {
				config.Host += path.Load().(string)
			}
			return config, err
		}},
	})
	f.server.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	f.add("a")
	r := f.next()
	path.Store("/moved")
	_, err := get(t.Context(), r.cluster, "/")
	require.NoError(t, err)
	require.ErrorIs(t, r.cause(t), remote.ErrServerChanged)
	assert.Contains(t, f.next().cluster.String(), "/moved")
}
