// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// A copy of the controller needs no demonstration.
func init() { demonstrate = play }

// play shows the controller on control planes that it starts, and returns the exit code.
func play(o options) int {
	// Shorter times than for a fleet, so that the story is short.
	o.interval, o.minBackoff, o.maxBackoff, o.listen = 2*time.Second, time.Second, 2*time.Second, "127.0.0.1:0"
	slog.SetDefault(slog.New(slog.DiscardHandler))
	klog.SetSlogLogger(slog.Default())
	return demo.Run(name, &demo.Flags{}, 2, func(ctx context.Context, clusters *demo.Clusters) error {
		gateway := dataplanetest.NewGateway()
		defer gateway.Close()
		o.gateway = *gateway.Config()
		s := &story{clusters, gateway}
		if err := s.create(ctx); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			defer cancel() // ends the story if the controller fails
			ended <- run(ctx, clusters.Management, clusters.Namespace, o)
		}()
		err := demo.Play(ctx, os.Stdout, []demo.Step{
			{Title: "The controller probes four DataPlanes, and writes the results to their condition Connected", Do: s.showFirst},
			{Title: "The API server of staging starts: the next probe succeeds", Do: s.startStaging},
			{Title: "A ClusterDataPlane of OpenChoreo v1, probed through a stand-in for the cluster gateway, loses its agent: it gets Events only", Do: s.loseAgent},
			{Title: "The Events of all data planes", Do: s.showEvents},
		})
		cancel()
		if runErr := <-ended; runErr != nil {
			return runErr
		}
		if err == nil {
			fmt.Println("\nDone: each change of a result became an Event, and a condition where OpenChoreo doesn't report one itself.")
			fmt.Println("Next: go -C examples run ./probe-controller --kubeconfig FILE, or copy the folder and deploy it with manifest.yaml.")
		}
		return err
	})
}

type story struct {
	*demo.Clusters
	gateway *dataplanetest.Gateway // a stand-in for OpenChoreo's
}

// create creates one DataPlane that works, and three that don't.
func (s *story) create(ctx context.Context) error {
	if err := s.Plane.InstallCRDs(ctx, crds.ClusterDataPlane()); err != nil {
		return err
	}
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
	fmt.Printf("    %-10s  %-9s  %-18s  %s\n", "DATAPLANE", "CONNECTED", "REASON", "MESSAGE")
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
	fmt.Printf("    %-10s  %-9s  %-18s  %s\n", dp.Name, verdict.Status, verdict.Reason, verdict.Message)
	return nil
}

// loseAgent shows Events of a data plane that gets no condition.
func (s *story) loseAgent(ctx context.Context) error {
	const plane = "default" // the name that OpenChoreo's installer gives
	s.gateway.Connect(plane, dataplanetest.Agent(s.Targets[0].Config()))
	if _, err := s.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Create(ctx, dataplanetest.ClusterDataPlane(plane), metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := s.showEvent(ctx, plane, remote.ReachabilityReachable); err != nil {
		return err
	}
	s.gateway.Disconnect(plane)
	return s.showEvent(ctx, plane, remote.ReachabilityNoAgent)
}

// showEvent waits for an Event and prints it.
func (s *story) showEvent(ctx context.Context, plane string, reason remote.Reachability) error {
	return wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		list, err := s.Core.EventsV1().Events(s.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, event := range list.Items {
			if event.Regarding.Name == plane && event.Reason == string(reason) {
				printEvent(event)
				return true, nil
			}
		}
		return false, nil
	})
}

// showEvents prints the Events of all data planes.
func (s *story) showEvents(ctx context.Context) error {
	list, err := s.Core.EventsV1().Events(s.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	for _, event := range list.Items {
		if event.ReportingController == name {
			printEvent(event)
		}
	}
	return nil
}

func printEvent(event eventsv1.Event) {
	fmt.Printf("    %-7s  %-18s  %s %s: %s\n", event.Type, event.Reason, event.Regarding.Kind, event.Regarding.Name, event.Note)
}
