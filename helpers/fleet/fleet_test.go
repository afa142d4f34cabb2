// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	cachetesting "k8s.io/client-go/tools/cache/testing"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// source is what an informer lists and watches.
type source struct {
	*cachetesting.FakeControllerSource
	informer cache.SharedIndexInformer
}

// IsWatchListSemanticsUnSupported tells a client-go that would stream lists.
func (*source) IsWatchListSemanticsUnSupported() bool { return true }

func newSource(t testing.TB) *source {
	t.Helper()
	s := &source{FakeControllerSource: cachetesting.NewFakeControllerSource()}
	s.informer = cache.NewSharedIndexInformer(s, &v1alpha1.DataPlane{}, 0, cache.Indexers{})
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

// run is one call of a fleet's function, as a test sees it.
type run struct {
	ctx    context.Context
	remote *remote.Cluster
	end    chan error // what it returns
}

func (r *run) cause(t testing.TB) error {
	t.Helper()
	mustReceive(t, r.ctx.Done())
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

// fleetTest is a fleet whose runs do what the test says.
type fleetTest struct {
	t      *testing.T
	server *apiServer
	source *source
	fleet  *Fleet
	runs   chan *run
	stop   context.CancelCauseFunc
	result chan error
}

// newFleet runs a fleet. Its runs end with their context unless heedless.
func newFleetTest(t *testing.T, heedless bool, opts ...Option) *fleetTest {
	t.Helper()
	f := &fleetTest{
		t: t, server: newAPIServer(t, whoAmI), source: newSource(t),
		runs: make(chan *run, 100), result: make(chan error, 1),
	}
	opts = append([]Option{WithBackoff(time.Millisecond, 10*time.Millisecond, time.Minute)}, opts...)
	f.fleet = New(f.source.informer, func(ctx context.Context, r *remote.Cluster) error {
		this := &run{ctx, r, make(chan error)}
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
	}, opts...)
	ctx, stop := context.WithCancelCause(t.Context())
	f.stop = stop
	go func() { f.result <- f.fleet.Run(ctx) }()
	t.Cleanup(func() { stop(nil) })
	return f
}

func (f *fleetTest) next() *run {
	f.t.Helper()
	return mustReceive(f.t, f.runs)
}

func (f *fleetTest) requireNoRun() {
	f.t.Helper()
	select {
	case r := <-f.runs:
		require.FailNow(f.t, "a run began", "for %s", r.remote.Key())
	case <-time.After(50 * time.Millisecond):
	}
}

// add adds a data plane of the test's server.
func (f *fleetTest) add(name string, edits ...func(*v1alpha1.DataPlane)) *v1alpha1.DataPlane {
	f.t.Helper()
	dp := f.server.dataPlane(name, "user-of-"+name)
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
		dp.Spec.KubernetesCluster.Credentials = f.server.dataPlane(dp.Name, user).Spec.KubernetesCluster.Credentials
		dp.Generation++
	})
}

func (f *fleetTest) status(name string) PlaneStatus {
	for _, plane := range f.fleet.Status().Planes {
		if plane.Name == name {
			return plane
		}
	}
	return PlaneStatus{}
}

func (f *fleetTest) requireState(name string, state State) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return f.status(name).State == state }, 10*time.Second, time.Millisecond,
		"%s is not %s", name, state)
}

// ended stops the fleet and returns what Run has.
func (f *fleetTest) ended() error {
	f.t.Helper()
	f.stop(nil)
	return mustReceive(f.t, f.result)
}

