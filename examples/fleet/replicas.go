// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
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

	step := func(title string, do func(ctx context.Context) error) demo.Step {
		return demo.Step{Title: title, Do: func(ctx context.Context) error { return r.step(ctx, do) }}
	}
	var suspended string
	err = demo.Play(ctx, os.Stdout, []demo.Step{
		step(fmt.Sprintf("%d replicas share %d shards; a Lease lasts %s", o.replicas, shards, lease), func(context.Context) error {
			return r.add(ctx, o.replicas)
		}),
		step("the replica with most runs is killed (SIGKILL)", func(ctx context.Context) error {
			return r.end(ctx, syscall.SIGKILL, r.busiest())
		}),
		step("the replica with most runs is suspended (SIGSTOP)", func(context.Context) error {
			suspended = r.busiest()
			r.change(func() { r.suspended = suspended })
			r.forget(suspended)
			return r.alive[suspended].cmd.Process.Signal(syscall.SIGSTOP)
		}),
		step("it goes on (SIGCONT)", func(context.Context) error {
			r.change(func() { r.suspended = "" })
			return r.alive[suspended].cmd.Process.Signal(syscall.SIGCONT)
		}),
		step("another replica is added", func(context.Context) error { return r.add(ctx, 1) }),
		step("the replica with most runs ends in order (SIGTERM)", func(ctx context.Context) error {
			return r.end(ctx, syscall.SIGTERM, r.busiest())
		}),
		{Title: fmt.Sprintf("the others delete the member Lease of the killed one, 10 times %s after its last renewal", lease), Do: func(ctx context.Context) error {
			return r.waitForLeases(ctx, 0, len(r.alive))
		}},
		{Title: "all replicas end in order (SIGTERM)", Do: func(ctx context.Context) error {
			if err := r.end(ctx, syscall.SIGTERM, slices.Collect(maps.Keys(r.alive))...); err != nil {
				return err
			}
			return r.waitForLeases(ctx, shards, 0)
		}},
	})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // such as a replica that has ended
	}
	return err
}

// step does something to the replicas, and creates a Deployment. It waits until the replicas
// share all shards evenly, each data plane has one run, and all Deployments are counted. Then
// it prints how long that took and what has moved.
func (r *replicas) step(ctx context.Context, do func(ctx context.Context) error) error {
	since := time.Now()
	if err := do(ctx); err != nil {
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
		fmt.Printf("%s is process %d\n", name, p.cmd.Process.Pid)
	}
	return nil
}

// end ends replicas by a signal, and returns when they have ended.
func (r *replicas) end(ctx context.Context, signal syscall.Signal, names ...string) error {
	for _, name := range names {
		fmt.Printf("%s gets %s\n", name, signal)
		r.alive[name].expected.Store(true)
		if err := r.alive[name].cmd.Process.Signal(signal); err != nil {
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
	if err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
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
	}); err != nil {
		return err
	}
	fmt.Printf("there are %d free Leases of shards, and %d member Leases\n", free, members)
	return nil
}

// stopTimeout limits how long a replica may take to end.
const stopTimeout = 20 * time.Second

// process is a replica that runs as a child process.
type process struct {
	cmd      *exec.Cmd
	expected atomic.Bool   // whether it should end
	ended    chan struct{} // closed when it has ended and its output is read
}

// startProcess runs this program as a replica, until ctx ends at the latest. The replica also
// ends when this process is killed, because that closes its standard input. Its events go to
// the board. lost is called with the error if the replica ends unexpectedly.
func startProcess(ctx context.Context, name string, args []string, b *board, lost func(error)) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, program, append(args, "--replica="+name, "--until-eof", "-o=json")...)
	p.cmd.Stderr = os.Stderr
	p.cmd.WaitDelay = stopTimeout
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Cancel = func() error {
		// No SIGTERM: Ctrl-C in a terminal already sends a signal, and a second one ends it at once.
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
			if json.Unmarshal(lines.Bytes(), &event) == nil { // it may be killed while it writes
				b.report(event)
			}
		}
		err := p.cmd.Wait()
		b.forget(name)
		if !p.expected.Load() {
			lost(fmt.Errorf("%s has ended: %w", name, cmp.Or(err, errors.New("no error"))))
		}
	}()
	return p, nil
}
