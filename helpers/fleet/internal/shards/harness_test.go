// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package shards_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/shards"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/testleases"
)

const (
	leaseDuration = 15 * time.Second
	retryPeriod   = 2 * time.Second
	// moment is how long a few rounds take.
	moment = 4 * retryPeriod
	// forever is the drain of runs that don't return.
	forever = 1000 * time.Hour
	// keys is how many keys the replicas share. Key k belongs to shard k % shards, so that programs
	// with 4 and with 8 shards share the same keys.
	keys = 16
)

// TestMain hides the log of leader election, unless tests are verbose.
func TestMain(m *testing.M) {
	flag.Parse()
	if !testing.Verbose() {
		os.Stderr, _ = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	m.Run()
}

// program has the Leases and runs of its replicas. It must be used in a synctest bubble.
type program struct {
	t      *testing.T
	leases *testleases.Server
	name   string
	shards int
	runs   *testleases.History[int] // by key
}

// replica is a Replica of a program.
type replica struct {
	*shards.Replica
	program *program
	options shards.Options
	client  *testleases.Client
	drain   time.Duration // how long its runs take to return
	stop    context.CancelFunc
	result  chan error

	mu    sync.Mutex
	terms []*term
}

// begun returns the terms of a replica, when the bubble is idle.
func (r *replica) begun() []*term {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.terms)
}

// canceled returns the terms whose runs were canceled.
func (r *replica) canceled() []*term {
	return slices.DeleteFunc(r.begun(), func(t *term) bool { return t.canceled() == nil })
}

// term is a fake of the runs of a shard, which return when they have drained or are abandoned.
type term struct {
	replica  *replica
	shard    int
	returned chan struct{}

	mu    sync.Mutex
	cause error
	begun bool // there are runs
	ended bool // its runs have returned
	calls []call
}

// call is a call of a method of a term.
type call struct {
	method string
	at     time.Time
	holds  bool // whether the replica holds the Lease
}

// called records a call. The caller holds t.mu.
func (t *term) called(method string) {
	p, o := t.replica.program, t.replica.options
	holder := p.leases.Holders()[fmt.Sprintf("%s-%d-%d", o.Name, o.Shards, t.shard)]
	t.calls = append(t.calls, call{method, time.Now(), strings.HasPrefix(holder, o.Identity+"_")})
}

func (t *term) eachKey(f func(key int)) {
	for key := t.shard; key < keys; key += t.replica.options.Shards {
		f(key)
	}
}

// canceled returns why its runs were canceled, or nil.
func (t *term) canceled() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cause
}

// over returns whether the term has ended.
func (t *term) over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.calls, func(c call) bool { return c.method == "End" })
}

func (t *term) Start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.called("Start")
	if t.cause == nil {
		t.begun = true
		t.eachKey(func(key int) { t.replica.program.runs.Begin(key, t.replica.options.Identity) })
	}
}

func (t *term) CancelRuns(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.called("CancelRuns")
	t.cause = cause
	drain := t.replica.drain
	if !t.begun {
		drain = 0
	}
	time.AfterFunc(drain, t.end)
}

func (t *term) AbandonRuns() {
	t.mu.Lock()
	t.called("AbandonRuns")
	assert.Error(t.replica.program.t, t.cause, "CancelRuns comes before")
	t.mu.Unlock()
	t.end()
}

// end ends the runs.
func (t *term) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.ended = true
		t.eachKey(func(key int) { t.replica.program.runs.End(key, t.replica.options.Identity, t.cause) })
		close(t.returned)
	}
}

func (t *term) Wait() { <-t.returned }

func (t *term) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.called("End")
	assert.True(t.replica.program.t, t.ended, "Wait comes before")
}

// times returns how many times to repeat what is random: n times, or a fifth of it in a short run.
func times(n int) int {
	if testing.Short() {
		return n / 5
	}
	return n
}

// bubble calls test with a program of the given number of shards.
func bubble(t *testing.T, shards int, test func(t *testing.T, p *program)) {
	t.Helper()
	testleases.Bubble(t, func(t *testing.T) {
		test(t, &program{t: t, leases: testleases.NewServer(), name: "test", shards: shards, runs: testleases.NewHistory[int]()})
	})
}

// start starts a replica whose runs return as soon as they are canceled.
func (p *program) start(name string, edits ...func(*replica)) *replica {
	r := &replica{program: p, client: p.leases.Client(), result: make(chan error, 1)}
	r.options = shards.Options{
		Leases: r.client, Namespace: "system", Name: p.name, Identity: name, Shards: p.shards, LeaseDuration: leaseDuration,
		NewTerm: func(shard int) shards.Term {
			t := &term{replica: r, shard: shard, returned: make(chan struct{})}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.terms = append(r.terms, t)
			return t
		},
	}
	for _, edit := range edits {
		edit(r)
	}
	r.Replica = shards.New(r.options)
	ctx, stop := context.WithCancel(p.t.Context())
	r.stop = stop
	go func() { r.result <- r.Run(ctx) }()
	return r
}

// drains sets how long a replica's runs take to return.
func drains(drain time.Duration) func(*replica) { return func(r *replica) { r.drain = drain } }

// of sets a replica's number of shards.
func of(shards int) func(*replica) { return func(r *replica) { r.options.Shards = shards } }

// meets sets the faults of a replica's requests.
func meets(fault func(verb string) testleases.Fault) func(*replica) {
	return func(r *replica) { r.client.SetFault(fault) }
}

// hasJoined returns whether the replica has a share of the shards.
func (r *replica) hasJoined() bool {
	s := r.Status()
	return len(s.Leads)+len(s.Waiting) > 0
}

// kill ends a replica without a shutdown.
func (r *replica) kill() {
	r.client.SetFault(testleases.CutOff)
	r.program.runs.Kill(r.options.Identity)
	r.stop()
}

// requireShared requires that replicas share the shards evenly, and run all keys once.
func (p *program) requireShared(replicas ...*replica) {
	p.t.Helper()
	synctest.Wait()
	leads := map[string][]int{}
	for _, r := range replicas {
		s := r.Status()
		require.NoError(p.t, s.LastError, s.Identity)
		require.Empty(p.t, s.Waiting, "%+v", s)
		require.Len(p.t, s.Replicas, len(replicas), s.Identity)
		leads[r.options.Identity] = s.Leads
	}
	testleases.RequireShared(p.t, p.shards, keys, leads, p.runs)
}

// stop shuts replicas down.
func (p *program) stop(replicas ...*replica) {
	p.t.Helper()
	for _, r := range replicas {
		r.stop()
		require.NoError(p.t, <-r.result)
	}
}

// end shuts replicas down, and requires that nothing is left.
func (p *program) end(replicas ...*replica) {
	p.t.Helper()
	p.stop(replicas...)
	p.leases.RequireReleased(p.t, p.shards)
	require.Empty(p.t, p.runs.Current(p.t))
}