func TestFleetRunsOncePerDataPlane(t *testing.T) {
	f := newFleetTest(t, false)
	a, b := f.add("a"), f.add("b")
	byName := map[string]*run{}
	for range 2 {
		r := f.next()
		byName[r.remote.Key().Name] = r
	}
	require.Len(t, byName, 2)
	for name, r := range byName {
		user, err := get(t, r.remote, "/")
		require.NoError(t, err)
		assert.Equal(t, "user-of-"+name, user)
	}
	require.Equal(t, StateRunning, f.status("a").State)

	f.modify(a, func(dp *v1alpha1.DataPlane) {
		dp.Labels = map[string]string{"x": "y"}
		dp.Spec.Gateway.PublicVirtualHost = "other.example.com"
		dp.Generation++
	})
	f.modify(b, func(dp *v1alpha1.DataPlane) { dp.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} })
	byName["a"].requireGoesOn(t)
	byName["b"].requireGoesOn(t)
	f.requireNoRun()

	f.source.Delete(b.DeepCopy())
	require.ErrorIs(t, byName["b"].cause(t), helpers.ErrDeleted)
	mustReceive(t, byName["b"].remote.Done())
	byName["a"].requireGoesOn(t)
	require.Eventually(t, func() bool { return len(f.fleet.Status().Planes) == 1 }, 10*time.Second, time.Millisecond)

	cause := errors.New("enough")
	f.stop(cause)
	require.NoError(t, mustReceive(t, f.result))
	require.ErrorIs(t, byName["a"].cause(t), ErrStopped)
	require.ErrorIs(t, byName["a"].cause(t), cause)
	require.Equal(t, StateStopped, f.status("a").State)
	f.server.requireNoConnections()
}

func TestFleetRunsAnewWhenTheDataPlaneChanges(t *testing.T) {
	for name, test := range map[string]struct {
		opts   []Option
		change func(f *fleetTest, dp *v1alpha1.DataPlane)
		want   error
		user   string
	}{
		"other credentials": {nil, func(f *fleetTest, dp *v1alpha1.DataPlane) { f.rotate(dp, "new") }, ErrCredentialsChanged, "new"},
		"another object, which was not seen to come": {nil, func(f *fleetTest, dp *v1alpha1.DataPlane) {
			f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.UID = "uid-2" })
		}, helpers.ErrReplaced, "user-of-a"},
		"deleted and recreated": {nil, func(f *fleetTest, dp *v1alpha1.DataPlane) {
			f.source.Delete(dp.DeepCopy())
			again := dp.DeepCopy()
			again.UID = "uid-2"
			f.source.Add(again)
		}, nil, "user-of-a"}, // the cause depends on what the informer sees
		"as RestartOn says": {
			[]Option{WithRestartOn(func(before, after *v1alpha1.DataPlane) bool {
				return before.Spec.Gateway != after.Spec.Gateway
			})},
			func(f *fleetTest, dp *v1alpha1.DataPlane) {
				f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Spec.Gateway.PublicVirtualHost = "other.example.com" })
			}, ErrDataPlaneChanged, "user-of-a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleetTest(t, true, test.opts...)
			dp := f.add("a")
			first := f.next()
			test.change(f, dp)
			cause := first.cause(t)
			if test.want != nil {
				require.ErrorIs(t, cause, test.want)
			}
			f.requireNoRun() // before the first has returned
			f.requireState("a", StateStopping)
			_, err := get(t, first.remote, "/")
			require.NoError(t, err, "what a run does at its end still has its connection")
			first.end <- ctxErr
			second := f.next()
			mustReceive(t, first.remote.Done())
			user, err := get(t, second.remote, "/")
			require.NoError(t, err)
			assert.Equal(t, test.user, user)
			assert.Equal(t, 1, f.status("a").Restarts)
			second.requireGoesOn(t)
			f.stop(nil)
			second.end <- nil
			require.NoError(t, f.ended())
		})
	}
}

var ctxErr = context.Canceled

