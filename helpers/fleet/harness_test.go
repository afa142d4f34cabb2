// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	cachetesting "k8s.io/client-go/tools/cache/testing"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/testleases"
	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// TestMain hides the log of leader election, unless tests are verbose: a test's failure is hard to
// find in it.
func TestMain(m *testing.M) {
	flag.Parse()
	if !testing.Verbose() {
		os.Stderr, _ = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	m.Run()
}

// newLeases returns the Leases of a cluster without any.
func newLeases() coordinationv1.LeasesGetter { return testleases.NewServer().Client() }

// source is the ListerWatcher of an informer.
type source struct {
	*cachetesting.FakeControllerSource
	informer cache.SharedIndexInformer
}

// IsWatchListSemanticsUnSupported keeps client-go from streaming lists.
func (*source) IsWatchListSemanticsUnSupported() bool { return true }

func newSource(t testing.TB) *source {
	t.Helper()
	s := &source{FakeControllerSource: cachetesting.NewFakeControllerSource()}
	// Without a resync period, a reflector waits on a global channel, which no bubble can use.
	s.informer = cache.NewSharedIndexInformer(s, &v1alpha1.DataPlane{}, 24*time.Hour, cache.Indexers{})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		s.informer.Run(stop)
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
		s.Shutdown()
	})
	require.True(t, cache.WaitForCacheSync(stop, s.informer.HasSynced))
	return s
}

func startInformer(t *testing.T, informer cache.SharedIndexInformer) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		informer.Run(stop)
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
}

// run is one call of a fleet's function, as a test sees it.
type run struct {
	ctx     context.Context
	cluster *remote.Cluster
	end     chan error // receives the error to return
}

func (r *run) cause(t testing.TB) error {
	t.Helper()
	testserver.Receive(t, r.ctx.Done())
	return context.Cause(r.ctx)
}

func (r *run) requireGoesOn(t testing.TB) {
	t.Helper()
	select {
	case <-r.ctx.Done():
		require.FailNow(t, "the run was ended", "%v", context.Cause(r.ctx))
	case <-time.After(50 * time.Millisecond):
	}
}

// fleetTest is a fleet whose runs the test controls.
type fleetTest struct {
	t      *testing.T
	server *testserver.Server
	source *source
	fleet  *fleet.Fleet
	runs   chan *run
	stop   context.CancelCauseFunc
	result chan error
}

func (f *fleetTest) next() *run {
	f.t.Helper()
	return testserver.Receive(f.t, f.runs)
}

func (f *fleetTest) requireNoRun() {
	f.t.Helper()
	select {
	case r := <-f.runs:
		require.FailNow(f.t, "a run began", "for %s", r.cluster.Key())
	case <-time.After(50 * time.Millisecond):
	}
}

// add adds a data plane of the test's server.
func (f *fleetTest) add(name string, edits ...func(*v1alpha1.DataPlane)) *v1alpha1.DataPlane {
	f.t.Helper()
	dp := f.server.DataPlane(name, "user-of-"+name)
	for _, edit := range edits {
		edit(dp)
	}
	f.source.Add(dp.DeepCopy())
	return dp
}

func (f *fleetTest) modify(dp *v1alpha1.DataPlane, edit func(*v1alpha1.DataPlane)) *v1alpha1.DataPlane {
	f.t.Helper()
	dp = dp.DeepCopy()
	edit(dp)
	f.source.Modify(dp.DeepCopy())
	return dp
}

func (f *fleetTest) rotate(dp *v1alpha1.DataPlane, user string) *v1alpha1.DataPlane {
	f.t.Helper()
	return f.modify(dp, func(dp *v1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials = f.server.DataPlane(dp.Name, user).Spec.KubernetesCluster.Credentials
		dp.Generation++
	})
}

// move gives a data plane another URL of the same server.
func (f *fleetTest) move(dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
	f.t.Helper()
	return f.modify(dp, func(dp *v1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials.APIServerURL += "/moved"
		dp.Generation++
	})
}

func (f *fleetTest) status(name string) fleet.PlaneStatus {
	for _, plane := range f.fleet.Status().Planes {
		if plane.Name == name {
			return plane
		}
	}
	return fleet.PlaneStatus{}
}

func (f *fleetTest) requireState(name string, state fleet.State) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return f.status(name).State == state }, 10*time.Second, time.Millisecond,
		"%s is not %s", name, state)
}

// ended stops the fleet and returns the error of Run.
func (f *fleetTest) ended() error {
	f.t.Helper()
	f.stop(nil)
	return testserver.Receive(f.t, f.result)
}

// newFleetTest runs a fleet. Its runs end with their context unless heedless.
func newFleetTest(t *testing.T, heedless bool, opts fleet.Options) *fleetTest {
	t.Helper()
	f := &fleetTest{
		t: t, server: testserver.New(t, testserver.WhoAmI), source: newSource(t),
		runs: make(chan *run, 100), result: make(chan error, 1),
	}
	if opts.Backoff == (fleet.Backoff{}) {
		opts.Backoff = fleet.Backoff{Initial: time.Millisecond, Limit: 10 * time.Millisecond}
	}
	f.fleet = fleet.New(func(ctx context.Context, c *remote.Cluster) error {
		this := &run{ctx, c, make(chan error)}
		f.runs <- this
		if heedless {
			return <-this.end
		}
		select {
		case err := <-this.end:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}, opts, f.source.informer)
	ctx, stop := context.WithCancelCause(t.Context())
	f.stop = stop
	go func() { f.result <- f.fleet.Run(ctx) }()
	t.Cleanup(func() { stop(nil) })
	return f
}

// runFleet calls Run, until stop is called, which requires that it returns nil.
func runFleet(t *testing.T, f *fleet.Fleet) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		require.NoError(t, testserver.Receive(t, result))
	}
}

// get returns the body of the answer to a GET.
func get(ctx context.Context, c *remote.Cluster, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Config().Host+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.HTTPClient().Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func someConfig(*v1alpha1.DataPlane) (*rest.Config, error) {
	return &rest.Config{Host: "https://127.0.0.1:1", BearerToken: "token"}, nil
}

func untilEnd(ctx context.Context, _ *remote.Cluster) error {
	<-ctx.Done()
	return ctx.Err()
}

// labelConfig is a ConfigFor that reads labels only, as one for a gateway reads other fields than
// the credentials.
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
