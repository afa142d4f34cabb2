// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

var (
	fleetDuration = flag.Duration("fleet.duration", 40*time.Second, "how long everything changes in TestFleetUnderChaos")
	fleetSeed     = flag.Uint64("fleet.seed", 0, "where TestFleetUnderChaos draws its changes from; 0 is another each time")
)

// Data planes come, go and change at random, and API servers are killed, while a Fleet
// holds a watch in each data plane. No two runs can ever reach one data plane at once;
// when all is quiet again, each has one that works; and the Fleet leaves nothing.
func TestFleetUnderChaos(t *testing.T) {
	t.Parallel()
	c := newChaos(t)
	before := c.watches()
	stop := c.start()

	c.rage()
	calm := c.awaitCalm()
	c.requireLabelsToChangeNothing(calm)
	for i, target := range c.targets {
		want := before[i]
		for _, run := range calm {
			if run.server == target.URL() {
				want++
			}
		}
		require.Eventually(t, func() bool { return c.watches()[i] == want }, eventually, 10*tick, "%s has other watches than those of %d runs",
			target.URL(), want-before[i])
	}
	require.NotEmpty(t, c.goroutines())
	require.GreaterOrEqual(t, c.sockets.open(), len(calm))

	require.NoError(t, stop(), "no run was given up")
	for _, plane := range c.fleet.Status().Planes {
		assert.Equal(t, fleet.StateStopped, plane.State, "%s", plane.Name)
	}
	require.Eventually(t, func() bool { return c.sockets.open() == 0 }, eventually, tick, "sockets are left")
	require.Eventually(t, func() bool { return assert.ObjectsAreEqual(before, c.watches()) }, eventually, 10*tick, "watches are left")
	for deadline := time.Now().Add(eventually); c.goroutines() != ""; time.Sleep(tick) {
		require.True(t, time.Now().Before(deadline), "goroutines are left:\n%s", c.goroutines())
	}
	c.checks.Wait()
	c.requireCauses()
}

// fleetRuns keeps account of the runs of a Fleet, or of several that share data planes.
type fleetRuns struct {
	t    *testing.T
	mu   sync.Mutex
	all  []*fleetRun
	over map[types.UID]bool // no run may begin for these
}

type fleetRun struct {
	number              int // from 1
	key                 types.NamespacedName
	uid                 types.UID
	fingerprint, server string
	replica             string
	cluster             *remote.Cluster
	heard, ended        bool  // with the lock
	cause               error // of its end
}

// cut says that the run can't reach its data plane, whether it has returned or not.
func (r *fleetRun) cut() bool {
	select {
	case <-r.cluster.Done():
		return true
	default:
		return false
	}
}

func (l *fleetRuns) begin(run *fleetRun) *fleetRun {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.all {
		if other.key != run.key {
			continue
		}
		if !other.cut() {
			assert.Fail(l.t, "two runs can work at once", "%s: runs %d and %d, %q and %q",
				run.key, other.number, len(l.all)+1, other.replica, run.replica)
		}
		if other.uid != run.uid {
			l.over[other.uid] = true
		}
	}
	assert.False(l.t, l.over[run.uid], "a run began for a data plane that was no more: %s", run.key)
	l.all = append(l.all, run)
	run.number = len(l.all)
	return run
}

func (l *fleetRuns) end(run *fleetRun, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	run.ended, run.cause = true, cause
}

// remove is for when the data plane of a name is gone.
func (l *fleetRuns) remove(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, run := range l.all {
		if run.key == key {
			assert.True(l.t, run.cut(), "run %d for %s outlasts it", run.number, key)
			l.over[run.uid] = true
		}
	}
}

// current returns the runs that have not ended, one for each data plane.
func (l *fleetRuns) current() map[types.NamespacedName]*fleetRun {
	l.mu.Lock()
	defer l.mu.Unlock()
	current := map[types.NamespacedName]*fleetRun{}
	for _, run := range l.all {
		if !run.ended && !run.cut() {
			current[run.key] = run
		}
	}
	return current
}

// sockets are those that a program has made.
type sockets struct {
	mu   sync.Mutex
	made []syscall.RawConn
}

// control is for remote.Options.DialControl.
func (s *sockets) control(_ context.Context, _, _ string, conn syscall.RawConn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = append(s.made, conn)
	return nil
}

// open counts those that are not closed, which is what Control fails for.
func (s *sockets) open() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.made {
		if conn.Control(func(uintptr) {}) == nil {
			n++
		}
	}
	return n
}

