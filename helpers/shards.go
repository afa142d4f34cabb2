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
// none leads two more than another. When a replica comes, the others give up what is beyond
// their share, one shard after the other, each as soon as its run has returned. When a
// replica ends, so that ctx ends, the others have its shards after a moment; when it is
// killed or cut off, after LeaseDuration and about a quarter more.
//
// What a Lease promises: a replica that can't renew one ends its run, and with
// [Shard.FleetOptions] closes its connections, before another replica may lead the
// shard, by the durations at [ShardsConfig]. So a data plane has two runs at once only when
// something takes the last tenth of LeaseDuration, which is left for that: clocks that run
// at rates so different, or a process that stands still for so long, as one on a suspended
// machine does, which believes to lead until it goes on and notices. So it is when somebody
// edits or deletes a Lease by hand. And a request that is already on its way to a data plane
// can't be recalled. Who must exclude all that needs a fence in the data plane itself, such
// as the resourceVersion of what is written.
//
// All replicas must have the same Count: with another, data planes belong to other shards,
// and some would be run twice. To change Count, change Name as well, and end the replicas
// with the old one first.
//
// An error of run, while the shard is led, ends all runs, and RunShards returns it. A run
// that returns nil keeps the shard. What a run returns after its shard was lost is dropped,
// unless it is because ctx has ended. Other errors are those of config, and that the API
// server, at the start, forbids what is needed. What fails later is tried again; client-go
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
	s.removeMember(removal, s.config.memberName())
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// ShardsConfig says how replicas share data planes.
//
// All other times follow from LeaseDuration: who leads renews the Lease every tenth of it;
// six tenths after it has sent the last renewal that succeeded, it ends its run, which has
// three tenths to return.
type ShardsConfig struct {
	// Leases is where the Leases are: CoordinationV1() of a clientset. The program
	// needs the rights to create, list and update leases in Namespace, and to get and delete
	// them there. In each LeaseDuration it makes about 20 requests, and ten for each shard that
	// the replica leads. Its client must not hold these back, as client-go does beyond five
	// a second by default: set QPS of its configuration to -1, and don't share it.
	Leases coordinationv1client.LeasesGetter
	// Namespace and Name name the Leases: Name-0, Name-1 and so on, and
	// Name-member-Identity.
	Namespace, Name string
	// Identity tells this replica from the others, as the name of its Pod does. With Name
	// it must make a name of a Lease. Of two with the same Identity, one leads nothing.
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
		{"Namespace", c.Namespace}, {"Name", c.Name},
	} {
		if problems := validation.IsDNS1123Label(field.value); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("shards: %s: %q: %s", field.name, field.value, strings.Join(problems, "; ")))
		}
	}
	if problems := validation.IsDNS1123Subdomain(c.memberName()); c.Identity == "" || len(problems) > 0 {
		errs = append(errs, fmt.Errorf("shards: Identity: %q: must make %q a name of a Lease: %s",
			c.Identity, c.memberName(), strings.Join(problems, "; ")))
	}
	return c, errors.Join(errs...)
}

func (c *ShardsConfig) memberPrefix() string         { return c.Name + "-member-" }
func (c *ShardsConfig) memberName() string           { return c.memberPrefix() + c.Identity }
func (c *ShardsConfig) retryPeriod() time.Duration   { return c.LeaseDuration / 10 }
func (c *ShardsConfig) renewDeadline() time.Duration { return c.LeaseDuration / 2 }

// tenure is for how long a renewal that succeeded lets a run go on, from when it was sent:
// leaderelection tries again for a renew deadline, after a retry period.
func (c *ShardsConfig) tenure() time.Duration { return c.retryPeriod() + c.renewDeadline() }

// grace is how long a run may take to return after that. A tenth is left.
func (c *ShardsConfig) grace() time.Duration {
	return c.LeaseDuration - c.tenure() - c.LeaseDuration/10
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
			owns := func(dp *v1alpha1.DataPlane, _ bool) bool { return s.Owns(keyOf(dp)) }
			o.filters = slices.Insert(o.filters, 0, owns) // before those that look closer
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
	member  bool          // the others know that this replica lives
	seen    map[string]observedLease
	rounds  int // of looking at the Leases without a gap
	looked  time.Time
	lookErr error
	most    int  // shards that this replica may lead
	admits  bool // the API server has let it do what is needed
	errs    []error
}

