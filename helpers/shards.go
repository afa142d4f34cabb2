// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/wait"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// RunShards divides data planes among replicas of a program. There are config.Count shards,
// each data plane belongs to one of them, see [Shard.Owns], and each shard is led by one
// replica at a time, which is elected with a Lease by client-go's leaderelection. RunShards
// calls run for each shard that this replica leads, with a context that ends when it does
// so no longer, and returns when ctx has ended and every run has returned.
//
//	err := helpers.RunShards(ctx, config, func(ctx context.Context, shard helpers.Shard) error {
//		return helpers.NewFleet(informer, work, shard.FleetOptions()...).Run(ctx)
//	})
//
// Replicas share the shards evenly: each also renews a Lease that tells that it lives, and
// none leads more than its share. When a replica comes, the others give up what is beyond
// their share, one shard after the other, each as soon as its run has returned. When
// a replica ends, so that ctx ends, the others have its shards after a moment; when it is
// killed or cut off, after LeaseDuration and up to a third more.
//
// What a Lease promises: a replica that can't renew one ends its run, and with
// [Shard.FleetOptions] closes its connections, before another replica may lead the
// shard, by the durations at [ShardsConfig]. So a data plane has two runs at once only
// when the clocks of two replicas run at rates that differ by a tenth or more, or when
// a process stands still for seconds, as a suspended machine does: until it goes on, and
// notices, it believes to lead. A request that is already on its way to a data plane can't
// be recalled either. Who must exclude that needs a fence in the data plane itself, such as
// the resourceVersion of what is written.
//
// All replicas must have the same Count: with another, data planes belong to other shards,
// and some would be run twice. To change Count, change Name as well, and end the replicas
// with the old one first.
//
// An error of run, while the shard is led, ends all runs, and RunShards returns it. A run
// that returns nil keeps the shard. Other errors are those of config, and, joined, those
// that runs return at the end of ctx. What the API server refuses is tried again; client-go
// logs it.
func RunShards(ctx context.Context, config ShardsConfig, run func(ctx context.Context, s Shard) error) error {
	config, err := config.complete()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s := &sharding{
		ctx: ctx, config: config, run: run, fail: stop,
		leases:   config.Leases.Leases(config.Namespace),
		identity: config.Identity + "_" + rand.String(8), // another when the process starts again, as that of core components
		seen:     map[string]observedLease{}, changed: make(chan struct{}),
	}
	for i := range config.Count {
		s.shards = append(s.shards, &ledShard{sharding: s, shard: Shard{Index: i, Count: config.Count, grace: config.grace()}})
	}
	var all sync.WaitGroup
	begin := func(f func()) {
		all.Add(1)
		go func() {
			defer all.Done()
			f()
		}()
	}
	begin(func() { s.beMember(ctx) })
	begin(func() { wait.JitterUntilWithContext(ctx, s.refresh, config.retryPeriod(), 0.1, false) })
	for _, shard := range s.shards {
		begin(func() { shard.loop(ctx) })
	}
	all.Wait()

	// Nobody needs the Lease of a replica that has ended.
	removal, cancel := context.WithTimeout(context.WithoutCancel(ctx), config.retryPeriod())
	defer cancel()
	s.removeMember(removal, s.memberName())
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// ShardsConfig says how replicas share data planes.
//
// All other times follow from LeaseDuration: who leads renews the Lease every tenth of it,
// ends its run after half of it without success, and has 3 tenths for that to return; two
// tenths are for answers of the API server that come late.
type ShardsConfig struct {
	// Leases is where the Leases are: CoordinationV1() of a clientset. The program
	// needs the rights to create, list and update leases in Namespace, and to get and delete
	// them there. A client of its own keeps other requests from delaying a renewal; it takes
	// about ten requests in LeaseDuration and as many for each shard that the replica leads.
	Leases coordinationv1client.LeasesGetter
	// Namespace and Name name the Leases: Name-0, Name-1 and so on, and
	// Name-member-Identity.
	Namespace, Name string
	// Identity tells this replica from the others, as the name of its Pod does. It must
	// be a DNS label. Of two with the same Identity, one leads nothing.
	Identity string
	// Count is how many shards there are. Several times as many as replicas make the
	// shares even.
	Count int
	// LeaseDuration is how long after its last sign of life a replica counts as dead, in
	// whole seconds, 2 s at least. The default is 15 s.
	LeaseDuration time.Duration
}

func (c ShardsConfig) complete() (ShardsConfig, error) {
	var errs []error
	if c.LeaseDuration == 0 {
		c.LeaseDuration = 15 * time.Second
	}
	if c.Leases == nil {
		errs = append(errs, errors.New("shards: Leases: required"))
	}
	if c.Count < 1 {
		errs = append(errs, fmt.Errorf("shards: Count: must be at least 1, is %d", c.Count))
	}
	if c.LeaseDuration < 2*time.Second || c.LeaseDuration%time.Second != 0 {
		errs = append(errs, fmt.Errorf("shards: LeaseDuration: must be whole seconds, 2s at least, is %s", c.LeaseDuration))
	}
	for _, field := range []struct{ name, value string }{
		{"Namespace", c.Namespace}, {"Name", c.Name}, {"Identity", c.Identity},
	} {
		if problems := validation.IsDNS1123Label(field.value); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("shards: %s: %q: %s", field.name, field.value, strings.Join(problems, "; ")))
		}
	}
	return c, errors.Join(errs...)
}

