// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
)

func TestMain(m *testing.M) { demotest.Main(m, ".") }

// Each story waits for the numbers that it expects, so a test need not repeat them.
func TestStory(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, "fleet", "--metrics=127.0.0.1:0")
	p.WaitFor("target-2 starts again")
	address := regexp.MustCompile(`metrics: (\S+)`).FindStringSubmatch(p.String())[1]
	response, err := http.Get(address)
	require.NoError(t, err)
	metrics, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.NoError(t, response.Body.Close())
	assert.Contains(t, string(metrics), "\ndataplane_state{name=\"target-1-a\",namespace=\"default\",state=\"Running\"} 1\n")

	require.Zero(t, p.Wait(), p)
	for _, want := range []string{
		`total 12 in 6 of 6 data planes`,
		`target-1-b +Rotated`,
		`target-2-a +Retrying .*connection refused`,
		`target-1-a +Deleted +\(total 9 in 5 of 5 data planes\)`,
		`default +target-1-b +Running +\S+ +0 +-\n`,       // it remains
		`default +target-2-a +Running +\S+ +[1-9]\d* +\w`, // it had to start again
		`Ended +\(total 0 in 0 of 5 data planes\) +fleet is stopped`,
		`\nNext: `,
	} {
		assert.Regexp(t, want, p.Stdout())
	}
	p.LeavesNothing()
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, "fleet", "--replicas=3")
	require.Zero(t, p.Wait(), p)
	assert.Equal(t, 6, strings.Count(p.Stdout(), "one replica counts in each data plane; 12 Leases of shards are held, and "))
	dead := regexp.MustCompile(`(?s)kill -KILL \d+, which is (replica-\d)\n\S+  (replica-\d) has ended  \(total \d+ in [1-4] of 6 data planes\)\n(.*?)\n 3\. `).
		FindStringSubmatch(p.Stdout())
	require.NotNil(t, dead, p)
	assert.Equal(t, dead[1], dead[2])
	assert.Contains(t, dead[3], "held, and 2 of replicas")
	assert.Contains(t, dead[3], "moved from "+dead[1]+" to replica-")
	assert.Regexp(t, `kill -STOP \d+, which is (replica-\d)\n\S+  (replica-\d) is suspended  \(total \d+ in [0-3] of 6`, p.Stdout())
	assert.NotRegexp(t, `of [^6] data planes|in [^0-6] of`, p.Stdout(), "each data plane is counted once")
	assert.Contains(t, p.Stdout(), "the 12 Leases of shards are free, and no Lease of a replica is left\n")
	assert.Contains(t, p.Stdout(), "\nNext: ")
	p.LeavesNothing()
}

func TestInterruptEndsReplicas(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, "fleet", "--replicas=3", "--lease-duration=4s")
	p.WaitFor("is suspended") // a suspended replica can't react to the signal
	p.Signal(syscall.SIGTERM)
	assert.Zero(t, p.Wait(), p)
	p.LeavesNothing()
}

func TestRefusesBadFlags(t *testing.T) {
	t.Parallel()
	demotest.RefusesBadFlags(t, "fleet", "-A", "--shards=2", "--lease-duration=3s", "--replicas=2", "--replicas=3 --shards=-1",
		"--replicas=3 --lease-duration=1500ms", "--replicas=3 --metrics=127.0.0.1:0", "--metrics=nowhere",
		"--gateway-ca=ca.crt", "--kubeconfig=x --replicas=3", "--kubeconfig=x --child=a", "--kubeconfig=x --lease-duration=3s")
}

// The total is right even when a replica is killed, or resumed after others have replaced it.
func TestTotalCountsEachDataPlaneOnce(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := newBoard(&out, "default/a", "default/b")
	now := time.Now()
	report := func(replica, subject string, state state, deployments int) {
		now = now.Add(time.Second)
		b.report(Event{Time: now, Replica: replica, Subject: subject, State: state, Deployments: deployments})
	}
	for _, step := range []struct {
		what string
		do   func()
		want sum
	}{
		{"nobody counts", func() {}, sum{0, 0, 2}},
		{"one replica counts", func() { report("1", "default/a", running, 5); report("1", "default/b", running, 2) }, sum{7, 2, 2}},
		{"a shard is no data plane", func() { report("1", "shard 0", leading, 0) }, sum{7, 2, 2}},
		{"the replica is suspended", func() { b.change(func() { b.suspended = "1" }); b.forget("1", "is suspended") }, sum{0, 0, 2}},
		{"its last words are late", func() { report("1", "default/a", running, 5) }, sum{0, 0, 2}},
		{"another takes over", func() { report("2", "default/a", running, 6); report("2", "default/b", running, 2) }, sum{8, 2, 2}},
		{"it is resumed, and counts too", func() { b.change(func() { b.suspended = "" }); report("1", "default/a", running, 7) }, sum{9, 2, 2}},
		{"it learns that it lost", func() { report("1", "default/a", ended, 0); report("1", "default/b", ended, 0) }, sum{8, 2, 2}},
		{"a run fails", func() { report("2", "default/b", retrying, 0) }, sum{6, 1, 2}},
		{"a data plane is deleted", func() { report("2", "default/b", deleted, 0); report("2", "default/b", gone, 0) }, sum{6, 1, 1}},
		{"the other is killed", func() { b.forget("2", "has ended") }, sum{0, 0, 1}},
	} {
		step.do()
		assert.Equal(t, step.want, b.sum(), step.what)
		if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); strings.Contains(lines[len(lines)-1], "default/") {
			assert.Contains(t, lines[len(lines)-1], "("+step.want.String()+")", step.what)
		}
	}
	assert.Equal(t, 12, strings.Count(out.String(), "\n"), "one line for each event that isn't late: %s", out.String())
}

func TestAWaitThatFailsSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := newBoard(io.Discard, "default/a")
	err := b.wait(ctx, func() string { return b.sum().unless(sum{1, 1, 1}) })
	assert.EqualError(t, err, "total 0 in 0 of 1 data planes, instead of total 1 in 1 of 1 data planes: context canceled")
	assert.NoError(t, b.wait(ctx, func() string { return b.sum().unless(sum{0, 0, 1}) }))
}
