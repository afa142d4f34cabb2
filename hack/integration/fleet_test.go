// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
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
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/informer"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

var fleetDuration = flag.Duration("fleet.duration", 10*time.Second, "how long everything changes in TestFleetUnderChaos")

// Data planes come, go, move and are rotated at random, and their API servers and etcds are
// killed, while a Fleet watches and sends requests in each. Runs continue through rotations, and use
// the newest credentials. When the chaos ends, each data plane has one run, which works. The Fleet
// leaves no sockets and no goroutines.
func TestFleetUnderChaos(t *testing.T) {
	t.Parallel()
	skipIfShort(t)
	c := newChaos(t)
	stop := c.start()
	c.rage()
	c.requireCalm()
	require.NotEmpty(t, c.goroutines())
	require.NotZero(t, c.sockets.open())

	require.NoError(t, stop(), "no run was abandoned")
	for _, plane := range c.fleet.Status().Planes {
		assert.Equal(t, fleet.StateStopped, plane.State, "%s", plane.Name)
	}
	require.Eventually(t, func() bool { return c.sockets.open() == 0 }, eventually, tick, "sockets are left")
	for deadline := time.Now().Add(eventually); c.goroutines() != ""; time.Sleep(tick) {
		require.True(t, time.Now().Before(deadline), "goroutines are left:\n%s", c.goroutines())
	}
	c.requireHistory()
}

const (
	chaosTargets = 3
	chaosPlanes  = 15
	// soon is longer than any immediate reaction takes, on any machine.
	soon = 5 * time.Second

	userAnnotation  = "example.com/user"  // the user of the credentials; "" if they can't be used
	tokenAnnotation = "example.com/token" // takes the place of the client certificate
)

// chaos is a Fleet, and the changes around it. The fields from planes on belong to the test's
// goroutine.
type chaos struct {
	t         *testing.T
	space     *space
	targets   []*controlplane.ControlPlane
	admins    []kubernetes.Interface // of the targets
	fleet     *fleet.Fleet
	sockets   sockets
	raging    atomic.Bool
	rotations atomic.Int64 // that the Fleet has reported
	ends      atomic.Int64 // of the targets' processes

	mu      sync.Mutex
	runs    []*chaosRun
	objects map[types.UID]*chaosObject

	planes map[string]*openchoreov1alpha1.DataPlane // as they are stored
	names  [chaosPlanes]string                      // of existing data planes, and of some deleted ones
	users  int
	events map[string]int
}

type chaosRun struct {
	number       int // from 1
	key          types.NamespacedName
	uid          types.UID
	cluster      *remote.Cluster
	began, ended time.Time
	cause        error                // of the end
	answered     map[string]time.Time // by user: when the last answered request began
	proven       bool                 // its watch has seen the proof
}

// chaosObject is the history of a stored DataPlane.
type chaosObject struct {
	users []chaosUser // in this order
	gone  time.Time
}