func TestFleetRetriesErrors(t *testing.T) {
	type ended struct {
		err        error
		ran, retry time.Duration
	}
	var starts, removed atomic.Int64
	ends := make(chan ended, 100)
	f := newFleetTest(t, false, WithBackoff(8*time.Millisecond, 64*time.Millisecond, time.Hour), WithHooks(Hooks{
		OnStart:  func(types.NamespacedName) { starts.Add(1) },
		OnEnd:    func(_ types.NamespacedName, err error, ran, retry time.Duration) { ends <- ended{err, ran, retry} },
		OnRemove: func(types.NamespacedName) { removed.Add(1) },
	}))
	dp := f.add("a")
	failure := errors.New("no route")
	for i := range 6 {
		f.next().end <- failure
		end := mustReceive(t, ends)
		require.ErrorIs(t, end.err, failure)
		longest := min(8*time.Millisecond<<i, 64*time.Millisecond)
		require.GreaterOrEqual(t, end.retry, longest/2)
		require.LessOrEqual(t, end.retry, longest)
	}
	r := f.next()
	status := f.status("a")
	assert.Equal(t, StateRunning, status.State)
	assert.Equal(t, 6, status.Restarts)
	assert.Equal(t, "no route", status.LastError)
	assert.WithinDuration(t, time.Now(), status.LastErrorTime, time.Minute)
	assert.WithinDuration(t, time.Now(), status.RunningSince, time.Minute)
	assert.Zero(t, status.NextRetry)

	f.rotate(dp, "new") // which forgets the failures
	require.ErrorIs(t, r.cause(t), ErrCredentialsChanged)
	require.ErrorIs(t, mustReceive(t, ends).err, ErrCredentialsChanged)
	f.next().end <- failure
	assert.LessOrEqual(t, mustReceive(t, ends).retry, 8*time.Millisecond)

	r = f.next()
	f.source.Delete(dp.DeepCopy())
	require.ErrorIs(t, r.cause(t), helpers.ErrDeleted)
	require.ErrorIs(t, mustReceive(t, ends).err, helpers.ErrDeleted)
	require.Eventually(t, func() bool { return removed.Load() == 1 }, 10*time.Second, time.Millisecond)
	assert.EqualValues(t, 9, starts.Load())
}

func TestFleetForgetsFailuresAfterRunningWell(t *testing.T) {
	retries := make(chan time.Duration, 10)
	f := newFleetTest(t, false, WithBackoff(time.Microsecond, time.Hour, 0), WithHooks(Hooks{
		OnEnd: func(_ types.NamespacedName, _ error, _, retry time.Duration) { retries <- retry },
	}))
	f.add("a")
	for range 8 {
		f.next().end <- errors.New("again")
		require.LessOrEqual(t, mustReceive(t, retries), time.Microsecond)
	}
}

func TestFleetWaitsBetweenRetries(t *testing.T) {
	f := newFleetTest(t, false, WithBackoff(time.Hour, time.Hour, time.Hour))
	dp := f.add("a")
	f.next().end <- errors.New("down")
	f.requireState("a", StateRetrying)
	assert.WithinDuration(t, time.Now().Add(45*time.Minute), f.status("a").NextRetry, 16*time.Minute)
	f.requireNoRun()
	f.rotate(dp, "new")
	f.next() // at once
}

func TestFleetIsDoneWithARunThatReturnsNil(t *testing.T) {
	f := newFleetTest(t, false)
	dp := f.add("a")
	r := f.next()
	r.end <- nil
	f.requireState("a", StateDone)
	mustReceive(t, r.remote.Done())
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"x": "y"} })
	f.requireNoRun()
	f.rotate(dp, "new")
	f.next()
}

func TestFleetSurvivesPanics(t *testing.T) {
	boom := errors.New("boom")
	for name, test := range map[string]struct {
		do   func()
		want string
		is   error
	}{
		"a panic":             {func() { panic("boom") }, "run panicked: boom", nil},
		"a panic of an error": {func() { panic(boom) }, "run panicked: boom", boom},
		"the goroutine ends":  {runtime.Goexit, "run has ended its goroutine without returning", nil},
	} {
		t.Run(name, func(t *testing.T) {
			ends := make(chan error, 1)
			s, server := newSource(t), newAPIServer(t, whoAmI)
			fleet := New(s.informer, func(context.Context, *remote.Cluster) error { test.do(); return nil },
				WithBackoff(time.Hour, time.Hour, 0),
				WithHooks(Hooks{OnEnd: func(_ types.NamespacedName, err error, _, _ time.Duration) { ends <- err }}))
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			result := make(chan error, 1)
			go func() { result <- fleet.Run(ctx) }()
			s.Add(server.dataPlane("a", "user"))
			err := mustReceive(t, ends)
			require.EqualError(t, err, test.want)
			var panicked *PanicError
			if errors.As(err, &panicked) {
				assert.Contains(t, string(panicked.Stack), "fleet_test.go")
			}
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			stop()
			require.NoError(t, mustReceive(t, result))
		})
	}
}

