// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

// replicas are processes that share the data planes.
type replicas struct {
	*stage
	args    []string
	shards  int
	lost    func(error) // called when a replica ends unexpectedly
	alive   map[string]*process
	started int
	created int               // Deployments in the first target
	owners  map[string]string // the replica of each shard and data plane, after the last step
}

// replicaStory shows which data planes move between replicas.
func replicaStory(ctx context.Context, clusters *demo.Clusters, o *options) error {
	s, err := newStage(ctx, clusters)
	if err != nil {
		return err
	}
	fmt.Println("in each step, another Deployment is created in target-1")
	if err := demo.CreateDeployment(ctx, s.Targets[1].Core, "mail"); err != nil {
		return err
	}
	shards, lease := cmp.Or(o.sharding.Shards, 4*o.replicas), cmp.Or(o.sharding.LeaseDuration, 3*time.Second)
	ctx, lost := context.WithCancelCause(ctx)
	r := &replicas{
		stage: s, shards: shards, lost: lost, alive: map[string]*process{},
		args: append(clusters.Args(), fmt.Sprintf("--shards=%d", shards), fmt.Sprintf("--lease-duration=%s", lease)),
	}
	defer func() {
		lost(nil)
		for _, p := range r.alive {
			<-p.ended
		}
	}()

	step := func(title string, do func(ctx context.Context) error) demo.Step {
		return demo.Step{Title: title, Do: func(ctx context.Context) error { return r.step(ctx, do) }}
	}
	var suspended string
	err = demo.Play(ctx, os.Stdout, []demo.Step{
		step(fmt.Sprintf("%d replicas share %d shards; a Lease lasts %s", o.replicas, shards, lease), func(context.Context) error {
			return r.add(ctx, o.replicas)
		}),
		step("the replica with the most data planes is killed", func(ctx context.Context) error {
			return r.end(ctx, syscall.SIGKILL, r.busiest())
		}),
		step("the replica with the most data planes is suspended", func(context.Context) error {
			suspended = r.busiest()
			return r.suspend(suspended)
		}),
		step("the suspended replica is resumed, and learns that the others have taken over", func(context.Context) error {
			return r.resume(suspended)
		}),
		step("another replica is added", func(context.Context) error { return r.add(ctx, 1) }),
		step("the replica with the most data planes ends in order", func(ctx context.Context) error {
			return r.end(ctx, syscall.SIGTERM, r.busiest())
		}),
		{Title: "all replicas end in order", Do: func(ctx context.Context) error {
			if err := r.end(ctx, syscall.SIGTERM, slices.Sorted(maps.Keys(r.alive))...); err != nil {
				return err
			}
			if err := r.waitForLeases(ctx, shards, 0); err != nil {
				return err
			}
			fmt.Printf("\n    the %d Leases of shards are free, and no Lease of a replica is left\n", shards)
			return nil
		}},
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // such as the end of a replica
	}
	if err == nil {
		fmt.Println("\nNext: copy examples/sharded-fleet, a short program that shares data planes in this way, with its manifest.")
	}
	return err
}

// step calls do, which changes the replicas, and creates a Deployment. It waits until the replicas share all shards evenly, each
// data plane has one run, all Deployments are counted, and each replica has a Lease. Then it prints how long this took and which
// data planes and shards have moved.
func (r *replicas) step(ctx context.Context, do func(ctx context.Context) error) error {
	since := time.Now()
	if err := do(ctx); err != nil {
		return err
	}
	r.created++
	if err := demo.CreateDeployment(ctx, r.Targets[0].Core, fmt.Sprintf("shop-%d", r.created)); err != nil {
		return err
	}
	var owners map[string]string
	if err := r.wait(ctx, func() (missing string) {
		owners, missing = r.shared()
		return missing
	}); err != nil {
		return err
	}
	took := time.Since(since)
	members := len(r.active())
	if err := r.waitForLeases(ctx, 0, members); err != nil {
		return err
	}
	fmt.Printf("\n    %.1f s later, one replica counts in each data plane; %d Leases of shards are held, and %d of replicas\n", took.Seconds(), r.shards, members)
	moved := map[string][]string{}
	for _, subject := range slices.Sorted(maps.Keys(owners)) {
		if from, to := r.owners[subject], owners[subject]; from != to {
			way := fmt.Sprintf("from %s to %s", cmp.Or(from, "nobody"), to)
			moved[way] = append(moved[way], subject)
		}
	}
	for _, way := range slices.Sorted(maps.Keys(moved)) {
		fmt.Printf("    moved %s: %s\n", way, strings.Join(moved[way], ", "))
	}
	r.owners = owners
	return nil
}

// shared returns the replica of each shard and data plane, and what is missing while step must wait. The caller holds the lock.
func (r *replicas) shared() (owners map[string]string, missing string) {
	owners = map[string]string{}
	led := map[string]int{}
	for _, name := range r.active() {
		led[name] = 0
	}
	for subject, by := range r.latest {
		if len(by) != 1 {
			return nil, fmt.Sprintf("%s has %d replicas", subject, len(by))
		}
		for replica := range by {
			owners[subject] = replica
			if isShard(subject) {
				led[replica]++
			}
		}
	}
	shares := slices.Sorted(maps.Values(led))
	if len(owners) != r.shards+planes || shares[len(shares)-1] > shares[0]+1 {
		return nil, fmt.Sprintf("of %d shards, replicas lead %v", r.shards, led)
	}
	return owners, r.sum().unless(sum{planesPerTarget * (r.created + 1), planes, planes})
}

// active returns the replicas that are neither dead nor suspended.
func (r *replicas) active() (names []string) {
	for name := range r.alive {
		if name != r.suspended {
			names = append(names, name)
		}
	}
	return names
}

// add starts replicas, which run until ctx ends at the latest.
func (r *replicas) add(ctx context.Context, n int) error {
	for range n {
		r.started++
		name := fmt.Sprintf("replica-%d", r.started)
		p, err := startProcess(ctx, name, r.args, r.board, r.lost)
		if err != nil {
			return err
		}
		r.alive[name] = p
		fmt.Printf("    %s is process %d\n", name, p.cmd.Process.Pid)
	}
	return nil
}

// end ends replicas by a signal, and returns when they have ended.
func (r *replicas) end(ctx context.Context, signal syscall.Signal, names ...string) error {
	for _, name := range names {
		r.alive[name].expected.Store(true)
		if err := r.send(signal, name); err != nil {
			return err
		}
	}
	for _, name := range names {
		select {
		case <-r.alive[name].ended:
			delete(r.alive, name)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *replicas) suspend(name string) error {
	err := r.send(syscall.SIGSTOP, name)
	r.change(func() { r.suspended = name }) // drops its events that aren't read yet
	r.forget(name, "is suspended")
	return err
}

func (r *replicas) resume(name string) error {
	r.change(func() { r.suspended = "" })
	return r.send(syscall.SIGCONT, name)
}

var signals = map[syscall.Signal]string{syscall.SIGKILL: "KILL", syscall.SIGTERM: "TERM", syscall.SIGSTOP: "STOP", syscall.SIGCONT: "CONT"}

func (r *replicas) send(signal syscall.Signal, name string) error {
	p := r.alive[name].cmd.Process
	fmt.Printf("    kill -%s %d, which is %s\n", signals[signal], p.Pid, name)
	return p.Signal(signal)
}

// busiest returns the replica that counts in the most data planes.
func (r *replicas) busiest() string {
	counts := map[string]int{}
	for subject, replica := range r.owners {
		if !isShard(subject) {
			counts[replica]++
		}
	}
	return slices.MaxFunc(slices.Sorted(maps.Keys(r.alive)), func(a, b string) int { return cmp.Compare(counts[a], counts[b]) })
}

// waitForLeases waits until the number of Leases of shards without a holder is free, and of Leases of replicas members.
func (r *replicas) waitForLeases(ctx context.Context, free, members int) error {
	return wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		leases, err := r.Core.CoordinationV1().Leases(r.Namespace).List(ctx, metav1.ListOptions{})
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

// stopTimeout limits how long a replica may take to end.
const stopTimeout = 20 * time.Second

// process is a replica that runs as a child process.
type process struct {
	cmd      *exec.Cmd
	expected atomic.Bool   // whether its end is expected
	ended    chan struct{} // closed when it has ended and its output is read
}

// startProcess runs this program as a replica, at most until ctx ends, and passes its events to the board. If the replica ends
// unexpectedly, lost gets the error. If this process is killed, the replica's standard input closes, and the replica ends.
func startProcess(ctx context.Context, name string, args []string, b *board, lost func(error)) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, program, append(args, "--child="+name)...)
	var stderr bytes.Buffer
	p.cmd.Stderr = &stderr
	p.cmd.WaitDelay = stopTimeout
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Cancel = func() error {
		// No SIGTERM: Ctrl-C in a terminal signals the replica too, and a second signal would end it at once.
		return errors.Join(stdin.Close(), p.cmd.Process.Signal(syscall.SIGCONT))
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var event Event
			if json.Unmarshal(lines.Bytes(), &event) == nil { // a killed replica may leave a part of a line
				b.report(event)
			}
		}
		err := p.cmd.Wait()
		b.forget(name, "has ended")
		if !p.expected.Load() {
			lost(fmt.Errorf("%s has ended: %w: %s", name, cmp.Or(err, errors.New("no error")), stderr.String()))
		}
	}()
	return p, nil
}