// chaos is a Fleet, and what happens to it. What follows planes belongs to the test's
// goroutine.
type chaos struct {
	*fleetRuns
	space    *space
	targets  []*controlplane.ControlPlane
	admins   []kubernetes.Interface // of the targets
	informer cache.SharedIndexInformer
	fleet    *fleet.Fleet
	sockets  sockets
	raging   atomic.Bool
	checks   sync.WaitGroup

	planes map[string]*chaosPlane
	names  [chaosPlanes]string // of those that there are, and of some that were deleted
	added  int
	stored map[types.UID]map[string]bool // fingerprints that a data plane has had
	random *rand.Rand
	users  int
	events map[string]int
}

type chaosPlane struct {
	*openchoreov1alpha1.DataPlane
	broken bool
}

const (
	chaosTargets = 3
	chaosPlanes  = 15
	// chaosGrace is more than a run takes to return that wants to, on any machine.
	chaosGrace = 5 * time.Second
)

func newChaos(t *testing.T) *chaos {
	t.Helper()
	seed := *fleetSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-fleet.duration=%s -fleet.seed=%d", *fleetDuration, seed)
	c := &chaos{
		fleetRuns: &fleetRuns{t: t, over: map[types.UID]bool{}},
		targets:   make([]*controlplane.ControlPlane, chaosTargets),
		planes:    map[string]*chaosPlane{}, stored: map[types.UID]map[string]bool{}, events: map[string]int{},
		random: rand.New(rand.NewPCG(seed, 0)),
	}
	errs := make([]error, len(c.targets))
	var starting sync.WaitGroup
	for i := range c.targets {
		starting.Go(func() {
			c.targets[i], errs[i] = controlplane.Start(t.Context(), controlplane.WithName(fmt.Sprintf("target %d of %s", i, t.Name())))
		})
	}
	t.Cleanup(func() {
		starting.Wait()
		for _, target := range c.targets {
			if target != nil {
				assert.NoError(t, target.Stop())
			}
		}
	})
	c.space = ownPlane(t, crds.DataPlane()).space(t)
	starting.Wait()
	require.NoError(t, errors.Join(errs...))
	for _, target := range c.targets {
		admin, err := kubernetes.NewForConfig(target.Config())
		require.NoError(t, err)
		c.admins = append(c.admins, admin)
	}
	c.fleet, c.informer = c.newFleet()
	return c
}

func (c *chaos) newFleet() (*fleet.Fleet, cache.SharedIndexInformer) {
	informer := c.space.informer(c.t)
	f := fleet.New(informer, c.run, fleet.Options{
		Remote:       remote.Options{DialControl: c.sockets.control},
		Backoff:      fleet.Backoff{Initial: 50 * time.Millisecond, Limit: time.Second, ResetAfter: 10 * time.Second},
		StopGrace:    chaosGrace,
		StartLimit:   chaosPlanes / 2,
		StartTimeout: time.Second,
		Hooks:        fleet.Hooks{OnRemove: c.remove},
	})
	ended := func(uid types.UID) {
		c.checks.Go(func() {
			assert.Eventually(c.t, func() bool { return c.allCut(uid) }, chaosGrace+eventually, tick, "a run goes on for a data plane that is no more")
		})
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(before, after any) {
			if uid := before.(*openchoreov1alpha1.DataPlane).UID; uid != after.(*openchoreov1alpha1.DataPlane).UID {
				ended(uid)
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			ended(obj.(*openchoreov1alpha1.DataPlane).UID)
		},
	})
	require.NoError(c.t, err)
	return f, informer
}

// informer returns one of the DataPlanes of the namespace, which has synced and runs until
// the test ends.
func (s *space) informer(t *testing.T) cache.SharedIndexInformer {
	t.Helper()
	factory := openchoreoinformers.NewSharedInformerFactoryWithOptions(s.openchoreo, 0,
		openchoreoinformers.WithNamespace(s.namespace), openchoreoinformers.WithTransform(informer.StripManagedFields))
	informer := factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	require.True(t, cache.WaitForCacheSync(t.Context().Done(), informer.HasSynced))
	return informer
}

// start runs the Fleet. stop ends it.
func (c *chaos) start() (stop func() error) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var err error
	ended := make(chan struct{})
	go pprof.Do(ctx, pprof.Labels("fleet", c.space.namespace), func(ctx context.Context) {
		defer close(ended)
		err = c.fleet.Run(ctx)
	})
	stop = func() error {
		cancel()
		select {
		case <-ended:
			return err
		case <-time.After(eventually):
			return errors.New("the fleet does not end")
		}
	}
	c.t.Cleanup(func() { assert.NoError(c.t, stop()) })
	return stop
}