// enoughRounds is how often to look before a shard is taken, so that replicas that start,
// or come back after an outage, at the same time have all been seen.
const enoughRounds = 4

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
		s.elect(ctx, s.config.memberName(), memberLeases{s}, func(elected context.Context) {
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
	if s.refused(err) {
		return
	}
	for _, name := range s.take(list, err) {
		request, cancel := context.WithTimeout(ctx, s.config.retryPeriod())
		s.removeMember(request, name)
		cancel()
	}
}

// refused ends everything when the API server forbids what is needed and always has.
func (s *sharding) refused(err error) bool {
	s.mu.Lock()
	admits := s.admits
	s.mu.Unlock()
	if admits || !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) {
		return false
	}
	s.end(fmt.Errorf("shards: %w", err))
	return true
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
	if now.Sub(s.looked) > s.config.LeaseDuration/2 {
		s.rounds = 0
	}
	s.rounds++
	s.looked = now
	seen := make(map[string]observedLease, len(list.Items))
	for i := range list.Items {
		lease := observedLease{&list.Items[i], now}
		if before, ok := s.seen[lease.Name]; ok && before.ResourceVersion == lease.ResourceVersion {
			lease.since = before.since
		}
		seen[lease.Name] = lease
		if strings.HasPrefix(lease.Name, s.config.memberPrefix()) && now.Sub(lease.since) > 10*s.config.LeaseDuration {
			dead = append(dead, lease.Name)
		}
	}
	s.seen = seen
	s.divide()
	return dead
}

// divide works out how many shards this replica may lead, and gives one up if it has more:
// as many as all have, and one more if there are some left over that nobody lacks. The
// caller has the lock.
func (s *sharding) divide() {
	led := map[string]int{s.identity: len(s.own(shardLed))} // by each replica that lives
	for name, lease := range s.seen {
		if strings.HasPrefix(name, s.config.memberPrefix()) && lease.held() && name != s.config.memberName() {
			led[*lease.Spec.HolderIdentity] = 0
		}
	}
	for i := range s.shards {
		lease, ok := s.seen[s.shardName(i)]
		if !ok || !lease.held() || *lease.Spec.HolderIdentity == s.identity {
			continue
		}
		if _, lives := led[*lease.Spec.HolderIdentity]; lives {
			led[*lease.Spec.HolderIdentity]++
		}
	}
	least := s.config.Count / len(led)
	s.most = least
	if s.config.Count%len(led) != 0 {
		s.most++
	}
	for identity, n := range led {
		if identity != s.identity && n < least {
			s.most = least
		}
	}
	// One at a time, so that the work of most goes on; it counts until its run has returned.
	if own := s.own(shardLed); len(own) > s.most && len(s.own(shardEnding)) == 0 {
		last := own[len(own)-1]
		last.state = shardEnding
		last.cancel(ErrShardLost)
	}
}

// removeMember deletes the Lease of a replica, unless it lives. What fails is left to the
// next that looks.
func (s *sharding) removeMember(ctx context.Context, name string) {
	s.mu.Lock()
	lease, ok := s.seen[name]
	s.mu.Unlock()
	if name == s.config.memberName() {
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
	state    shardState
	cancel   context.CancelCauseFunc // of the election, and with it of the run
	done     chan struct{}           // closed when the run has returned; nil when there is none
	expiry   *time.Timer             // of what the last renewal allows; nil before there is one
	acquired time.Time
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
		l.state, l.cancel, l.done, l.expiry = shardForeign, cancel, nil, nil
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
	case l.ctx.Err() != nil && err != nil && !errors.Is(err, context.Cause(election)) && !errors.Is(err, context.Canceled):
		l.note(fmt.Errorf("%s: %w", l.shard, err))
	}
}

// stop ends the run, and returns a channel that is closed when it has returned.
func (l *ledShard) stop() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = shardEnding
	l.cancel(ErrShardLost)
	if l.expiry != nil {
		l.expiry.Stop()
	}
	if l.done != nil {
		return l.done
	}
	none := make(chan struct{})
	close(none)
	return none
}

// memberLeases are the Leases of a sharding as leaderelection gets them: with a label, with
// requests that take no longer than a retry period, and released by their holder only.
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
	return m.written(m.LeaseInterface.Create(ctx, lease, opts))
}

func (m *memberLease) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if isReleased(lease) {
		// Another may have it by now, which leaderelection doesn't always notice; or the
		// renewal that was under way at the end has reached the API server.
		current, err := m.Get(ctx, lease.Name, metav1.GetOptions{})
		if err != nil || isReleased(current) || *current.Spec.HolderIdentity != m.s.identity {
			return current, err
		}
		lease = lease.DeepCopy()
		lease.ResourceVersion = current.ResourceVersion
	}
	ctx, cancel := context.WithTimeout(ctx, m.s.config.retryPeriod())
	defer cancel()
	return m.written(m.LeaseInterface.Update(ctx, lease, opts))
}

