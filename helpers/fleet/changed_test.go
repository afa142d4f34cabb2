// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"errors"
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
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// labelConfig makes a connection of labels alone, as a ConfigFor for a gateway makes one of
// other fields than the credentials.
func labelConfig(dp *v1alpha1.DataPlane) (*rest.Config, error) {
	if dp.Labels["broken"] != "" {
		return nil, errors.New("the label broken is set")
	}
	return &rest.Config{Host: "https://127.0.0.1:1/" + dp.Labels["path"], BearerToken: "token" + dp.Labels["token"]}, nil
}

func label(pairs ...string) func(*v1alpha1.DataPlane) {
	return func(dp *v1alpha1.DataPlane) {
		labels := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			labels[pairs[i]] = pairs[i+1]
		}
		dp.Labels = labels
	}
}

// What ends the wait after a failure is a change of what ConfigFor returns.
func TestFleetEndsTheWaitWhenConfigForReturnsAnother(t *testing.T) {
	for name, test := range map[string]struct {
		before, after func(*v1alpha1.DataPlane)
		ends          bool
	}{
		"another token":                {label(), label("token", "2"), true},
		"another server":               {label(), label("path", "x"), true},
		"mended":                       {label("broken", "x"), label(), true},
		"still broken":                 {label("broken", "x"), label("broken", "y"), false},
		"broken":                       {label(), label("broken", "x"), false},
		"another field":                {label(), label("other", "x"), false},
		"another spelling of a server": {label("path", "x"), label("path", "x/"), false},
		"credentials that aren't read": {label(), func(dp *v1alpha1.DataPlane) {
			dp.Spec.KubernetesCluster.Credentials = v1alpha1.APIServerCredentials{APIServerURL: "https://other.example.com"}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleetTest(t, false, fleet.Options{
				Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
				Remote:  remote.Options{ConfigFor: labelConfig},
			})
			dp := f.add("a", test.before)
			if dp.Labels["broken"] == "" {
				f.next().end <- errors.New("down")
			}
			f.requireState("a", fleet.StateRetrying)
			dp = f.modify(dp, test.after)
			if test.ends {
				f.next()
				return
			}
			f.requireNoRun()
			for i := range 3 { // such as a heartbeat in the status
				dp = f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Annotations = map[string]string{"heartbeat": strconv.Itoa(i)} })
			}
			f.requireNoRun()
			f.requireState("a", fleet.StateRetrying)
			f.modify(dp, label("token", "mended"))
			f.next()
		})
	}
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

// A field that ConfigFor doesn't read doesn't end a run.
func TestFleetGoesOnWhenAServerThatIsNotReadChanges(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{Remote: remote.Options{ConfigFor: labelConfig}})
	dp := f.add("a")
	r := f.next()
	f.modify(dp, func(dp *v1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials.APIServerURL = "https://other.example.com"
	})
	r.requireGoesOn(t)
	require.NoError(t, f.ended())
}

// What ConfigFor reads from elsewhere ends the wait, too, at the next event.
func TestFleetEndsTheWaitForAChangeElsewhere(t *testing.T) {
	var token atomic.Value
	token.Store("old")
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
		Remote: remote.Options{ConfigFor: func(*v1alpha1.DataPlane) (*rest.Config, error) {
			return &rest.Config{Host: "https://127.0.0.1:1", BearerToken: token.Load().(string)}, nil
		}},
	})
	dp := f.add("a")
	r := f.next()
	r.cluster.Close() // as a run may
	r.end <- errors.New("unauthorized")
	f.requireState("a", fleet.StateRetrying)
	dp = f.modify(dp, label("x", "y"))
	f.requireNoRun()
	token.Store("new")
	f.modify(dp, label("x", "z"))
	assert.Equal(t, "new", f.next().cluster.Config().BearerToken)
	require.NoError(t, f.ended())
}

// A wrapper of the user that panics is an error, with and without a run.
func TestFleetSurvivesAWrapperThatPanics(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
		Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			config, err := labelConfig(dp)
			if dp.Labels["panics"] != "" {
				config.WrapTransport = func(http.RoundTripper) http.RoundTripper { panic("no wrapper") }
			}
			return config, err
		}},
	})
	dp := f.add("a", label("panics", "x"))
	f.requireState("a", fleet.StateRetrying)
	dp = f.modify(dp, label("panics", "y"))
	f.requireNoRun()
	dp = f.modify(dp, label())
	r := f.next()
	dp = f.modify(dp, label("panics", "x", "token", "2"))
	require.ErrorAs(t, r.cause(t), new(*fleet.PanicError)) // or else it would go on with the old credentials
	f.requireState("a", fleet.StateRetrying)
	assert.Equal(t, "panic: no wrapper", f.status("a").LastError)
	f.modify(dp, label("token", "3"))
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
