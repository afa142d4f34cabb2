// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"errors"
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

func TestFleetWaitsBetweenRetries(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour}})
	dp := f.add("a")
	f.next().end <- errors.New("down")
	f.requireState("a", fleet.StateRetrying)
	assert.WithinDuration(t, time.Now().Add(45*time.Minute), f.status("a").NextRetry, 16*time.Minute)
	f.requireNoRun()
	f.rotate(dp, "new")
	f.next() // at once
}

func TestFleetWaitsForCredentialsThatCanBeUsed(t *testing.T) {
	ends := make(chan error, 10)
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Hour, Limit: time.Hour},
		Hooks:   fleet.Hooks{OnEnd: func(_ types.NamespacedName, err error, _, _ time.Duration) { ends <- err }},
	})
	dp := f.add("a", func(dp *v1alpha1.DataPlane) { dp.Spec.KubernetesCluster.Credentials.ClientKey = "c2VjcmV0" })
	require.ErrorIs(t, testserver.Receive(t, ends), helpers.ErrInvalidCredentials)
	f.requireState("a", fleet.StateRetrying)
	assert.Contains(t, f.status("a").LastError, "spec.kubernetesCluster.credentials.clientKey")
	assert.NotContains(t, f.status("a").LastError, "c2VjcmV0")
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"x": "y"} })
	f.requireNoRun()
	assert.Empty(t, ends)
	f.rotate(dp, "mended")
	f.next()
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

// A run that fails with the credentials before is tried again at once with the new ones, also
// when it returns while these are being made.
func TestFleetEndsTheWaitOfARunThatFailedDuringARotation(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	f := newFleetTest(t, false, fleet.Options{
		Backoff: fleet.Backoff{Initial: time.Hour},
		Remote: remote.Options{ConfigFor: func(dp *v1alpha1.DataPlane) (*rest.Config, error) {
			if calls.Add(1) == 2 {
				close(asked)
				<-answer
			}
			return helpers.RESTConfigFor(dp)
		}},
	})
	dp := f.add("a")
	r := f.next()
	f.rotate(dp, "second")
	testserver.Receive(t, asked)
	r.end <- errors.New("unauthorized")
	// The Fleet has noticed nothing, since it waits for ConfigFor.
	time.Sleep(10 * time.Millisecond)
	close(answer)
	r = f.next()
	user, err := get(t.Context(), r.cluster, "/")
	require.NoError(t, err)
	assert.Equal(t, "second", user)
}
