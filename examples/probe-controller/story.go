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
	"k8s.io/client-go/kubernetes"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// story shows the controller on control planes of its own. Leave this file out when you copy
// the controller.
func story(ctx context.Context, o options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Hour) // the first run builds the control planes
	defer cancel()
	clusters, err := demo.Start(ctx, &demo.Flags{}, 2, os.Stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clusters.Stop()) }()
	client, err := openchoreoclient.NewForConfig(clusters.Management)
	if err != nil {
		return err
	}
	core, err := kubernetes.NewForConfig(clusters.Management)
	if err != nil {
		return err
	}
	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes(clusters.Namespace)
	if err := createDataPlanes(ctx, clusters, dataPlanes); err != nil {
		return err
	}
	fmt.Printf("while this runs, look at it in another terminal:\n  kubectl --kubeconfig %s get dataplanes,events.events.k8s.io\n", clusters.Kubeconfig)

	// Shorter times than a fleet needs, so that the story goes on.
	o.interval, o.minBackoff, o.maxBackoff, o.listen = 2*time.Second, time.Second, 2*time.Second, "127.0.0.1:0"
	controlling, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		defer cancel() // nothing else will happen
		ended <- run(controlling, clusters.Management, clusters.Namespace, o)
	}()
	err = watchIt(ctx, clusters, dataPlanes, core)
	stop()
	if runErr := <-ended; runErr != nil {
		return runErr
	}
	return err
}

// createDataPlanes creates one data plane that works, and three that don't.
func createDataPlanes(ctx context.Context, clusters *demo.Clusters, dataPlanes openchoreotyped.DataPlaneInterface) error {
	first, second := clusters.Targets[0], clusters.Targets[1]
	for _, plane := range []struct {
		name   string
		target *demo.Target
		spoil  func(*openchoreov1alpha1.APIServerCredentials)
	}{
		{"production", first, func(*openchoreov1alpha1.APIServerCredentials) {}},
		{"staging", second, func(*openchoreov1alpha1.APIServerCredentials) {}},
		{"mixed-up", second, func(creds *openchoreov1alpha1.APIServerCredentials) {
			creds.APIServerURL = first.URL() // whose certificate isn't signed by the CA of the second
		}},
		{"cut-short", first, func(creds *openchoreov1alpha1.APIServerCredentials) {
			creds.ClientKey = creds.ClientKey[:len(creds.ClientKey)/2+1]
		}},
	} {
		dp, err := clusters.DataPlane(ctx, plane.target, plane.name)
		if err != nil {
			return err
		}
		plane.spoil(&dp.Spec.KubernetesCluster.Credentials)
		if _, err := dataPlanes.Create(ctx, dp, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return second.APIServer.Stop()
}

func watchIt(ctx context.Context, clusters *demo.Clusters, dataPlanes openchoreotyped.DataPlaneInterface, core kubernetes.Interface) error {
	fmt.Println("\nresults of the first probes:")
	for _, name := range []string{"production", "staging", "mixed-up", "cut-short"} {
		if err := show(ctx, dataPlanes, name, func(v helpers.Verdict) bool { return v.Code == helpers.CodeCurrent }); err != nil {
			return err
		}
	}

	fmt.Println("\nthe API server of staging starts:")
	if err := clusters.Targets[1].APIServer.Start(ctx); err != nil {
		return err
	}
	if err := show(ctx, dataPlanes, "staging", func(v helpers.Verdict) bool { return v.Status == metav1.ConditionTrue }); err != nil {
		return err
	}

	fmt.Println("\nEvents:")
	return showEvents(ctx, core, clusters.Namespace, "staging")
}

// show waits for a verdict on the condition Connected, and prints it.
func show(ctx context.Context, dataPlanes openchoreotyped.DataPlaneInterface, name string, wanted func(helpers.Verdict) bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	dp, err := await.For(ctx, dataPlanes, name, await.Match("the result of the next probe", func(r helpers.Report) bool {
		return wanted(r.Verdict(openchoreov1alpha1.DataPlaneConditionConnected))
	}))
	if err != nil {
		return err
	}
	verdict := helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionConnected)
	fmt.Printf("  %-10s  %-5s  %-18s  %s\n", dp.Name, verdict.Status, verdict.Reason, verdict.Message)
	return nil
}

// showEvents prints the Events of all data planes. It waits for the one that the data plane
// connected is reachable, because Events come a moment after conditions.
func showEvents(ctx context.Context, core kubernetes.Interface, namespace, connected string) error {
	var list *eventsv1.EventList
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (found bool, err error) {
		if list, err = core.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{}); err != nil {
			return false, err
		}
		for _, event := range list.Items {
			found = found || event.Regarding.Name == connected && event.Reason == string(remote.ReachabilityReachable)
		}
		return found, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the Event of %s: %w", connected, err)
	}
	slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	for _, event := range list.Items {
		fmt.Printf("  %-7s  %-18s  %-10s  %s\n", event.Type, event.Reason, event.Regarding.Name, event.Note)
	}
	return nil
}
