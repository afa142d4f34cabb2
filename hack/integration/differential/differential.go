// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package differential compares the fake of helpers/dataplanetest with a real API server by
// random requests: both get the same requests, and must give the same answers and watch events.
// Only tests import it.
//
// A seed makes the same requests each time, so a seed that found a difference finds it again.
package differential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// patience is how long to wait for an expected event.
const patience = time.Minute

// Server is one of the two servers. Its two namespaces are empty. If the kind is cluster-scoped, it
// has no objects of the kind.
type Server struct {
	Name       string
	Client     openchoreoclient.Interface
	Namespaces [2]string
}

// step is a request that both servers get.
type step struct {
	name   string
	dryRun bool
	// One of them is set. The outcome of read, or the object that write returns, is compared.
	read  func(context.Context, *side) outcome
	write func(ctx context.Context, s *side, dryRun []string) (*v1alpha1.DataPlane, error)
}

// outcome is the answer of a server. Only compared counts; message is for people.
type outcome struct{ compared, message string }

func (s step) send(ctx context.Context, side *side) (result outcome) {
	defer func() {
		if reason := recover(); reason != nil {
			result = outcome{compared: fmt.Sprint("panic: ", reason)}
		}
	}()
	if s.read != nil {
		return s.read(ctx, side)
	}
	dp, err := s.write(ctx, side, nil)
	if err == nil && !s.dryRun {
		side.objects = append(side.objects, dp)
	}
	return side.answer(dp, err)
}

// difference is the first difference between the two servers. text is empty if there is none.
type difference struct {
	place, text string
	// apart means that the servers may have received an earlier write in different seconds.
	apart bool
}

// Run sends random requests for objects of a kind, made from a seed, to both servers. It returns the
// first difference, or "" if there is none.
//
// The fake doesn't validate objects. If a dry run shows that the result of a request would be
// invalid, neither server gets the request.
//
// The managers of an object are sorted by their times, in whole seconds. After a write that the
// servers received in different seconds, a difference may be no fault, so Run tries again with new
// servers. The difference counts if it is in the same place each time; otherwise, the test is
// skipped.
func Run(t *testing.T, kind behaviours.Kind, seed uint64, steps int, newServers func() (fake, server Server)) string {
	t.Helper()
	const attempts = 4
	places := map[string]bool{}
	var found difference
	for attempt := range attempts {
		fake, server := newServers()
		left := time.Duration(attempt+1) * 200 * time.Millisecond
		found = compare(t, left, [2]*side{newSide(kind, fake), newSide(kind, server)}, &generator{rand.New(rand.NewPCG(seed, 0)), kind}, steps)
		if !found.apart || found.text == "" {
			break
		}
		places[found.place] = true
	}
	if found.text == "" {
		return ""
	}
	text := fmt.Sprintf("seed %d, %s of a %s\n%s", seed, found.place, kind.Title, found.text)
	if found.apart && len(places) > 1 {
		t.Skipf("the servers may have got a write in different seconds: %s", text)
	}
	return text
}

// compare sends the steps to both sides, each when at least left remains of a second, and compares
// the outcomes and then the events.
func compare(t *testing.T, left time.Duration, sides [2]*side, g *generator, steps int) difference {
	t.Helper()
	defer sides[0].stop()
	defer sides[1].stop()
	all := []step{}
	for range steps {
		all = append(all, g.step())
	}
	all = append(all, g.endSteps()...)
	apart := false
	for i, step := range all {
		if step.write != nil && !leavesValid(t.Context(), step, sides[0]) {
			continue
		}
		second := waitForSecond(left)
		one, other := step.send(t.Context(), sides[0]), step.send(t.Context(), sides[1])
		apart = apart || step.write != nil && time.Now().Unix() != second
		if one.compared != other.compared {
			return difference{fmt.Sprint("step ", i), step.name + "\n" + show(sides, one, other), apart}
		}
	}
	for i := range sides[0].watches {
		for end, event := false, 0; !end; event++ {
			var one, other outcome
			one, end = sides[0].nextEvent(t, i)
			other, _ = sides[1].nextEvent(t, i)
			if one.compared != other.compared {
				return difference{fmt.Sprintf("event %d of watch %d", event, i), sides[0].watches[i].name + "\n" + show(sides, one, other), apart}
			}
		}
	}
	return difference{}
}

// waitForSecond waits until at least enough remains of a second, and returns the second.
func waitForSecond(enough time.Duration) int64 {
	for {
		now := time.Now()
		left := now.Truncate(time.Second).Add(time.Second).Sub(now)
		if left >= enough {
			return now.Unix()
		}
		time.Sleep(left)
	}
}

// show returns the lines in which two outcomes differ.
func show(sides [2]*side, one, other outcome) string {
	only := func(a, b outcome) string {
		lines := strings.Split(a.compared, "\n")
		return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return slices.Contains(strings.Split(b.compared, "\n"), line) }), "\n")
	}
	return fmt.Sprintf("%s answers: %.300s\n%s answers: %.300s\n--- %s\n%s\n--- %s\n%s",
		sides[0].Name, one.message, sides[1].Name, other.message, sides[0].Name, only(one, other), sides[1].Name, only(other, one))
}

// leavesValid reports whether the result of a step on the fake has all fields that the kind's CRD
// requires, and no two conditions of one type. No step makes a required field empty, so an empty one
// is absent.
func leavesValid(ctx context.Context, step step, fake *side) (valid bool) {
	defer func() {
		if recover() != nil {
			valid = true // the panic is found when the step is sent
		}
	}()
	dp, err := step.write(ctx, fake, []string{metav1.DryRunAll})
	if err != nil {
		return true
	}
	types := map[string]bool{}
	for _, condition := range dp.Status.Conditions {
		if types[condition.Type] || condition.Status == "" || condition.Reason == "" || condition.Message == "" || condition.LastTransitionTime.IsZero() {
			return false
		}
		types[condition.Type] = true
	}
	if agent := dp.Status.AgentConnection; agent != nil && !agent.Connected {
		return false
	}
	return fake.kind.Complete(dp)
}