func TestFleetDoesNotRetryCredentialsThatCannotBeUsed(t *testing.T) {
	ends := make(chan error, 10)
	f := newFleetTest(t, false, WithHooks(Hooks{
		OnEnd: func(_ types.NamespacedName, err error, _, _ time.Duration) { ends <- err },
	}))
	dp := f.add("a", func(dp *v1alpha1.DataPlane) { dp.Spec.KubernetesCluster.Credentials.ClientKey = "c2VjcmV0" })
	require.ErrorIs(t, mustReceive(t, ends), helpers.ErrInvalidCredentials)
	f.requireState("a", StateFailed)
	assert.Contains(t, f.status("a").LastError, "spec.kubernetesCluster.credentials.clientKey")
	assert.NotContains(t, f.status("a").LastError, "c2VjcmV0")
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"x": "y"} })
	f.requireNoRun()
	assert.Empty(t, ends)
	f.rotate(dp, "mended")
	f.next()
}

func TestFleetGivesUpARunThatDoesNotReturn(t *testing.T) {
	f := newFleetTest(t, true, WithStopGrace(100*time.Millisecond))
	dp := f.add("a")
	first := f.next()
	f.rotate(dp, "new")
	second := f.next()
	_, err := get(t, first.remote, "/")
	require.ErrorIs(t, err, remote.ErrClosed)
	status := f.status("a")
	assert.Equal(t, 1, status.Overdue)
	assert.Equal(t, "run did not return in time: credentials of the data plane have changed", status.LastError)
	first.end <- nil
	require.Eventually(t, func() bool { return f.status("a").Overdue == 0 }, 10*time.Second, time.Millisecond)
	second.requireGoesOn(t)

	f.source.Delete(dp.DeepCopy())
	require.ErrorIs(t, second.cause(t), helpers.ErrDeleted)
	f.requireState("a", StateGone)
	err = f.ended()
	require.ErrorIs(t, err, ErrOverdue)
	require.EqualError(t, err, "fleet: run did not return in time: default/a")
	second.end <- nil
}

func TestFleetFilters(t *testing.T) {
	selector, err := labels.Parse("tier=gold")
	require.NoError(t, err)
	gold := func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"tier": "gold"} }
	setConnected := func(status metav1.ConditionStatus) func(*v1alpha1.DataPlane) {
		return func(dp *v1alpha1.DataPlane) {
			gold(dp)
			dp.Status.Conditions = []metav1.Condition{condition(connected, status, dp.Generation)}
		}
	}
	f := newFleetTest(t, false, WithSelector(selector), OnlyConnected(),
		WithFilter(func(dp *v1alpha1.DataPlane, r helpers.Report) bool { return r.Name == dp.Name && dp.Name != "never" }))
	f.add("never", setConnected(metav1.ConditionTrue))
	f.add("silver", setConnected(metav1.ConditionTrue), func(dp *v1alpha1.DataPlane) { dp.Labels = nil })
	dp := f.add("a", gold)
	f.requireNoRun()
	assert.Empty(t, f.fleet.Status().Planes)

	dp = f.modify(dp, setConnected(metav1.ConditionTrue))
	r := f.next()
	dp = f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Generation++ }) // nobody has looked since
	r.requireGoesOn(t)
	dp = f.modify(dp, setConnected(metav1.ConditionFalse))
	require.ErrorIs(t, r.cause(t), ErrNotSelected)
	f.requireState("a", StateNotSelected)
	dp = f.modify(dp, setConnected(metav1.ConditionUnknown))
	f.requireNoRun()
	dp = f.modify(dp, setConnected(metav1.ConditionTrue))
	r = f.next()
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = nil })
	require.ErrorIs(t, r.cause(t), ErrNotSelected)
}

func TestFleetRemembersWhatIsDoneWhileNotSelected(t *testing.T) {
	f := newFleetTest(t, false, WithFilter(func(dp *v1alpha1.DataPlane, _ helpers.Report) bool { return dp.Labels == nil }))
	dp := f.add("a")
	f.next().end <- nil
	f.requireState("a", StateDone)
	dp = f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = map[string]string{"x": "y"} })
	f.requireState("a", StateNotSelected)
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.Labels = nil })
	f.requireState("a", StateDone)
	f.requireNoRun()
}