// goroutines returns a profile, if one of the Fleet's goroutines is in it.
func (c *chaos) goroutines() string {
	var profile strings.Builder
	require.NoError(c.t, pprof.Lookup("goroutine").WriteTo(&profile, 1))
	if !strings.Contains(profile.String(), c.space.namespace) {
		return ""
	}
	return profile.String()
}

func (c *chaos) allCut(uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, run := range c.all {
		if run.uid == uid && !run.cut() {
			return false
		}
	}
	return true
}

// run is the Fleet's function.
func (c *chaos) run(ctx context.Context, r *remote.Cluster) error {
	config := r.Config()
	var same openchoreov1alpha1.DataPlane
	same.Spec.KubernetesCluster.Credentials = openchoreov1alpha1.APIServerCredentials{
		APIServerURL: config.Host,
		CACert:       base64.StdEncoding.EncodeToString(config.CAData),
		ClientCert:   base64.StdEncoding.EncodeToString(config.CertData),
		ClientKey:    base64.StdEncoding.EncodeToString(config.KeyData),
	}
	run := &fleetRun{key: r.Key(), fingerprint: helpers.Fingerprint(&same), server: config.Host, cluster: r}
	for _, plane := range c.fleet.Status().Planes {
		if plane.Name == run.key.Name {
			run.uid = plane.UID
		}
	}
	c.begin(run)
	defer func() { c.end(run, context.Cause(ctx)) }()
	client, err := kubernetes.NewForConfigAndClient(config, r.HTTPClient())
	if err != nil {
		return err
	}
	err = c.follow(ctx, client, run)
	if ctx.Err() != nil && c.raging.Load() && run.number%8 == 0 { // it does not return in time
		<-r.Done()
		_, listErr := client.CoreV1().ConfigMaps(metav1.NamespaceAll).List(context.WithoutCancel(ctx), metav1.ListOptions{})
		assert.ErrorIs(c.t, listErr, remote.ErrClosed)
	}
	return err
}

// follow watches the config maps of the target until ctx or the watch ends.
func (c *chaos) follow(ctx context.Context, client kubernetes.Interface, run *fleetRun) error {
	configMaps := client.CoreV1().ConfigMaps(metav1.NamespaceAll)
	list, err := configMaps.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	fleet.MarkStarted(ctx)
	watcher, err := configMaps.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event, open := <-watcher.ResultChan():
			switch {
			case !open:
				return errors.New("the watch has ended")
			case event.Type == watch.Error:
				return apierrors.FromObject(event.Object)
			}
			if configMap, ok := event.Object.(*corev1.ConfigMap); ok && configMap.GenerateName == proof {
				assert.Equal(c.t, run.server, configMap.Data["server"])
				c.mu.Lock()
				run.heard = true
				c.mu.Unlock()
			}
		}
	}
}

// proof begins the names of what is written to see whether watches work.
const proof = "proof-"

// rage lets everything change for as long as the flag says. All API servers run in the end.
func (c *chaos) rage() {
	ctx, stop := context.WithCancel(c.t.Context())
	var killing sync.WaitGroup
	var kills, stops int
	random := rand.New(rand.NewPCG(c.random.Uint64(), 0))
	killing.Go(func() { kills, stops = c.killTargets(ctx, random) })
	defer killing.Wait()
	defer stop()
	c.raging.Store(true)
	begun, killed := time.Now(), false
	for time.Since(begun) < *fleetDuration {
		// Nothing is under way in the management cluster then, so that what is stored
		// there is certain.
		if !killed && time.Since(begun) > *fleetDuration/3 {
			killed = true
			require.NoError(c.t, c.space.KillAPIServer())
			pause(ctx, c.random, 2*time.Second)
			require.NoError(c.t, c.space.StartAPIServer(c.t.Context()))
		}
		c.change()
		pause(ctx, c.random, 150*time.Millisecond)
	}
	c.raging.Store(false)
	stop()
	killing.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.Logf("%d runs; data planes: %v; API servers: %d killed and %d stopped of the targets, 1 killed of management",
		len(c.all), c.events, kills, stops)
}

// pause lasts for as long as limit.
func pause(ctx context.Context, random *rand.Rand, limit time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(random.Int64N(int64(limit)))):
	}
}

func (c *chaos) killTargets(ctx context.Context, random *rand.Rand) (kills, stops int) {
	for ctx.Err() == nil {
		target := c.targets[random.IntN(len(c.targets))]
		if random.IntN(3) > 0 {
			kills++
			assert.NoError(c.t, target.KillAPIServer())
		} else {
			stops++
			assert.NoError(c.t, target.StopAPIServer())
		}
		pause(ctx, random, 3*time.Second)
		assert.NoError(c.t, target.StartAPIServer(c.t.Context()))
		pause(ctx, random, 3*time.Second)
	}
	return kills, stops
}

