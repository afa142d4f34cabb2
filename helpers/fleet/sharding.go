// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

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
