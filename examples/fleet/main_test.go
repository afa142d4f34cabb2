// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

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
	assert.Contains(t, string(metrics), "\nfleet_running{name=\"target-1-a\",namespace=\"default\"} 1\n")

	require.Zero(t, p.Wait(), p)
	for _, want := range []string{
		`12 Deployments in 6 of 6 data planes`,
		`target-1-b +Rotated`,
		`target-2-a +Retrying .*connection refused`,
		`target-1-a +Gone +data plane was deleted`,
		`default +target-1-b +Running +\S+ +0 +-\n`,       // it goes on
		`default +target-2-a +Running +\S+ +[1-9]\d* +\w`, // it had to start again
		`Stopped +fleet is stopped.*\(all: 0 Deployments in 0 of 0 data planes\)\n$`,
	} {
		assert.Regexp(t, want, p.Stdout())
	}
	p.LeavesNothing()
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, "fleet", "--replicas=3")
	require.Zero(t, p.Wait(), p)
	assert.Regexp(t, `(?s)3 replicas share 12 shards.*SIGKILL.*SIGSTOP.*SIGCONT.*is added.*SIGTERM.*all replicas end in order`, p.Stdout())
	assert.Equal(t, 6, strings.Count(p.Stdout(), "all data planes are counted, each by one replica. Moved:"))
	killed := regexp.MustCompile(`(replica-\d) gets killed\n`).FindStringSubmatch(p.Stdout())[1]
	assert.Regexp(t, "(?m)^  from "+killed+" to replica-", p.Stdout())
	assert.Contains(t, p.Stdout(), "there are 0 free Leases of shards, and 2 member Leases\n")
	assert.Regexp(t, `there are 12 free Leases of shards, and 0 member Leases\n$`, p.Stdout())
	p.LeavesNothing()
}

func TestInterruptEndsReplicas(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, "fleet", "--replicas=3", "--lease-duration=4s")
	p.WaitFor("(SIGSTOP)") // one of them can't react to it
	p.Signal(os.Interrupt)
	assert.Zero(t, p.Wait(), p)
	p.LeavesNothing()
}

func TestRefusesBadFlags(t *testing.T) {
	t.Parallel()
	demotest.RefusesBadFlags(t, "fleet", "-o=yaml", "-A", "--shards=2", "--replicas=2",
		"--kubeconfig=x --replicas=3", "--kubeconfig=x --replica=a")
}