func TestFleetLimitsHowManyStartAtOnce(t *testing.T) {
	const limit, planes = 2, 6
	f := newFleetTest(t, false, WithStartLimit(limit, time.Hour))
	for i := range planes {
		f.add(fmt.Sprint("dp-", i))
	}
	running := []*run{f.next(), f.next()}
	f.requireNoRun()
	count := func(state State) (n int) {
		for _, plane := range f.fleet.Status().Planes {
			if plane.State == state {
				n++
			}
		}
		return n
	}
	assert.Equal(t, limit, count(StateRunning))
	assert.Equal(t, planes-limit, count(StateStarting))

	MarkStarted(running[0].ctx)
	MarkStarted(running[0].ctx) // a second time is nothing
	MarkStarted(t.Context())
	running = append(running, f.next())
	f.requireNoRun()
	running[1].end <- errors.New("could not start")
	running = append(running, f.next()) // its turn comes again after the others'
	f.requireNoRun()
	require.NoError(t, f.ended())
	require.ErrorIs(t, running[0].cause(t), ErrStopped)
}

// A cluster that does not answer keeps others from starting for no longer than allowed.
func TestFleetStartsOthersWhenOneIsDead(t *testing.T) {
	f := newFleetTest(t, false, WithStartLimit(1, 10*time.Millisecond))
	for i := range 5 {
		f.add(fmt.Sprint("dp-", i))
	}
	for range 5 {
		f.next()
	}
}

func TestFleetLeavesNothing(t *testing.T) {
	server, s := newAPIServer(t, whoAmI), newSource(t)
	before := runtime.NumGoroutine()
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Add(20)
	fleet := New(s.informer, func(ctx context.Context, r *remote.Cluster) error {
		_, err := get(t, r, "/")
		assert.NoError(t, err)
		all.Done()
		<-ctx.Done()
		return ctx.Err()
	})
	result := make(chan error, 1)
	go func() { result <- fleet.Run(ctx) }()
	for i := range 20 {
		s.Add(server.dataPlane(fmt.Sprint("dp-", i), "user"))
	}
	all.Wait()
	require.EqualError(t, fleet.Run(ctx), "fleet runs already")
	stop()
	require.NoError(t, mustReceive(t, result))
	server.requireNoConnections()
	requireGoroutines(t, before)

	all.Add(20) // it can be run again
	ctx, stop = context.WithCancel(t.Context())
	go func() { result <- fleet.Run(ctx) }()
	all.Wait()
	stop()
	require.NoError(t, mustReceive(t, result))
	requireGoroutines(t, before)
}

// An event may be under way while Run ends, and go on when the Fleet runs again.
func TestFleetIgnoresEventsOfAnEarlierRun(t *testing.T) {
	server, s := newAPIServer(t, whoAmI), newSource(t)
	filtering, filtered, began := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	fleet := New(s.informer, func(ctx context.Context, _ *remote.Cluster) error {
		began <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}, WithFilter(func(*v1alpha1.DataPlane, helpers.Report) bool {
		filtering <- struct{}{}
		<-filtered
		return true
	}))
	run := func() (end func()) {
		ctx, stop := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- fleet.Run(ctx) }()
		return func() {
			stop()
			require.NoError(t, mustReceive(t, result))
		}
	}
	end := run()
	s.Add(server.dataPlane("a", "user"))
	mustReceive(t, filtering)
	end()

	end = run()
	mustReceive(t, filtering)
	filtered <- struct{}{} // to one of the two
	select {
	case <-began: // to that of the second
	case <-time.After(50 * time.Millisecond):
	}
	filtered <- struct{}{}
	require.Eventually(t, func() bool {
		planes := fleet.Status().Planes
		return len(planes) == 1 && planes[0].State == StateRunning
	}, 10*time.Second, time.Millisecond)
	end()
}