func (c *ShardsConfig) retryPeriod() time.Duration   { return c.LeaseDuration / 10 }
func (c *ShardsConfig) renewDeadline() time.Duration { return c.LeaseDuration / 2 }

// grace is what is left when a Lease is about to be lost. leaderelection gives up a renew
// deadline and a retry period after the last answer, and a request takes no longer than
// another retry period, see memberLeases and shardLeases.
func (c *ShardsConfig) grace() time.Duration {
	return c.LeaseDuration - c.renewDeadline() - 2*c.retryPeriod()
}

// Shard is a part of all data planes.
type Shard struct {
	// Index is the number of the shard, from 0, and Count how many there are.
	Index, Count int

	grace time.Duration
}

// Owns reports whether a data plane belongs to the shard: whether the 32-bit FNV-1a hash of
// "namespace/name", modulo Count, is Index. It stays so when the DataPlane is recreated.
func (s Shard) Owns(key types.NamespacedName) bool {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key.Namespace + "/" + key.Name)) // which never fails
	return int(hash.Sum32()%uint32(s.Count)) == s.Index       //nolint:gosec // the count of Leases is no 2^31
}

// FleetOptions make a [Fleet] run the data planes of the shard alone, and end before
// another replica may lead the shard: they set the filter and the grace. They come last.
func (s Shard) FleetOptions() []FleetOption {
	return []FleetOption{
		func(o *fleetOptions) {
			o.filters = append(o.filters, func(dp *v1alpha1.DataPlane, _ bool) bool { return s.Owns(keyOf(dp)) })
		},
		func(o *fleetOptions) { o.grace = min(o.grace, s.grace) },
	}
}

// String returns "shard Index of Count".
func (s Shard) String() string { return fmt.Sprintf("shard %d of %d", s.Index, s.Count) }

// ErrShardLost is why the context of a shard's run ends when the replica leads it no longer:
// it has given it up, or could not renew its Lease.
var ErrShardLost = errors.New("replica no longer leads the shard")

// labelShards is on all Leases of one Name.
const labelShards = v1alpha1.GroupName + "/shards"

// sharding is one call of RunShards.
type sharding struct {
	ctx      context.Context // of RunShards
	config   ShardsConfig
	run      func(ctx context.Context, s Shard) error
	fail     context.CancelCauseFunc
	leases   coordinationv1client.LeaseInterface
	identity string
	shards   []*ledShard

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when something below has changed
	member  bool
	seen    map[string]observedLease
	rounds  int // of looking at the Leases
	looked  time.Time
	lookErr error
	share   int
	errs    []error
}

// observedLease is a Lease and when it was first seen like this. As leaderelection does,
// replicas trust their own clocks only.
type observedLease struct {
	*coordinationv1.Lease
	since time.Time
}

func (l *observedLease) held() bool {
	return !isReleased(l.Lease) && l.Spec.LeaseDurationSeconds != nil &&
		time.Since(l.since) < time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second
}

func (s *sharding) shardName(i int) string { return fmt.Sprintf("%s-%d", s.config.Name, i) }
func (s *sharding) memberPrefix() string   { return s.config.Name + "-member-" }
func (s *sharding) memberName() string     { return s.memberPrefix() + s.config.Identity }

// elect takes part in the election for a Lease, until ctx ends or the replica has led and
// does so no longer.
func (s *sharding) elect(ctx context.Context, name string, client coordinationv1client.LeasesGetter, lead func(elected context.Context)) {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: s.config.Namespace, Name: name},
			Client:     client,
			LockConfig: resourcelock.ResourceLockConfig{Identity: s.identity},
		},
		Name:          name,
		LeaseDuration: s.config.LeaseDuration, RenewDeadline: s.config.renewDeadline(), RetryPeriod: s.config.retryPeriod(),
		ReleaseOnCancel: true, // see shardLeases
		Callbacks:       leaderelection.LeaderCallbacks{OnStartedLeading: lead, OnStoppedLeading: func() {}},
	})
	if err != nil { // of the configuration, which is ours
		s.end(fmt.Errorf("shards: %w", err))
		return
	}
	elector.Run(ctx)
}

