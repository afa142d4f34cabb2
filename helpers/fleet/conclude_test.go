// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"errors"
	"net/http"
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
	case <-entered:
		require.Fail(t, "OnRotate was called while another call was under way")
	case <-time.After(50 * time.Millisecond):
	}
	leave <- struct{}{}
	require.NoError(t, testserver.Receive(t, entered))
	leave <- struct{}{}
	r.requireGoesOn(t)
}

type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

// The error of a run may be a nil pointer, which is not a nil error.
func TestFleetSurvivesAnErrorThatIsANilPointer(t *testing.T) {
	f := newFleetTest(t, false, fleet.Options{})
	f.add("a")
	f.next().end <- (*nilError)(nil)
	f.next()
	assert.Contains(t, f.status("a").LastError, "nil pointer")
}