// A cluster that accepts connections and says nothing costs others no more than it must.
func TestFleetOfAThousandOfWhichATenthIsDead(t *testing.T) {
	const planes = 1000
	server, s := newAPIServer(t, whoAmI, withECDSA(t)), newSource(t)
	deadURL, dead := newDeadServer(t)
	key := newECDSAKey(t)
	cert := server.clients.issue(key)
	for i := range planes {
		dp := server.dataPlaneWith(fmt.Sprint("dp-", i), cert, key)
		if i%10 == 0 {
			dp.Spec.KubernetesCluster.Credentials.APIServerURL = deadURL
		}
		s.Add(dp)
	}
	require.Eventually(t, func() bool { return len(s.informer.GetStore().ListKeys()) == planes }, time.Minute, time.Millisecond)
	before := runtime.NumGoroutine()
	var working atomic.Int64
	fleet := New(s.informer, func(ctx context.Context, r *remote.Cluster) error {
		if _, _, err := r.get(ctx, "/"); err != nil {
			return err
		}
		MarkStarted(ctx)
		working.Add(1)
		<-ctx.Done()
		return ctx.Err()
	}, WithStartLimit(50, 100*time.Millisecond))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	result := make(chan error, 1)
	go func() { result <- fleet.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); working.Load() < planes*9/10; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "%d work; %s", working.Load(), fleet.Status())
	}
	require.Equal(t, planes*9/10, server.open())
	stop()
	require.NoError(t, mustReceive(t, result))
	server.requireNoConnections()
	require.Positive(t, dead.accepted.Load())
	require.Eventually(t, func() bool { return dead.open.Load() == 0 }, 10*time.Second, time.Millisecond)
	requireGoroutines(t, before)
}

// deadServer counts the connections that it accepts, and says nothing.
type deadServer struct{ accepted, open atomic.Int64 }

func newDeadServer(t testing.TB) (url string, _ *deadServer) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &deadServer{}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.open.Add(1)
			go func() {
				_, _ = io.Copy(io.Discard, conn) // until the client closes it
				_ = conn.Close()
				s.open.Add(-1)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-stopped
	})
	return "https://" + listener.Addr().String(), s
}

func TestFleetOfAnInformerThatHasStopped(t *testing.T) {
	informer := cache.NewSharedIndexInformer(&cache.ListWatch{}, &v1alpha1.DataPlane{}, 0, cache.Indexers{})
	stopped := make(chan struct{})
	close(stopped)
	informer.Run(stopped)
	fleet := New(informer, func(context.Context, *remote.Cluster) error { return nil })
	for range 2 {
		require.ErrorContains(t, fleet.Run(t.Context()), "fleet: watch data planes: ")
	}
}

func TestFleetStatusForPeopleAndTools(t *testing.T) {
	now := time.Unix(1_700_000_000, 0).UTC()
	status := Status{Planes: []PlaneStatus{
		{Namespace: "default", Name: "a", UID: "uid-1", State: StateRunning, RunningSince: now.Add(-90 * time.Second)},
		{
			Namespace: "default", Name: "b", State: StateRetrying, Restarts: 3, LastError: "dial tcp:\nrefused",
			LastErrorTime: now.Add(-5 * time.Second), NextRetry: now.Add(8 * time.Second), Overdue: 1,
		},
		{Name: "c", State: StateDone},
	}}
	assert.Equal(t, "3 data planes, 1 Running, 1 Retrying, 1 Done", status.String())
	assert.Equal(t, ""+
		"NAMESPACE  NAME  STATE                 RUNNING  RESTARTS  RETRY IN  LAST ERROR\n"+
		"default    a     Running               90s      0         -         -\n"+
		"default    b     Retrying (1 overdue)  -        3         8s        dial tcp: refused (5s ago)\n"+
		"-          c     Done                  -        0         -         -\n", status.Table(now))
	data, err := json.Marshal(status)
	require.NoError(t, err)
	assert.JSONEq(t, `{"planes": [
		{"namespace": "default", "name": "a", "uid": "uid-1", "state": "Running", "runningSince": "2023-11-14T22:11:50Z", "restarts": 0},
		{"namespace": "default", "name": "b", "state": "Retrying", "restarts": 3, "lastError": "dial tcp:\nrefused",
			"lastErrorTime": "2023-11-14T22:13:15Z", "nextRetry": "2023-11-14T22:13:28Z", "overdue": 1},
		{"name": "c", "state": "Done", "restarts": 0}
	]}`, string(data))
	assert.Equal(t, "0 data planes", Status{}.String())
}