// end ends all runs for an error.
func (s *sharding) end(err error) {
	s.note(err)
	s.fail(err)
}

func (s *sharding) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err)
}

// beMember tells the other replicas that this one lives.
func (s *sharding) beMember(ctx context.Context) {
	for ctx.Err() == nil {
		s.elect(ctx, s.memberName(), memberLeases{s}, func(elected context.Context) {
			s.setMember(true)
			<-elected.Done()
			s.setMember(false)
		})
	}
}

func (s *sharding) setMember(member bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.member = member
}

// refresh looks at the Leases, works out the share, and gives up what is beyond it.
func (s *sharding) refresh(ctx context.Context) {
	request, cancel := context.WithTimeout(ctx, s.config.retryPeriod())
	list, err := s.leases.List(request, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(labels.Set{labelShards: s.config.Name}).String(),
	})
	cancel()
	for _, name := range s.take(list, err) {
		s.removeMember(ctx, name)
	}
}

// take takes in what refresh has got. It returns members that are dead for long.
func (s *sharding) take(list *coordinationv1.LeaseList, err error) (dead []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		close(s.changed)
		s.changed = make(chan struct{})
	}()
	now := time.Now()
	if s.lookErr = err; err != nil {
		return nil
	}
	s.rounds++
	s.looked = now
	seen := make(map[string]observedLease, len(list.Items))
	members := 1 // this one
	for i := range list.Items {
		lease := observedLease{&list.Items[i], now}
		if before, ok := s.seen[lease.Name]; ok && before.ResourceVersion == lease.ResourceVersion {
			lease.since = before.since
		}
		seen[lease.Name] = lease
		if !strings.HasPrefix(lease.Name, s.memberPrefix()) || lease.Name == s.memberName() {
			continue
		}
		if lease.held() {
			members++
		} else if now.Sub(lease.since) > 10*s.config.LeaseDuration {
			dead = append(dead, lease.Name)
		}
	}
	s.seen = seen
	s.share = (s.config.Count + members - 1) / members
	// One at a time, so that the work of most goes on; it counts until its run has returned.
	if led := s.own(shardLed); len(led) > s.share && len(s.own(shardEnding)) == 0 {
		last := led[len(led)-1]
		last.state = shardEnding
		last.cancel(ErrShardLost)
	}
	return dead
}

// removeMember deletes the Lease of a replica, unless it lives. What fails is left to the
// next that looks.
func (s *sharding) removeMember(ctx context.Context, name string) {
	s.mu.Lock()
	lease, ok := s.seen[name]
	s.mu.Unlock()
	if name == s.memberName() {
		current, err := s.leases.Get(ctx, name, metav1.GetOptions{})
		if err != nil || !isReleased(current) && *current.Spec.HolderIdentity != s.identity {
			return // another process has it
		}
		lease.Lease, ok = current, true
	}
	if ok {
		_ = s.leases.Delete(ctx, name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion},
		})
	}
}

// own returns the shards in some states. The caller has the lock.
func (s *sharding) own(states ...shardState) []*ledShard {
	var own []*ledShard
	for _, shard := range s.shards {
		if slices.Contains(states, shard.state) {
			own = append(own, shard)
		}
	}
	return own
}

// ledShard is what a replica has to do with one shard.
type ledShard struct {
	*sharding
	shard Shard

	// With the lock held:
	state  shardState
	cancel context.CancelCauseFunc // of the election, and with it of the run
	done   chan struct{}           // closed when the run has returned; nil when there is none
}

type shardState int

const (
	shardForeign shardState = iota // another replica leads it, or none
	shardClaimed                   // this replica may get it
	shardLed                       // this replica leads it
	shardEnding                    // this replica gives it up
)

// loop leads the shard again and again, until ctx ends.
func (l *ledShard) loop(ctx context.Context) {
	for ctx.Err() == nil {
		election, cancel := context.WithCancelCause(ctx)
		l.mu.Lock()
		l.state, l.cancel, l.done = shardForeign, cancel, nil
		l.mu.Unlock()
		l.elect(election, l.shardName(l.shard.Index), shardLeases{l}, func(elected context.Context) { l.lead(election, elected) })
		<-l.stop()
		cancel(nil)
	}
}

