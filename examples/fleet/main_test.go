// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// These tests run the program as users do: built, as a process. They don't run in parallel,
// because a story takes three control planes.

var program string

func TestMain(m *testing.M) { demotest.Main(m, "fleet", &program) }

func TestStory(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program)
	for _, title := range []string{"the Fleet starts", "2 Deployments", "1 Deployment", "its run goes on", "target-2 stops", "target-2 starts", "a DataPlane of target-1 is deleted", "the Fleet's own status", "the Fleet ends"} {
		p.WaitFor(title)
	}
	require.Zero(t, p.Wait(), p)
	var sums []string
	for _, table := range tables(p) {
		sums = append(sums, table.sum)
	}
	assert.Equal(t, []string{
		"0 Deployments in 6 of 6 data planes",
		"9 Deployments in 6 of 6 data planes",
		"6 Deployments in 6 of 6 data planes",
		"9 Deployments in 6 of 6 data planes",
		"9 Deployments in 3 of 6 data planes",
		"12 Deployments in 6 of 6 data planes",
		"9 Deployments in 5 of 5 data planes",
	}, sums)
	for _, want := range []string{
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
	p := demotest.Start(t, program, "--replicas=3")
	for _, title := range []string{"share 12 shards", "(SIGKILL)", "(SIGSTOP)", "(SIGCONT)", "is added", "(SIGTERM)", "the others delete", "all replicas end"} {
		p.WaitFor(title)
	}
	require.Zero(t, p.Wait(), p)
	assert.Regexp(t, `there are 2 member Leases, and 2 replicas\n`, p.Stdout())
	assert.Regexp(t, `the Leases of all 12 shards are free, and there are no member Leases\n$`, p.Stdout())
	subject := func(pattern string) string {
		return regexp.MustCompile(`(?m)^# (replica-\d) ` + pattern).FindStringSubmatch(p.Stdout())[1]
	}
	killed, suspended, ended := subject("is killed"), subject("is suspended"), subject("ends")

	tables := tables(p)
	require.Len(t, tables, 6, p)
	owners := map[string]string{}
	for i, replicas := range []int{3, 2, 1, 2, 3, 2} {
		table := tables[i]
		assert.Equal(t, map[string]int{
			"default/target-1-a": 1, "default/target-1-b": 1, "default/target-1-c": 1,
			"default/target-2-a": 1, "default/target-2-b": 1, "default/target-2-c": 1,
		}, table.planes, "table %d", i)
		assert.Equal(t, fmt.Sprintf("%d Deployments in 6 of 6 data planes", 3*(i+2)), table.sum)

		// What it says to have moved is what leads from the owners before to those after.
		for _, move := range table.moves {
			for _, subject := range move.subjects {
				assert.Equal(t, move.from, cmp.Or(owners[subject], "nobody"), "%s in step %d", subject, i)
				owners[subject] = move.to
			}
		}
		shards := map[string]int{}
		for subject, owner := range owners {
			if strings.HasPrefix(subject, "shard ") {
				shards[owner]++
			} else {
				assert.Equal(t, table.owners[subject], owner, "%s in step %d", subject, i)
			}
		}
		assert.Len(t, owners, 12+6)
		assert.Len(t, shards, replicas, "replicas that lead shards in step %d", i)
		for _, n := range shards {
			assert.Equal(t, 12/replicas, n, "shards of a replica in step %d", i)
		}
		switch i {
		case 1:
			assert.NotContains(t, shards, killed)
			assert.GreaterOrEqual(t, table.seconds, 3-0.4, "a Lease is kept for a replica that is gone") // it was renewed every 0.4 s
		case 2:
			assert.NotContains(t, shards, suspended)
			assert.GreaterOrEqual(t, table.seconds, 3-0.4)
		case 3:
			assert.Contains(t, shards, suspended)
		case 4:
			assert.Contains(t, shards, "replica-4")
		case 5:
			assert.NotContains(t, shards, ended)
		}
	}
	p.LeavesNothing()
}

func TestInterruptEndsReplicas(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program, "--replicas=3", "--lease-duration=4s")
	p.WaitFor("(SIGSTOP)") // one of them can't react to it
	p.Signal(os.Interrupt)
	assert.Equal(t, 130, p.Wait(), p)
	assert.NotContains(t, strings.ReplaceAll(p.String(), "fleet: interrupted", ""), "fleet: ", "an interrupt is no error")
	p.LeavesNothing()
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"extra"},
		{"-o=yaml"},
		{"-A"},
		{"--shards=2"},
		{"--replicas=2"},
		{"--kubeconfig=x", "--replicas=3"},
		{"--kubeconfig=x", "--replica=a"},
	} {
		p := demotest.Start(t, program, args...)
		assert.Equal(t, 2, p.Wait(), args)
	}
	p := demotest.Start(t, program, "--kubeconfig="+filepath.Join(t.TempDir(), "none"))
	assert.Equal(t, 1, p.Wait())
	assert.Contains(t, p.String(), "no such file")
}

// table is a table in the output, with what comes right before it.
type table struct {
	planes  map[string]int    // lines of each that runs
	owners  map[string]string // replicas of the data planes
	sum     string
	seconds float64 // that the step took
	moves   []move
}

type move struct {
	from, to string
	subjects []string
}

func tables(p *demotest.Process) (result []table) {
	parts := strings.Split(p.Stdout(), "REPLICA\n")
	for i, text := range parts[1:] {
		t := table{planes: map[string]int{}, owners: map[string]string{}}
		for line := range strings.Lines(text) {
			fields := strings.Fields(line)
			if fields[1] == "Deployments" {
				t.sum = strings.TrimSpace(line)
				break
			}
			if fields[1] == string(fleet.StateRunning) {
				t.planes[fields[0]]++
				t.owners[fields[0]] = fields[3]
			}
		}
		step := parts[i][max(0, strings.LastIndex(parts[i], "\n# ")):]
		if took := regexp.MustCompile(`(\S+) s later, all data planes are counted`).FindStringSubmatch(step); took != nil {
			t.seconds, _ = strconv.ParseFloat(took[1], 64)
		}
		for _, m := range regexp.MustCompile(`(?m)^  from (\S+) to (\S+): (.+)$`).FindAllStringSubmatch(step, -1) {
			t.moves = append(t.moves, move{m[1], m[2], strings.Split(m[3], ", ")})
		}
		result = append(result, t)
	}
	return result
}
