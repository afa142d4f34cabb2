// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package differential compares the fake of helpers/dataplanetest with a real API server by
// random requests: both get the same ones, and what they answer and what their watches send must
// be equal. Only tests import it.
//
// A seed makes the same requests each time, so the seed that found a difference shows it again.
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
)

// patience is how long to wait for an event that must come.
const patience = time.Minute

// Server is one of the two, with two namespaces that are empty.
type Server struct {
	Name       string
	Client     openchoreoclient.Interface
	Namespaces [2]string
}

// step is a request, the same for both servers.
type step struct {
	name   string
	dryRun bool
	// One of them: read returns what is compared, and write an object, which is compared.
	read  func(context.Context, *side) outcome
	write func(ctx context.Context, s *side, dryRun []string) (*v1alpha1.DataPlane, error)
}

// outcome is what a server answers.
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

// Run sends random requests, made of a seed, to both servers. It returns the first difference, or
// "" if there is none.
//
// The fake doesn't validate objects. So a request whose result would be invalid, as a dry run
// shows, is sent to neither.
//
// Managers are in the order of their times, in whole seconds. After a write that the two servers
// may have got in different seconds, a difference skips the test.
func Run(t *testing.T, seed uint64, steps int, fake, server Server) string {
	t.Helper()
	difference, apart := compare(t, seed, steps, fake, server)
	if difference != "" && apart {
		t.Skipf("the servers may have got a write in different seconds: %s", difference)
	}
	return difference
}

// compare returns the first difference, and whether the servers may have got a write in different
// seconds before it.
func compare(t *testing.T, seed uint64, steps int, fake, server Server) (difference string, apart bool) {
	t.Helper()
	sides := [2]*side{newSide(fake), newSide(server)}
	defer sides[0].stop()
	defer sides[1].stop()
	g := &generator{rand.New(rand.NewPCG(seed, 0))}
	all := []step{}
	for range steps {
		all = append(all, g.step())
	}
	all = append(all, endSteps()...)
	for i, step := range all {
		if step.write != nil && !leavesValid(t.Context(), step, sides[0]) {
			continue
		}
		second := waitForSecond()
		one, other := step.send(t.Context(), sides[0]), step.send(t.Context(), sides[1])
		apart = apart || step.write != nil && time.Now().Unix() != second
		if one.compared != other.compared {
			return fmt.Sprintf("seed %d, step %d: %s\n%s", seed, i, step.name, show(sides, one, other)), apart
		}
	}
	for i := range sides[0].watches {
		for end, event := false, 0; !end; event++ {
			var one, other outcome
			one, end = sides[0].nextEvent(t, i)
			other, _ = sides[1].nextEvent(t, i)
			if one.compared != other.compared {
				return fmt.Sprintf("seed %d, event %d of %s\n%s", seed, event, sides[0].watches[i].name, show(sides, one, other)), apart
			}
		}
	}
	return "", apart
}

// waitForSecond waits until enough of a second is left for most steps, and returns the second.
func waitForSecond() int64 {
	const enough = 250 * time.Millisecond
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

// leavesValid reports whether the result of a step on the fake has all that the definition of
// DataPlane requires. No step makes a required field empty, so an empty one is absent.
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
	for _, condition := range dp.Status.Conditions {
		if condition.Status == "" || condition.Reason == "" || condition.Message == "" || condition.LastTransitionTime.IsZero() {
			return false
		}
	}
	spec := dp.Spec
	required := []string{
		spec.KubernetesCluster.Name, spec.KubernetesCluster.Credentials.APIServerURL, spec.KubernetesCluster.Credentials.CACert,
		spec.KubernetesCluster.Credentials.ClientCert, spec.KubernetesCluster.Credentials.ClientKey,
		spec.Registry.Prefix, spec.Gateway.PublicVirtualHost, spec.Gateway.OrganizationVirtualHost,
	}
	if observer := spec.Observer; observer != nil {
		required = append(required, observer.URL, observer.Authentication.BasicAuth.Username, observer.Authentication.BasicAuth.Password)
	}
	for _, value := range required {
		if value == "" {
			return false
		}
	}
	return true
}