// change does something to a data plane.
func (c *chaos) change() {
	name := &c.names[c.random.IntN(chaosPlanes)]
	plane := c.planes[*name]
	if plane == nil {
		c.added++
		*name = fmt.Sprint("dp-", c.added) // what is deleted stays so
		dp := newDataPlane(*name)
		dp.Spec.KubernetesCluster.Credentials = c.credentials()
		c.store("added", c.space.create(c.t, dp), false)
		return
	}
	dp := plane.DeepCopy()
	switch n := c.random.IntN(20); {
	case n < 3:
		c.delete(*name)
		c.events["deleted"]++
	case n < 7:
		c.delete(*name)
		if c.random.IntN(2) == 0 {
			pause(c.t.Context(), c.random, time.Second)
		}
		again := newDataPlane(*name)
		again.Spec = dp.Spec
		if !plane.broken && c.random.IntN(2) == 0 {
			again.Spec.KubernetesCluster.Credentials = c.credentials()
		}
		c.store("recreated", c.space.create(c.t, again), plane.broken)
	case n < 10:
		dp.Labels = map[string]string{"example.com/n": strconv.Itoa(c.random.Int())}
		c.store("labelled", c.update(dp), plane.broken)
	case n < 14 && !plane.broken:
		c.breakCredentials(&dp.Spec.KubernetesCluster.Credentials)
		c.store("broken", c.update(dp), true)
	case plane.broken:
		dp.Spec.KubernetesCluster.Credentials = c.credentials()
		c.store("mended", c.update(dp), false)
	default:
		dp.Spec.KubernetesCluster.Credentials = c.credentials()
		c.store("rotated", c.update(dp), false)
	}
}

func (c *chaos) store(event string, dp *openchoreov1alpha1.DataPlane, broken bool) {
	c.events[event]++
	c.planes[dp.Name] = &chaosPlane{dp, broken}
	if c.stored[dp.UID] == nil {
		c.stored[dp.UID] = map[string]bool{}
	}
	if !broken {
		c.stored[dp.UID][helpers.Fingerprint(dp)] = true
	}
}

func (c *chaos) update(dp *openchoreov1alpha1.DataPlane) *openchoreov1alpha1.DataPlane {
	c.t.Helper()
	updated, err := c.space.typed.Update(c.t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(c.t, err)
	return updated
}

func (c *chaos) delete(name string) {
	c.t.Helper()
	require.NoError(c.t, c.space.typed.Delete(c.t.Context(), name, metav1.DeleteOptions{}))
	delete(c.planes, name)
}

// credentials returns those of a new user of one of the targets.
func (c *chaos) credentials() openchoreov1alpha1.APIServerCredentials {
	c.t.Helper()
	c.users++
	user, err := c.targets[c.random.IntN(len(c.targets))].AddUser(fmt.Sprint("user-", c.users), "system:masters")
	require.NoError(c.t, err)
	return credentialsOf(user)
}

func (c *chaos) breakCredentials(creds *openchoreov1alpha1.APIServerCredentials) {
	switch c.random.IntN(3) {
	case 0:
		creds.ClientKey = c.credentials().ClientKey
	case 1:
		creds.CACert = "no base64"
	default:
		creds.APIServerURL = strings.Replace(creds.APIServerURL, "https:", "http:", 1)
	}
}

// awaitCalm waits until there is one run for each data plane that can have one, for the
// object as it is stored, with a watch that works, and returns these.
func (c *chaos) awaitCalm() (calm map[types.NamespacedName]*fleetRun) {
	c.t.Helper()
	list, err := c.space.typed.List(c.t.Context(), metav1.ListOptions{})
	require.NoError(c.t, err)
	require.Len(c.t, list.Items, len(c.planes))
	require.EventuallyWithT(c.t, func(collect *assert.CollectT) {
		c.prove(collect)
		calm = c.current()
		states := map[string]fleet.PlaneStatus{}
		for _, plane := range c.fleet.Status().Planes {
			states[plane.Name] = plane
		}
		require.Len(collect, states, len(list.Items))
		runs := 0
		for i := range list.Items {
			dp := &list.Items[i]
			status := states[dp.Name]
			require.Equal(collect, dp.UID, status.UID)
			require.Zero(collect, status.Overdue)
			// A failure must not print a run, which may be changing.
			run, has := calm[types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name}]
			if c.planes[dp.Name].broken {
				require.False(collect, has, "%s has a run", dp.Name)
				require.Equal(collect, fleet.StateFailed, status.State)
				require.Contains(collect, status.LastError, "spec.kubernetesCluster.credentials")
				continue
			}
			runs++
			require.True(collect, has, "%s has no run", dp.Name)
			require.Equal(collect, fleet.StateRunning, status.State)
			require.Equal(collect, dp.UID, run.uid)
			require.Equal(collect, helpers.Fingerprint(dp), run.fingerprint)
			require.True(collect, c.hasHeard(run), "the watch of run %d, for %s, is silent", run.number, dp.Name)
		}
		require.Len(collect, calm, runs, "there are runs for other data planes")
	}, eventually, 10*tick)
	c.t.Log(c.fleet.Status())
	return calm
}

