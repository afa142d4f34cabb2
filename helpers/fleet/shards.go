// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/wait"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// ErrShardLost ends the context of a shard's run when this replica no longer leads the shard:
// it gave it up, or couldn't renew its Lease.
var ErrShardLost = errors.New("replica no longer leads the shard")

// RunShards divides data planes among the replicas of a program. There are config.Count
// shards. Each data plane belongs to one of them, see [Shard.Owns], and each shard is led by
// one replica at a time, by leader election with a Lease. RunShards calls run for each shard
// that this replica leads, and ends its context when it no longer does. When ctx ends,
// RunShards waits for all runs to return, and returns.
//
//	err := fleet.RunShards(ctx, config, func(ctx context.Context, shard fleet.Shard) error {
//		return fleet.New(informer, work, shard.Restrict(fleet.Options{})).Run(ctx)
//	})
//
// Replicas share the shards evenly: none leads two more than another. Each also renews a Lease
// of its own, by which the others see it. When a replica joins, the others give up what exceeds
// their share, one shard at a time, each after its run has returned. When a replica ends
// because ctx ends, the others take its shards at once. When it is killed or cut off, they take
// them after LeaseDuration and about a quarter more.
//
// A replica that can't renew a Lease ends the run and, with [Shard.Restrict], closes its
// connections before another replica may lead the shard, see [ShardsConfig] for the times. A
// tenth of LeaseDuration is left for clocks that differ in speed and for a process that
// stalls. A process that is suspended for longer still believes it leads until it resumes, so
// that a data plane may have two runs at once. The same can happen when somebody edits or
// deletes a Lease, and a request that is already sent can't be recalled. For strict exclusion,
// use a fencing check in the data plane, such as resourceVersion.
//
// All replicas must have the same Count, because it decides which shard a data plane belongs
// to. To change it, stop all replicas, and change Name as well.
//
// If a run returns an error while the shard is led, RunShards ends all runs and returns it. If
// a run returns nil, this replica keeps the shard. RunShards also returns an error when config
// is wrong, or when the API server forbids at the start what is needed. It retries what fails
// later; client-go logs that.
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
		identity: config.Identity + "_" + rand.String(8), // a new one for each process
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
// All times follow from LeaseDuration. The leader of a shard renews its Lease every tenth of
// LeaseDuration. Six tenths after it sent the last renewal that succeeded, it ends its run,
// which then has three tenths to return.
type ShardsConfig struct {
	// Leases is CoordinationV1() of a clientset. It needs the rights to create, list, update,
	// get and delete Leases in Namespace. In each LeaseDuration it sends about 20 requests, and
	// ten for each shard that this replica leads. These must not wait for client-go's rate
	// limiter: use a client of its own, with QPS set to -1 in its configuration.
	Leases coordinationv1client.LeasesGetter
	// Namespace is where the Leases are, and Name begins their names: Name-0, Name-1 and so
	// on for the shards, and Name-member-Identity for the replicas.
	Namespace, Name string
	// Identity is unique to this replica, such as the name of its Pod, and part of the name of
	// a Lease. Of two replicas with the same Identity, one leads nothing.
	Identity string
	// Count is the number of shards. Several times the number of replicas makes even shares.
	Count int
	// LeaseDuration is how long after its last renewal a replica counts as dead: whole
	// seconds, at least 2 s. The default is 15 s.
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

// tenure is how long a run may go on after a successful renewal was sent: leaderelection
// waits for a retry period, and then tries for a renew deadline.
func (c *ShardsConfig) tenure() time.Duration { return c.retryPeriod() + c.renewDeadline() }

// grace is how long a run may take to return after that. A tenth of LeaseDuration is left.
func (c *ShardsConfig) grace() time.Duration {
	return c.LeaseDuration - c.tenure() - c.LeaseDuration/10
}

// Shard is one part of all data planes.
type Shard struct {
	// Index is the number of the shard, from 0, and Count the number of shards.
	Index, Count int

	grace time.Duration
}

// Owns reports whether a data plane belongs to the shard: whether the 32-bit FNV-1a hash of
// "namespace/name", modulo Count, is Index.
func (s Shard) Owns(key types.NamespacedName) bool {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key.Namespace + "/" + key.Name)) // never fails
	return int(hash.Sum32()%uint32(s.Count)) == s.Index       //nolint:gosec // the count of Leases is no 2^31
}

// Restrict returns options with which a [Fleet] runs only the data planes of the shard, and
// ends its runs before another replica may lead the shard: it adds to Filter and limits StopGrace.
func (s Shard) Restrict(o Options) Options {
	filter := o.Filter
	o.Filter = func(dp *v1alpha1.DataPlane, selected bool) bool {
		return s.Owns(types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name}) && (filter == nil || filter(dp, selected))
	}
	o.StopGrace = min(cmp.Or(o.StopGrace, defaultStopGrace), s.grace)
	return o
}

// String returns "shard Index of Count".
func (s Shard) String() string { return fmt.Sprintf("shard %d of %d", s.Index, s.Count) }
