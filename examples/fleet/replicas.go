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
	"k8s.io/apimachinery/pkg/util/wait"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// replicas are processes that share the data planes.
type replicas struct {
	*stage
	args    []string
	shards  int
	lost    func(error) // called when one ends unexpectedly
	alive   map[string]*process
	started int
	created int               // Deployments in the first target
	owners  map[string]string // the replica of each shard and data plane, after the last step
}

// replicaStory shows what moves between replicas.
func replicaStory(ctx context.Context, clusters *demo.Clusters, o *options) error {
	s, err := newStage(ctx, clusters)
	if err != nil {
		return err
	}
	if err := createDeployment(ctx, s.Targets[1], "mail"); err != nil {
		return err
	}
	shards, lease := cmp.Or(o.sharding.Shards, 4*o.replicas), cmp.Or(o.sharding.LeaseDuration, 3*time.Second)
	ctx, lost := context.WithCancelCause(ctx)
	r := &replicas{
		stage: s, shards: shards, lost: lost, alive: map[string]*process{},
		args: append(clusters.Args(), fmt.Sprintf("--shards=%d", shards), fmt.Sprintf("--lease-duration=%s", lease),
			"--metrics="+o.metrics, fmt.Sprintf("-v=%t", o.verbose)),
	}
	defer func() {
		lost(nil)
		for _, p := range r.alive {
			<-p.ended
		}
	}()

	var killed, suspended string
	fmt.Printf("\n# %d replicas share %d shards; a Lease lasts %s\n\n", o.replicas, shards, lease)
	for range o.replicas {
		if err := r.add(ctx); err != nil {
			return err
		}
	}
	for _, do := range []func() error{
		func() error { return nil },
		func() error {
			killed = r.busiest()
			fmt.Printf("\n# %s is killed (SIGKILL)\n\n", killed)
			return r.end(ctx, syscall.SIGKILL, killed)
		},
		func() error {
			suspended = r.busiest()
			fmt.Printf("\n# %s is suspended (SIGSTOP)\n\n", suspended)
			r.change(func() { r.suspended = suspended })
			r.forget(suspended)
			return r.alive[suspended].signal(syscall.SIGSTOP)
		},
		func() error {
			fmt.Printf("\n# %s goes on (SIGCONT)\n\n", suspended)
			r.change(func() { r.suspended = "" })
			return r.alive[suspended].signal(syscall.SIGCONT)
		},
		func() error {
			fmt.Print("\n# another replica is added\n\n")
			return r.add(ctx)
		},
		func() error {
			name := r.busiest()
			fmt.Printf("\n# %s ends in order (SIGTERM)\n\n", name)
			return r.end(ctx, syscall.SIGTERM, name)
		},
	} {
		if err := r.step(ctx, do); err != nil {
			return err
		}
	}

	fmt.Printf("\n# the others delete the member Lease of %s, 10 times %s after its last renewal\n\n", killed, lease)
	if err := r.waitForLeases(ctx, 0, len(r.alive)); err != nil {
		return err
	}
	fmt.Printf("  there are %d member Leases, and %d replicas\n\n# all replicas end in order (SIGTERM)\n\n", len(r.alive), len(r.alive))
	if err := r.end(ctx, syscall.SIGTERM, slices.Collect(maps.Keys(r.alive))...); err != nil {
		return err
	}
	if err := r.waitForLeases(ctx, shards, 0); err != nil {
		return err
	}
	fmt.Printf("  the Leases of all %d shards are free, and there are no member Leases\n", shards)
	return nil
}

// step does something to the replicas, and creates a Deployment. It waits until the replicas
// share all shards evenly, each data plane has one run, and all Deployments are counted. Then
// it prints how long that took and what has moved.
func (r *replicas) step(ctx context.Context, do func() error) error {
	since := time.Now()
	if err := do(); err != nil {
		return err
	}
	r.created++
	if err := createDeployment(ctx, r.Targets[0], fmt.Sprintf("shop-%d", r.created)); err != nil {
		return err
	}
	var owners map[string]string
	if err := r.wait(ctx, "replicas to share all data planes", func() bool {
		owners = r.shared()
		return owners != nil
	}); err != nil {
		return err
	}
	fmt.Printf("\n  %.1f s later, all data planes are counted, each by one replica. Moved:\n", time.Since(since).Seconds())
	moved := map[string][]string{}
	for _, subject := range slices.Sorted(maps.Keys(owners)) {
		if from, to := r.owners[subject], owners[subject]; from != to {
			way := fmt.Sprintf("from %s to %s", cmp.Or(from, "nobody"), to)
			moved[way] = append(moved[way], subject)
		}
	}
	for _, way := range slices.Sorted(maps.Keys(moved)) {
		fmt.Printf("  %s: %s\n", way, strings.Join(moved[way], ", "))
	}
	r.owners = owners
	r.table()
	return nil
}

// shared returns the replica of each shard and data plane, or nil until step may go on. The
// caller holds the lock.
func (r *replicas) shared() map[string]string {
	owners, led := map[string]string{}, map[string]int{}
	for name := range r.alive {
		if name != r.suspended {
			led[name] = 0
		}
	}
	for k, event := range r.latest {
		if owners[k.subject] != "" || event.DataPlane != "" && event.State != fleet.StateRunning {
			return nil
		}
		owners[k.subject] = k.replica
		if event.Shard != nil {
			led[k.replica]++
		}
	}
	shares := slices.Sorted(maps.Values(led))
	const planes = targets * planesPerTarget
	if len(owners) != r.shards+planes || shares[len(shares)-1] > shares[0]+1 ||
		r.sum() != (sum{planesPerTarget * (r.created + 1), planes, planes}) {
		return nil
	}
	return owners
}

// add starts a replica.
func (r *replicas) add(ctx context.Context) error {
	r.started++
	name := fmt.Sprintf("replica-%d", r.started)
	p, err := startProcess(ctx, name, r.args, r.board, r.lost)
	if err != nil {
		return err
	}
	r.alive[name] = p
	fmt.Printf("%s is process %d\n", name, p.cmd.Process.Pid)
	return nil
}

// end ends replicas by a signal, and returns when they have ended.
func (r *replicas) end(ctx context.Context, signal syscall.Signal, names ...string) error {
	for _, name := range names {
		r.alive[name].expected.Store(true)
		if err := r.alive[name].signal(signal); err != nil {
			return err
		}
	}
	for _, name := range names {
		select {
		case <-r.alive[name].ended:
			delete(r.alive, name)
		case <-time.After(patience):
			return fmt.Errorf("%s did not end within %s of %s", name, patience, signal)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// busiest returns the replica that has most runs.
func (r *replicas) busiest() string {
	runs := map[string]int{}
	for subject, replica := range r.owners {
		if strings.Contains(subject, "/") {
			runs[replica]++
		}
	}
	return slices.MaxFunc(slices.Sorted(maps.Keys(r.alive)), func(a, b string) int { return cmp.Compare(runs[a], runs[b]) })
}

// waitForLeases waits until so many Leases of shards are free, and there are so many members.
func (r *replicas) waitForLeases(ctx context.Context, free, members int) error {
	client, err := coordinationv1client.NewForConfig(r.Management)
	if err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		leases, err := client.Leases(r.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		gotFree, gotMembers := 0, 0
		for i := range leases.Items {
			switch lease := &leases.Items[i]; {
			case strings.Contains(lease.Name, "-member-"):
				gotMembers++
			case *lease.Spec.HolderIdentity == "":
				gotFree++
			}
		}
		return gotFree == free && gotMembers == members, nil
	})
}
