// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// replicas are processes that share the data planes.
type replicas struct {
	*stage
	shards        int
	leaseDuration time.Duration
	alive         map[string]*process
}

// failover runs replicas, and kills one.
func failover(ctx context.Context, clusters *demo.Clusters, o *options) error {
	s, err := newStage(ctx, clusters)
	if err != nil {
		return err
	}
	if err := createDeployments(ctx, map[*demo.Target][]string{s.Targets[0]: {"shop", "cart"}, s.Targets[1]: {"mail"}}); err != nil {
		return err
	}
	r := &replicas{
		stage:         s,
		shards:        cmp.Or(o.shards, 2*o.replicas),
		leaseDuration: cmp.Or(o.leaseDuration, 3*time.Second),
		alive:         map[string]*process{},
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		cancel(nil)
		for _, p := range r.alive {
			<-p.ended
		}
	}()
	args := append(clusters.Args(), fmt.Sprintf("--shards=%d", r.shards), "--lease-duration="+r.leaseDuration.String(), fmt.Sprintf("-v=%t", o.verbose))

	fmt.Printf("\n# %d replicas share %d shards\n\n", o.replicas, r.shards)
	for i := range o.replicas {
		name := fmt.Sprintf("replica-%d", i+1)
		p, err := startProcess(ctx, name, args, s.board, cancel)
		if err != nil {
			return err
		}
		r.alive[name] = p
		fmt.Printf("%s is process %d\n", name, p.cmd.Process.Pid)
	}
	if err := r.waitUntilShared(ctx); err != nil {
		return err
	}

	name := r.busiest()
	fmt.Printf("\n# %s is killed\n\n", name)
	took, err := r.end(ctx, name, syscall.SIGKILL)
	if err != nil {
		return err
	}
	fmt.Printf("  every data plane was counted again %s after the kill; leases last %s\n", took, r.leaseDuration)

	for len(r.alive) > 1 {
		name := r.busiest()
		fmt.Printf("\n# %s gets SIGTERM, and releases its shards\n\n", name)
		took, err := r.end(ctx, name, syscall.SIGTERM)
		if err != nil {
			return err
		}
		fmt.Printf("  every data plane was counted again %s after the signal\n", took)
	}
	name = r.busiest()
	fmt.Printf("\n# %s, the last, gets SIGTERM\n\n", name)
	if err := r.stop(ctx, name, syscall.SIGTERM); err != nil {
		return err
	}
	return r.requireReleased(ctx)
}

// end ends a replica by a signal, and returns how long the others took to take over its
// shards.
func (r *replicas) end(ctx context.Context, name string, signal syscall.Signal) (time.Duration, error) {
	since := time.Now()
	if err := r.stop(ctx, name, signal); err != nil {
		return 0, err
	}
	err := r.waitUntilShared(ctx)
	return time.Since(since).Round(100 * time.Millisecond), err
}

// stop ends a replica by a signal, and returns when it has ended.
func (r *replicas) stop(ctx context.Context, name string, signal syscall.Signal) error {
	p := r.alive[name]
	p.expected.Store(true)
	if err := p.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("%s to %s: %w", signal, name, err)
	}
	select {
	case <-p.ended:
		delete(r.alive, name)
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s did not end within %s of %s", name, patience, signal)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// busiest returns the replica that runs most data planes.
func (r *replicas) busiest() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := map[string]int{}
	for key := range r.planes {
		counts[key.replica]++
	}
	return slices.MaxFunc(slices.Sorted(maps.Keys(r.alive)), func(a, b string) int { return cmp.Compare(counts[a], counts[b]) })
}

// waitUntilShared waits until each shard has one leader, no replica leads more than its share,
// and each data plane has one run. Then it prints the shards and data planes.
func (r *replicas) waitUntilShared(ctx context.Context) error {
	share := (r.shards + len(r.alive) - 1) / len(r.alive)
	led := map[string][]string{}
	if err := r.wait(ctx, "replicas to share all data planes", func() bool {
		clear(led)
		shards, planes := map[string]bool{}, map[string]bool{}
		for key := range r.board.shards {
			shards[key.name] = true
			led[key.replica] = append(led[key.replica], strings.Fields(key.name)[1])
		}
		for key, event := range r.planes {
			if event.State == fleet.StateRunning {
				planes[key.name] = true
			}
		}
		for _, own := range led {
			if len(own) > share {
				return false
			}
		}
		return len(shards) == r.shards && len(r.board.shards) == r.shards &&
			len(planes) == targets*planesPerTarget && len(r.planes) == len(planes)
	}); err != nil {
		return err
	}
	fmt.Println()
	for _, name := range slices.Sorted(maps.Keys(led)) {
		slices.Sort(led[name])
		fmt.Printf("  %s leads shards %s of %d\n", name, strings.Join(led[name], ", "), r.shards)
	}
	r.table()
	return nil
}

// requireReleased returns an error unless the Leases of all shards are free.
func (r *replicas) requireReleased(ctx context.Context) error {
	leases, err := coordinationv1client.NewForConfig(r.Management)
	if err != nil {
		return err
	}
	for i := range r.shards {
		lease, err := leases.Leases(r.Namespace).Get(ctx, fmt.Sprintf("%s-%d", leaseName(r.shards), i), metav1.GetOptions{})
		if err != nil {
			return err
		}
		if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
			return fmt.Errorf("lease %s: still held by %s", lease.Name, *holder)
		}
	}
	fmt.Printf("  the leases of all %d shards are free\n", r.shards)
	return nil
}