// A run may run a Fleet of its own, whose error is that of any run.
func TestFleetRetriesOverdueOfAnother(t *testing.T) {
	f := newFleetTest(t, false, WithBackoff(time.Hour, time.Hour, time.Hour))
	f.add("a")
	f.next().end <- fmt.Errorf("inner: %w", ErrOverdue)
	f.requireState("a", StateRetrying)
	f.requireNoRun()
}

func TestFleetTellsOfAPanicAfterTheEnd(t *testing.T) {
	ends := make(chan error, 10)
	s, server := newSource(t), newAPIServer(t, whoAmI)
	fleet := New(s.informer, func(ctx context.Context, _ *remote.Cluster) error { <-ctx.Done(); panic("too late") },
		WithHooks(Hooks{OnEnd: func(_ types.NamespacedName, err error, _, _ time.Duration) { ends <- err }}))
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- fleet.Run(ctx) }()
	s.Add(server.dataPlane("a", "user"))
	require.Eventually(t, func() bool { return len(fleet.Status().Planes) == 1 && fleet.Status().Planes[0].State == StateRunning },
		10*time.Second, time.Millisecond)
	stop()
	require.NoError(t, mustReceive(t, result))
	err := mustReceive(t, ends)
	require.ErrorIs(t, err, ErrStopped)
	require.ErrorContains(t, err, "run panicked: too late")
	assert.Equal(t, "run panicked: too late", fleet.Status().Planes[0].LastError)
}

// Another object of the name is not connected because the one before was.
func TestFleetOnlyConnectedAsksEveryObject(t *testing.T) {
	f := newFleetTest(t, false, OnlyConnected())
	dp := f.add("a", func(dp *v1alpha1.DataPlane) {
		dp.Status.Conditions = []metav1.Condition{condition(connected, metav1.ConditionTrue, 1)}
	})
	r := f.next()
	f.modify(dp, func(dp *v1alpha1.DataPlane) { dp.UID, dp.Status.Conditions = "uid-2", nil })
	require.ErrorIs(t, r.cause(t), helpers.ErrReplaced)
	f.requireNoRun()
}

func TestFleetCountsRunningWellFromTheStart(t *testing.T) {
	t.Parallel()
	retries := make(chan time.Duration, 10)
	const initial, resetAfter = 20 * time.Millisecond, 2 * time.Second
	f := newFleetTest(t, false, WithBackoff(initial, time.Hour, resetAfter), WithHooks(Hooks{
		OnEnd: func(_ types.NamespacedName, _ error, _, retry time.Duration) { retries <- retry },
	}))
	f.add("a")
	f.next().end <- errors.New("first")
	mustReceive(t, retries)
	r := f.next()
	time.Sleep(resetAfter)
	MarkStarted(r.ctx)
	r.end <- errors.New("second, though after long")
	require.GreaterOrEqual(t, mustReceive(t, retries), initial)
	r = f.next()
	MarkStarted(r.ctx)
	time.Sleep(resetAfter)
	r.end <- errors.New("first, after running well")
	require.LessOrEqual(t, mustReceive(t, retries), initial)
}

func TestFleetAsksUsersWithoutItsLock(t *testing.T) {
	var fleet *Fleet
	s, server := newSource(t), newAPIServer(t, whoAmI)
	began := make(chan struct{}, 10)
	fleet = New(s.informer, func(ctx context.Context, _ *remote.Cluster) error { began <- struct{}{}; <-ctx.Done(); return nil },
		WithFilter(func(*v1alpha1.DataPlane, helpers.Report) bool { fleet.Status(); return true }),
		WithRestartOn(func(_, _ *v1alpha1.DataPlane) bool { return false }),
		WithRestartOn(func(_, _ *v1alpha1.DataPlane) bool { fleet.Status(); return true }))
	ctx, stop := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- fleet.Run(ctx) }()
	dp := server.dataPlane("a", "user")
	s.Add(dp.DeepCopy())
	mustReceive(t, began)
	dp.Labels = map[string]string{"x": "y"}
	s.Modify(dp.DeepCopy())
	mustReceive(t, began)
	stop()
	require.NoError(t, mustReceive(t, result))
}