// prove writes what every watch should tell.
func (c *chaos) prove(t require.TestingT) {
	for i, admin := range c.admins {
		_, err := admin.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(c.t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{GenerateName: proof}, Data: map[string]string{"server": c.targets[i].URL()},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
}

func (c *chaos) hasHeard(run *fleetRun) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return run.heard
}

// requireLabelsToChangeNothing labels all data planes, after which the same runs still work.
func (c *chaos) requireLabelsToChangeNothing(calm map[types.NamespacedName]*fleetRun) {
	c.t.Helper()
	for _, plane := range c.planes {
		dp := plane.DeepCopy()
		dp.Labels = map[string]string{"example.com/last": "true"}
		c.update(dp)
	}
	require.Eventually(c.t, func() bool {
		for _, obj := range c.informer.GetStore().List() {
			if obj.(*openchoreov1alpha1.DataPlane).Labels["example.com/last"] == "" {
				return false
			}
		}
		return true
	}, eventually, tick)
	c.mu.Lock()
	for _, run := range calm {
		run.heard = false
	}
	c.mu.Unlock()
	c.prove(c.t)
	require.Eventually(c.t, func() bool {
		for _, run := range calm {
			if !c.hasHeard(run) {
				return false
			}
		}
		return true
	}, eventually, tick, "a label has ended a watch")
	current := c.current()
	require.Len(c.t, current, len(calm))
	for key, run := range calm {
		same := run == current[key] // and not printed
		require.True(c.t, same, "%s has another run", key)
	}
}

// watches returns how many watches of all config maps each target serves.
func (c *chaos) watches() []int {
	c.t.Helper()
	counts := make([]int, len(c.admins))
	for i, admin := range c.admins {
		counts[i] = watchesOfConfigMaps(c.t, admin.CoreV1().RESTClient())
	}
	return counts
}

func watchesOfConfigMaps(t *testing.T, client rest.Interface) (n int) {
	t.Helper()
	metrics, err := client.Get().AbsPath("/metrics").DoRaw(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(metrics), "\napiserver_longrunning_requests{")
	for line := range strings.Lines(string(metrics)) {
		if !strings.HasPrefix(line, "apiserver_longrunning_requests{") || !strings.Contains(line, `resource="configmaps"`) ||
			!strings.Contains(line, `scope="cluster"`) || !strings.Contains(line, `verb="WATCH"`) {
			continue
		}
		fields := strings.Fields(line)
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		require.NoError(t, err)
		n += int(value)
	}
	return n
}

// requireCauses checks how all runs have come and gone.
func (c *chaos) requireCauses() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	causes := map[string]int{}
	count := func(cause error) string {
		for _, known := range []error{
			helpers.ErrDeleted, helpers.ErrReplaced, fleet.ErrCredentialsChanged, fleet.ErrStopped,
		} {
			if errors.Is(cause, known) {
				return known.Error()
			}
		}
		return "own error"
	}
	for _, run := range c.all {
		assert.True(c.t, run.ended, "run %d has not ended", run.number)
		assert.True(c.t, c.stored[run.uid][run.fingerprint], "run %d, for %s, has credentials that this object never had", run.number, run.key)
		cause := count(run.cause)
		assert.Equal(c.t, run.cause == nil, cause == "own error", "run %d has ended by %v", run.number, run.cause)
		causes[cause]++
	}
	c.t.Logf("runs ended by: %v", causes)
	assert.LessOrEqual(c.t, causes[fleet.ErrCredentialsChanged.Error()], c.events["rotated"]+c.events["broken"]+c.events["mended"])
	assert.LessOrEqual(c.t, causes[helpers.ErrDeleted.Error()]+causes[helpers.ErrReplaced.Error()], c.events["deleted"]+c.events["recreated"])
}
