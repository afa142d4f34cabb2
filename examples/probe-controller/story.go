// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// demonstrate shows the controller on control planes of its own, and exits. Leave this file out
// when you copy the controller.
func demonstrate(o options) {
	// Shorter times than a fleet needs, so that the story goes on.
	o.interval, o.minBackoff, o.maxBackoff, o.listen = 2*time.Second, time.Second, 2*time.Second, "127.0.0.1:0"
	os.Exit(demo.Run(name, &demo.Flags{}, 2, func(ctx context.Context, clusters *demo.Clusters) error {
		s := &story{clusters}
		if err := s.create(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			defer cancel() // nothing else will happen
			ended <- run(ctx, clusters.Management, clusters.Namespace, o)
		}()
		err := demo.Play(ctx, os.Stdout, []demo.Step{
			{Title: "The first probes of four data planes: one works", Do: s.showFirst},
			{Title: "The API server of staging starts", Do: s.startStaging},
			{Title: "Events", Do: s.showEvents},
		})
		cancel()
		if runErr := <-ended; runErr != nil {
			return runErr
		}
		if err == nil {
			fmt.Println("\nNext: go -C examples run ./probe-controller --kubeconfig FILE, or manifest.yaml to deploy it.")
		}
		return err
	}))
}

type story struct{ *demo.Clusters }

// create creates one data plane that works, and three that don't.
func (s *story) create(ctx context.Context) error {
	first, second := s.Targets[0], s.Targets[1]
	_, production := s.Create(ctx, first, "production", nil)
	_, staging := s.Create(ctx, second, "staging", nil)
	_, mixedUp := s.Create(ctx, second, "mixed-up", nil, func(dp *openchoreov1alpha1.DataPlane) {
		dp.Spec.KubernetesCluster.Credentials.APIServerURL = first.URL() // whose certificate isn't signed by the CA of the second
	})
	_, cutShort := s.Create(ctx, first, "cut-short", nil, func(dp *openchoreov1alpha1.DataPlane) {
		key := &dp.Spec.KubernetesCluster.Credentials.ClientKey
		*key = (*key)[:len(*key)/2+1]
	})
	return errors.Join(production, staging, mixedUp, cutShort, second.APIServer.Stop())
}

func (s *story) showFirst(ctx context.Context) (err error) {
	for _, name := range []string{"production", "staging", "mixed-up", "cut-short"} {
		err = errors.Join(err, s.show(ctx, name, func(v helpers.Verdict) bool { return v.Code == helpers.CodeCurrent }))
	}
	return err
}

func (s *story) startStaging(ctx context.Context) error {
	if err := s.Targets[1].APIServer.Start(ctx); err != nil {
		return err
	}
	return s.show(ctx, "staging", func(v helpers.Verdict) bool { return v.Status == metav1.ConditionTrue })
}

// show waits for a verdict on the condition Connected, and prints it.
func (s *story) show(ctx context.Context, name string, wanted func(helpers.Verdict) bool) error {
	dp, err := await.For(ctx, s.DataPlanes, name, await.Match("the result of the next probe", func(r helpers.Report) bool {
		return wanted(r.Verdict(openchoreov1alpha1.DataPlaneConditionConnected))
	}))
	if err != nil {
		return err
	}
	verdict := helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionConnected)
	fmt.Printf("    %-10s  %-5s  %-18s  %s\n", dp.Name, verdict.Status, verdict.Reason, verdict.Message)
	return nil
}

// showEvents prints the Events of all data planes. It waits for the one that staging is reachable,
// because Events come a moment after conditions.
func (s *story) showEvents(ctx context.Context) error {
	var list *eventsv1.EventList
	if err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (_ bool, err error) {
		if list, err = s.Core.EventsV1().Events(s.Namespace).List(ctx, metav1.ListOptions{}); err != nil {
			return false, err
		}
		return slices.ContainsFunc(list.Items, func(event eventsv1.Event) bool {
			return event.Regarding.Name == "staging" && event.Reason == string(remote.ReachabilityReachable)
		}), nil
	}); err != nil {
		return err
	}
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	for _, event := range list.Items {
		fmt.Printf("    %-7s  %-18s  %-10s  %s\n", event.Type, event.Reason, event.Regarding.Name, event.Note)
	}
	return nil
}