type chaosUser struct {
	name  string
	since time.Time
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	c := &chaos{
		t: t, space: shared.space(t), targets: make([]*controlplane.ControlPlane, chaosTargets), objects: map[types.UID]*chaosObject{},
		planes: map[string]*openchoreov1alpha1.DataPlane{}, events: map[string]int{},
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
	starting.Wait()
	require.NoError(t, errors.Join(errs...))
	for _, target := range c.targets {
		admin, err := kubernetes.NewForConfig(target.Config())
		require.NoError(t, err)
		_, err = admin.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "accounts"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts"}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		c.admins = append(c.admins, admin)
	}
	c.fleet = fleet.New(c.run, fleet.Options{
		Remote:       remote.Options{ConfigFor: configFor, DialControl: c.sockets.control},
		Backoff:      fleet.Backoff{Initial: 50 * time.Millisecond, Limit: time.Second},
		StopGrace:    soon,
		StartLimit:   chaosPlanes / 2,
		StartTimeout: time.Second,
		Hooks: fleet.Hooks{OnRotate: func(_ types.NamespacedName, err error) {
			if err == nil {
				c.rotations.Add(1)
			}
		}},
	}, c.space.informer(t))
	return c
}

// configFor uses the token of an annotation.
func configFor(dp *openchoreov1alpha1.DataPlane) (*rest.Config, error) {
	config, err := helpers.RESTConfigFor(dp)
	if token := dp.Annotations[tokenAnnotation]; err == nil && token != "" {
		config.CertData, config.KeyData, config.BearerToken = nil, nil, token
	}
	return config, err
}

// informer returns a synced informer of the namespace's DataPlanes, which runs until the test ends.
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

// see records a stored DataPlane.
func (c *chaos) see(dp *openchoreov1alpha1.DataPlane) {
	c.planes[dp.Name] = dp
	c.mu.Lock()
	defer c.mu.Unlock()
	object := c.objects[dp.UID]
	if object == nil {
		object = &chaosObject{}
		c.objects[dp.UID] = object
	}
	user := dp.Annotations[userAnnotation]
	if n := len(object.users); n == 0 || object.users[n-1].name != user {
		object.users = append(object.users, chaosUser{user, time.Now()})
	}
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

// goroutines returns a profile of all goroutines if the Fleet has any, or "".
func (c *chaos) goroutines() string {
	var profile strings.Builder
	require.NoError(c.t, pprof.Lookup("goroutine").WriteTo(&profile, 1))
	if !strings.Contains(profile.String(), c.space.namespace) {
		return ""
	}
	return profile.String()
}

// sockets are the sockets that a program has opened.
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

// open returns how many aren't closed: Control fails on a closed socket.
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

// run is the Fleet's function. It sends requests and watches until its context ends. During the chaos,
// some runs don't return then.
func (c *chaos) run(ctx context.Context, cluster *remote.Cluster) error {
	run := c.begin(cluster)
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		run.ended, run.cause = time.Now(), context.Cause(ctx)
	}()
	client, err := newClient(cluster)
	if err != nil {
		return err
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { c.watch(ctx, client, run) })
	for ; ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
		began := time.Now()
		if name, err := whoAmI(ctx, client); err == nil {
			fleet.MarkStarted(ctx)
			c.mu.Lock()
			run.answered[name] = began
			c.mu.Unlock()
		}
	}
	if c.raging.Load() && run.number%8 == 0 {
		<-cluster.Done()
		_, err := whoAmI(context.WithoutCancel(ctx), client)
		assert.ErrorIs(c.t, err, remote.ErrClosed)
	}
	return ctx.Err()
}

func (c *chaos) begin(cluster *remote.Cluster) *chaosRun {
	run := &chaosRun{key: cluster.Key(), cluster: cluster, began: time.Now(), answered: map[string]time.Time{}}
	for _, plane := range c.fleet.Status().Planes {
		if plane.Name == run.key.Name {
			run.uid = plane.UID
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.current(run.key); other != nil {
		assert.Fail(c.t, "two runs can work at once", "%s: runs %d and %d", run.key, other.number, len(c.runs)+1)
	}
	c.runs = append(c.runs, run)
	run.number = len(c.runs)
	return run
}

// current returns the run that can reach a data plane, or nil. The caller holds the lock.
func (c *chaos) current(key types.NamespacedName) *chaosRun {
	for _, run := range c.runs {
		if run.key == key && run.ended.IsZero() {
			select {
			case <-run.cluster.Done():
			default:
				return run
			}
		}
	}
	return nil
}

// proof is the name of a ConfigMap that shows whether watches work.
const proof = "proof"

func (c *chaos) watch(ctx context.Context, client kubernetes.Interface, run *chaosRun) {
	for ; ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
		watcher, err := client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{})
		if err != nil {
			continue
		}
		for event := range watcher.ResultChan() {
			if configMap, ok := event.Object.(*corev1.ConfigMap); ok && configMap.Name == proof {
				c.mu.Lock()
				run.proven = true
				c.mu.Unlock()
			}
		}
		watcher.Stop()
	}
}

// pause sleeps for a random time.
func pause(ctx context.Context, limit time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(limit)):
	}
}