// lead calls the function, unless the shard is lost by now.
func (l *ledShard) lead(election, elected context.Context) {
	l.mu.Lock()
	if l.state == shardEnding || elected.Err() != nil {
		l.mu.Unlock()
		return
	}
	done := make(chan struct{})
	l.state, l.done = shardLed, done
	l.mu.Unlock()
	defer close(done)
	err := l.run(election, l.shard)
	switch {
	case election.Err() == nil && err != nil:
		l.end(fmt.Errorf("%s: %w", l.shard, err))
	case election.Err() == nil:
		<-election.Done() // the shard is kept
	case l.ctx.Err() != nil && err != nil && !errors.Is(err, context.Cause(election)):
		l.note(fmt.Errorf("%s: %w", l.shard, err))
	}
}

// stop ends the run, and returns a channel that is closed when it has returned.
func (l *ledShard) stop() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = shardEnding
	l.cancel(ErrShardLost)
	if l.done != nil {
		return l.done
	}
	none := make(chan struct{})
	close(none)
	return none
}

// memberLeases are the Leases of a sharding as leaderelection gets them: with a label, and
// with requests that take no longer than a retry period, so that an answer that comes late
// doesn't count as a renewal of just now.
type memberLeases struct{ *sharding }

func (m memberLeases) Leases(string) coordinationv1client.LeaseInterface {
	return &memberLease{m.leases, m.sharding}
}

type memberLease struct {
	coordinationv1client.LeaseInterface
	s *sharding
}

func (m *memberLease) Get(ctx context.Context, name string, opts metav1.GetOptions) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, m.s.config.retryPeriod())
	defer cancel()
	return m.LeaseInterface.Get(ctx, name, opts)
}

func (m *memberLease) Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, m.s.config.retryPeriod())
	defer cancel()
	lease = lease.DeepCopy()
	metav1.SetMetaDataLabel(&lease.ObjectMeta, labelShards, m.s.config.Name)
	return m.LeaseInterface.Create(ctx, lease, opts)
}

func (m *memberLease) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	updated, err := m.update(ctx, lease, opts)
	if !isReleased(lease) || !apierrors.IsConflict(err) {
		return updated, err
	}
	// The renewal that was under way when the replica stopped has reached the API server.
	current, err := m.Get(ctx, lease.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if current.Spec.HolderIdentity == nil || *current.Spec.HolderIdentity != m.s.identity {
		return current, nil // another has it already
	}
	lease = lease.DeepCopy()
	lease.ResourceVersion = current.ResourceVersion
	return m.update(ctx, lease, opts)
}

func (m *memberLease) update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, m.s.config.retryPeriod())
	defer cancel()
	return m.LeaseInterface.Update(ctx, lease, opts)
}

func isReleased(lease *coordinationv1.Lease) bool {
	return lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == ""
}

// shardLeases are memberLeases, and what makes leaderelection fair and safe here. It sees
// a Lease that is free only when it is this replica's turn; and it releases one only when
// the run has returned, for which it leaves no time by itself.
type shardLeases struct{ *ledShard }

func (l shardLeases) Leases(namespace string) coordinationv1client.LeaseInterface {
	return &shardLease{memberLeases{l.sharding}.Leases(namespace), l.ledShard}
}

type shardLease struct {
	coordinationv1client.LeaseInterface
	l *ledShard
}

// Get answers from what refresh has seen, which saves a request for each shard and retry
// period. If that is out of date, the update that follows conflicts.
func (g *shardLease) Get(ctx context.Context, name string, opts metav1.GetOptions) (*coordinationv1.Lease, error) {
	for {
		answer := g.l.answer(name)
		switch {
		case answer.unknown:
			return g.LeaseInterface.Get(ctx, name, opts)
		case answer.notYet == nil:
			return answer.lease, answer.err
		}
		select {
		case <-answer.notYet:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// leaseAnswer is what answers a Get.
type leaseAnswer struct {
	lease   *coordinationv1.Lease
	err     error
	notYet  <-chan struct{} // there is none before this is closed
	unknown bool            // only the API server knows
}

func (l *ledShard) answer(name string) leaseAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == shardLed || l.state == shardEnding {
		return leaseAnswer{unknown: true}
	}
	l.state = shardForeign
	if l.lookErr != nil && time.Since(l.looked) > l.config.LeaseDuration {
		return leaseAnswer{err: l.lookErr}
	}
	lease, exists := l.seen[name]
	if !exists || !lease.held() {
		// Who has looked only once may not have seen all that have started at the same time.
		if !l.member || l.rounds < 2 || len(l.own(shardClaimed, shardLed, shardEnding)) >= l.share {
			return leaseAnswer{notYet: l.changed}
		}
		l.state = shardClaimed
	}
	if !exists {
		return leaseAnswer{err: apierrors.NewNotFound(coordinationv1.Resource("leases"), name)}
	}
	return leaseAnswer{lease: lease.DeepCopy()}
}

func (g *shardLease) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if isReleased(lease) {
		select {
		case <-g.l.stop():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return g.LeaseInterface.Update(ctx, lease, opts)
}
