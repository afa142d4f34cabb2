// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestFleetLimitsHowManyStartAtOnce(t *testing.T) {
	const limit, planes = 2, 6
	f := newFleetTest(t, false, fleet.Options{StartLimit: limit, StartTimeout: -1})
	for i := range planes {
		f.add(fmt.Sprint("dp-", i))
	}
	running := []*run{f.next(), f.next()}
	f.requireNoRun()
	count := func(state fleet.State) (n int) {
		for _, plane := range f.fleet.Status().Planes {
			if plane.State == state {
				n++
			}
		}
		return n
	}
	assert.Equal(t, limit, count(fleet.StateRunning))
	assert.Equal(t, planes-limit, count(fleet.StateStarting))

	fleet.MarkStarted(context.WithoutCancel(running[0].ctx)) // a derived context
	fleet.MarkStarted(running[0].ctx)                        // a second call does nothing
	fleet.MarkStarted(t.Context())
	running = append(running, f.next())
	f.requireNoRun()
	running[1].end <- errors.New("could not start")
	running = append(running, f.next()) // its next turn comes after the others'
	f.requireNoRun()
	require.NoError(t, f.ended())
	require.ErrorIs(t, running[0].cause(t), fleet.ErrStopped)
}

// A cluster that accepts connections and never answers delays others by StartTimeout at most.
func TestDeadClustersKeepOthersFromStartingOnlyForStartTimeout(t *testing.T) {
	const planes = 300
	server, s := testserver.New(t, testserver.WhoAmI), newSource(t)
	dead := testserver.New(t, testserver.WhoAmI, func(s *httptest.Server) { s.Listener = mute{s.Listener} })
	template := server.DataPlane("template", "alice")
	for i := range planes {
		dp := template.DeepCopy()
		dp.Name = fmt.Sprint("dp-", i)
		if i%10 == 0 {
			dp.Spec.KubernetesCluster.Credentials.APIServerURL = dead.URL()
		}
		s.Add(dp)
	}
	require.Eventually(t, func() bool { return len(s.informer.GetStore().ListKeys()) == planes }, time.Minute, time.Millisecond)
	before := runtime.NumGoroutine()
	var working atomic.Int64
	f := fleet.New(func(ctx context.Context, c *remote.Cluster) error {
		if _, err := get(ctx, c, "/"); err != nil {
			return err
		}
		fleet.MarkStarted(ctx)
		working.Add(1)
		<-ctx.Done()
		return ctx.Err()
	}, fleet.Options{StartLimit: 20, StartTimeout: 100 * time.Millisecond}, s.informer)
	stop := runFleet(t, f)
	for deadline := time.Now().Add(5 * time.Minute); working.Load() < planes*9/10; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "%d work; %s", working.Load(), f.Status())
	}
	stop()
	server.RequireNoConnections()
	require.Positive(t, dead.Accepted())
	dead.RequireNoConnections()
	testserver.RequireGoroutines(t, before)
}

// mute is a listener whose connections never answer.
type mute struct{ net.Listener }

func (m mute) Accept() (net.Conn, error) {
	conn, err := m.Listener.Accept()
	return muteConn{conn}, err
}

type muteConn struct{ net.Conn }

func (muteConn) Write(data []byte) (int, error) { return len(data), nil }