// rage changes everything for the time in the flag. In the end, all targets run.
func (c *chaos) rage() {
	ctx, stop := context.WithTimeout(c.t.Context(), *fleetDuration)
	defer stop()
	var ending sync.WaitGroup
	defer ending.Wait()
	ending.Go(func() {
		for ; ctx.Err() == nil; pause(ctx, 3*time.Second) {
			c.endTarget(ctx)
		}
	})
	c.raging.Store(true)
	defer c.raging.Store(false)
	for ; ctx.Err() == nil; pause(ctx, 150*time.Millisecond) {
		c.change()
	}
}

// endTarget ends a process of a target, and starts it again.
func (c *chaos) endTarget(ctx context.Context) {
	target := c.targets[rand.IntN(len(c.targets))]
	end := []func() error{target.APIServer.Kill, target.APIServer.Stop, target.Etcd.Kill, target.Etcd.Kill}[rand.IntN(4)]
	assert.NoError(c.t, end())
	pause(ctx, 3*time.Second)
	assert.NoError(c.t, target.Etcd.Start(c.t.Context()))
	assert.NoError(c.t, target.APIServer.Start(c.t.Context()))
	c.ends.Add(1)
}

// change makes a random change of a data plane.
func (c *chaos) change() {
	name := &c.names[rand.IntN(chaosPlanes)]
	before := c.planes[*name]
	if before == nil {
		*name = fmt.Sprint("dp-", c.events["added"]) // a deleted name isn't used again
		dp := behaviours.NewDataPlane(*name)
		c.renew(dp)
		c.create("added", dp)
		return
	}
	dp := before.DeepCopy()
	server := &dp.Spec.KubernetesCluster.Credentials.APIServerURL
	var event string
	switch n := rand.IntN(20); {
	case n < 3:
		c.delete(*name)
		c.events["deleted"]++
		return
	case n < 6:
		c.delete(*name)
		if rand.IntN(2) == 0 {
			pause(c.t.Context(), time.Second)
		}
		again := behaviours.NewDataPlane(*name)
		again.Annotations, again.Spec = dp.Annotations, dp.Spec
		c.create("recreated", again)
		return
	case n < 9:
		event, dp.Labels = "labelled", map[string]string{"example.com/n": strconv.Itoa(rand.Int())}
	case n < 11:
		event = "broken"
		c.spoil(dp)
	default:
		event = "rotated"
		c.renew(dp)
	}
	if *server != before.Spec.KubernetesCluster.Credentials.APIServerURL {
		event = "moved"
	}
	c.events[event]++
	updated, err := c.space.typed.Update(c.t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(c.t, err)
	c.see(updated)
}

func (c *chaos) create(event string, dp *openchoreov1alpha1.DataPlane) {
	c.events[event]++
	c.see(c.space.create(c.t, dp))
}

func (c *chaos) delete(name string) {
	require.NoError(c.t, c.space.typed.Delete(c.t.Context(), name, metav1.DeleteOptions{}))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects[c.planes[name].UID].gone = time.Now()
	delete(c.planes, name)
}

// renew gives a data plane the credentials of a new user, most often of the same target.
func (c *chaos) renew(dp *openchoreov1alpha1.DataPlane) {
	i := rand.IntN(len(c.targets))
	for same := range c.targets {
		if rand.IntN(4) > 0 && c.targets[same].URL() == dp.Spec.KubernetesCluster.Credentials.APIServerURL {
			i = same
		}
	}
	c.users++
	name := fmt.Sprint("user-", c.users)
	user, err := c.targets[i].AddUser(name, "system:masters")
	require.NoError(c.t, err)
	dp.Spec.KubernetesCluster.Credentials = credentialsOf(user)
	dp.Annotations = map[string]string{userAnnotation: name}
	if rand.IntN(3) > 0 {
		return
	}
	if token, err := newToken(c.t.Context(), c.admins[i], name); err == nil { // fails while the API server doesn't run
		dp.Annotations[userAnnotation] = "system:serviceaccount:default:" + name
		dp.Annotations[tokenAnnotation] = token
	}
}

// newToken creates a service account and returns a token of it.
func newToken(ctx context.Context, admin kubernetes.Interface, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	accounts := admin.CoreV1().ServiceAccounts(metav1.NamespaceDefault)
	if _, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	request, err := accounts.CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return request.Status.Token, nil
}

// spoil makes the credentials of a data plane unusable.
func (c *chaos) spoil(dp *openchoreov1alpha1.DataPlane) {
	credentials := &dp.Spec.KubernetesCluster.Credentials
	switch rand.IntN(3) {
	case 0:
		credentials.ClientKey = credentials.ClientCert
	case 1:
		credentials.CACert = "no base64"
	case 2:
		credentials.APIServerURL = strings.Replace(credentials.APIServerURL, "https:", "http:", 1)
	}
	dp.Annotations[userAnnotation] = ""
}

// requireCalm waits until each data plane with usable credentials has a run with answers as its newest
// user and a working watch, and until the Status of each other data plane has the error.
func (c *chaos) requireCalm() {
	c.t.Helper()
	for _, admin := range c.admins {
		require.EventuallyWithT(c.t, func(collect *assert.CollectT) {
			_, err := admin.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(c.t.Context(),
				&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: proof}}, metav1.CreateOptions{})
			require.NoError(collect, err)
		}, eventually, tick)
	}
	began := time.Now()
	require.EventuallyWithT(c.t, func(collect *assert.CollectT) {
		states := map[string]fleet.PlaneStatus{}
		for _, plane := range c.fleet.Status().Planes {
			states[plane.Name] = plane
		}
		require.Len(collect, states, len(c.planes))
		c.mu.Lock()
		defer c.mu.Unlock()
		for name, dp := range c.planes {
			status := states[name]
			require.Zero(collect, status.Overdue)
			user := dp.Annotations[userAnnotation]
			if user == "" {
				require.Contains(collect, []fleet.State{fleet.StateRunning, fleet.StateRetrying}, status.State)
				require.Contains(collect, status.LastError, "spec.kubernetesCluster.credentials")
				continue
			}
			require.Equal(collect, fleet.StateRunning, status.State)
			run := c.current(types.NamespacedName{Namespace: dp.Namespace, Name: name})
			require.True(collect, run != nil && run.uid == dp.UID, "%s has no run", name)
			require.True(collect, run.answered[user].After(began), "run %d has no answer as %s", run.number, user)
			require.True(collect, run.proven, "the watch of run %d is silent", run.number)
		}
	}, eventually, tick)
}