func (m *memberLease) written(lease *coordinationv1.Lease, err error) (*coordinationv1.Lease, error) {
	if err != nil {
		m.s.refused(err)
		return nil, err
	}
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.s.admits = true
	return lease, nil
}

func isReleased(lease *coordinationv1.Lease) bool {
	return lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == ""
}

// shardLeases are memberLeases, and what makes leaderelection fair and safe here: it sees
// a Lease only when that is free and it is this replica's turn; the run ends in time, by
// when a renewal was sent; and a Lease is released only when the run has returned, for
// which leaderelection leaves no time by itself.
type shardLeases struct{ *ledShard }

func (l shardLeases) Leases(namespace string) coordinationv1client.LeaseInterface {
	return &shardLease{memberLeases{l.sharding}.Leases(namespace), l.ledShard}
}

type shardLease struct {
	coordinationv1client.LeaseInterface
	l *ledShard
}

// Get waits until the Lease is free for this replica, by what refresh has seen, which
// saves a request for each shard and retry period. If that is out of date, the update that
// follows conflicts. A leader gets the Lease as it is.
func (g *shardLease) Get(ctx context.Context, name string, opts metav1.GetOptions) (*coordinationv1.Lease, error) {
	for {
		answer := g.l.answer(name)
		switch {
		case answer.led:
			lease, err := g.LeaseInterface.Get(ctx, name, opts)
			if err == nil && !isReleased(lease) && *lease.Spec.HolderIdentity != g.l.identity {
				g.l.stop() // leaderelection would hope on
			}
			return lease, err
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
	lease  *coordinationv1.Lease
	err    error
	notYet <-chan struct{} // there is none before this is closed
	led    bool            // this replica leads the shard
}

func (l *ledShard) answer(name string) leaseAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == shardLed || l.state == shardEnding {
		return leaseAnswer{led: true}
	}
	l.state = shardForeign
	if l.lookErr != nil && time.Since(l.looked) > l.config.LeaseDuration {
		return leaseAnswer{err: l.lookErr}
	}
	lease, exists := l.seen[name]
	free := !exists || !lease.held() || *lease.Spec.HolderIdentity == l.identity // which could not release it
	if !free || !l.member || l.rounds < enoughRounds || len(l.own(shardClaimed, shardLed, shardEnding)) >= l.most {
		return leaseAnswer{notYet: l.changed}
	}
	l.state = shardClaimed
	if !exists {
		return leaseAnswer{err: apierrors.NewNotFound(coordinationv1.Resource("leases"), name)}
	}
	offered := lease.DeepCopy()
	offered.Spec.HolderIdentity = nil // it has been watched for long enough
	return leaseAnswer{lease: offered}
}

func (g *shardLease) Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error) {
	return g.write(lease, func(lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
		return g.LeaseInterface.Create(ctx, lease, opts)
	})
}

func (g *shardLease) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if isReleased(lease) {
		select {
		case <-g.l.stop():
			return g.LeaseInterface.Update(ctx, lease, opts)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return g.write(lease, func(lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
		return g.LeaseInterface.Update(ctx, lease, opts)
	})
}

// write sends the Lease of a leader. Its times are of now: leaderelection takes them before
// it asks for the Lease, which may have waited for long.
func (g *shardLease) write(lease *coordinationv1.Lease,
	send func(*coordinationv1.Lease) (*coordinationv1.Lease, error),
) (*coordinationv1.Lease, error) {
	sent := time.Now()
	g.l.mu.Lock()
	if g.l.state == shardClaimed {
		g.l.acquired = sent
	}
	lease = lease.DeepCopy()
	lease.Spec.AcquireTime, lease.Spec.RenewTime = &metav1.MicroTime{Time: g.l.acquired}, &metav1.MicroTime{Time: sent}
	g.l.mu.Unlock()
	written, err := send(lease)
	if err == nil {
		g.l.renewed(sent)
	}
	return written, err
}

// renewed lets the run go on for as long as a renewal allows that was sent then.
func (l *ledShard) renewed(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := time.Until(sent.Add(l.config.tenure()))
	if l.expiry != nil {
		l.expiry.Reset(left)
		return
	}
	cancel := l.cancel
	l.expiry = time.AfterFunc(left, func() { cancel(ErrShardLost) })
}