// requireHistory checks the start, the requests and the end of all runs.
func (c *chaos) requireHistory() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	causes := map[error]int{}
	for _, run := range c.runs {
		assert.False(c.t, run.ended.IsZero(), "run %d has not ended", run.number)
		object := c.objects[run.uid]
		if !object.gone.IsZero() {
			assert.Less(c.t, run.began.Sub(object.gone), soon, "run %d began for a deleted data plane", run.number)
			assert.Less(c.t, run.ended.Sub(object.gone), 2*soon, "run %d outlasted its data plane", run.number)
		}
		names := map[string]bool{}
		for i, user := range object.users {
			names[user.name] = true
			if i > 0 {
				last := run.answered[object.users[i-1].name]
				assert.Less(c.t, last.Sub(user.since), soon, "run %d used credentials that its data plane no longer had", run.number)
			}
		}
		for name := range run.answered {
			assert.True(c.t, names[name], "run %d was %s, which its data plane never had", run.number, name)
		}
		known := false
		for _, cause := range []error{helpers.ErrDeleted, helpers.ErrReplaced, remote.ErrServerChanged, fleet.ErrStopped} {
			if errors.Is(run.cause, cause) {
				known = true
				causes[cause]++
			}
		}
		assert.True(c.t, known, "run %d has ended by %v", run.number, run.cause)
	}
	c.t.Logf("data planes: %v; %d processes of targets ended", c.events, c.ends.Load())
	c.t.Logf("%d runs ended by: %v; %d rotations", len(c.runs), causes, c.rotations.Load())
	assert.LessOrEqual(c.t, causes[remote.ErrServerChanged], c.events["moved"])
	assert.LessOrEqual(c.t, len(c.runs), c.events["added"]+c.events["recreated"]+c.events["moved"], "a rotation has started a run")
	assert.Greater(c.t, c.rotations.Load(), int64(c.events["rotated"]/4))
}
