// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

const dataPlaneName = "production-dataplane"

// story lets several field managers change a DataPlane, so that there is something to watch.
type story struct {
	*demo.Clusters
	handled chan struct{} // receives one value when the watcher has handled a change
}

func (s *story) play(ctx context.Context) error {
	steps := []demo.Step{
		{Title: "operator creates a DataPlane", Do: s.create},
		{Title: "three controllers report one condition each", Do: s.observe},
		{Title: "platform-team sets a pull secret: all conditions become stale", Do: s.apply("platform-team", "registry-credentials")},
		{Title: "audit applies the same value: no line follows, since no field changes", Do: s.apply("audit", "registry-credentials")},
		{Title: "the controllers observe the new generation", Do: s.observe},
		{Title: "rotator replaces the client certificate and its key", Do: s.rotate},
		{Title: "the gateway fails", Do: s.report("gateway-controller", openchoreov1alpha1.DataPlaneConditionGatewayProvisioned, metav1.ConditionFalse, "NoAddress")},
		{Title: "audit gives up the pull secret, which platform-team still sets: no line follows", Do: s.apply("audit", "")},
		{Title: "platform-team gives up the pull secret too, which removes it", Do: s.apply("platform-team", "")},
		{Title: "operator deletes the DataPlane", Do: s.delete},
		{Title: "operator creates a ClusterDataPlane, which holds no credentials", Do: s.createClusterDataPlane},
		{Title: "OpenChoreo reports the agent, from which Connected and Ready follow", Do: s.reportAgent(true)},
		{Title: "OpenChoreo reports a heartbeat: no line follows", Do: s.reportAgent(true)},
		{Title: "the agent is gone", Do: s.reportAgent(false)},
	}
	if err := demo.Play(ctx, os.Stderr, steps); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "\nNext: go -C examples run ./watch --kubeconfig FILE -A, which only reads; -o wide adds reasons.")
	return nil
}

// changed waits until the watcher has handled the change that a request made. Then it waits a moment, for
// people to follow, and because managed fields store whole seconds.
func (s *story) changed(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	select {
	case <-s.handled:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return ctx.Err()
}

func (s *story) create(ctx context.Context) error {
	credentials, err := s.Itself().Credentials(ctx, "production")
	if err != nil {
		return err
	}
	_, err = s.DataPlanes.Create(ctx, demo.NewDataPlane(s.Namespace, dataPlaneName, "production-cluster", credentials),
		metav1.CreateOptions{FieldManager: "operator"})
	return s.changed(ctx, err)
}

func (s *story) observe(ctx context.Context) error {
	for _, report := range []func(context.Context) error{
		s.report("readiness-controller", openchoreov1alpha1.DataPlaneConditionReady, metav1.ConditionTrue, "AllIsWell"),
		s.report("connectivity-controller", openchoreov1alpha1.DataPlaneConditionConnected, metav1.ConditionTrue, "Answers"),
		s.report("gateway-controller", openchoreov1alpha1.DataPlaneConditionGatewayProvisioned, metav1.ConditionTrue, "Configured"),
	} {
		if err := report(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) report(manager, conditionType string, status metav1.ConditionStatus, reason string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := s.SetCondition(ctx, dataPlaneName, manager, metav1.Condition{
			Type: conditionType, Status: status, Reason: reason, Message: "set by the example",
		})
		return s.changed(ctx, err)
	}
}

// apply makes manager apply a display name, and a pull secret unless secretRef is "".
func (s *story) apply(manager, secretRef string) func(context.Context) error {
	return func(ctx context.Context) error {
		wanted := openchoreoapply.DataPlane(dataPlaneName, s.Namespace).
			WithAnnotations(map[string]string{openchoreov1alpha1.AnnotationDisplayName: "Production"})
		if secretRef != "" {
			wanted.WithSpec(openchoreoapply.DataPlaneSpec().WithRegistry(openchoreoapply.Registry().WithSecretRef(secretRef)))
		}
		_, err := s.DataPlanes.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: manager})
		return s.changed(ctx, err)
	}
}

func (s *story) rotate(ctx context.Context) error {
	credentials, err := s.Itself().Credentials(ctx, "production")
	if err != nil {
		return err
	}
	_, err = s.Rotate(ctx, dataPlaneName, credentials)
	return s.changed(ctx, err)
}

func (s *story) delete(ctx context.Context) error {
	return s.changed(ctx, s.DataPlanes.Delete(ctx, dataPlaneName, metav1.DeleteOptions{}))
}

const clusterDataPlaneName = "default"

func (s *story) createClusterDataPlane(ctx context.Context) error {
	_, err := s.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Create(ctx, dataplanetest.ClusterDataPlane(clusterDataPlaneName),
		metav1.CreateOptions{FieldManager: "operator"})
	return s.changed(ctx, err)
}

// reportAgent writes the status that OpenChoreo v1 writes each minute.
func (s *story) reportAgent(connected bool) func(context.Context) error {
	return func(ctx context.Context) error {
		clusterDataPlanes := s.Client.OpenChoreoV1alpha1().ClusterDataPlanes()
		stored, err := clusterDataPlanes.Get(ctx, clusterDataPlaneName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now := metav1.Now()
		stored.Status.AgentConnection = &openchoreov1alpha1.AgentConnectionStatus{Connected: connected, LastHeartbeatTime: &now}
		if connected {
			stored.Status.AgentConnection.ConnectedAgents = 1
		}
		_, err = clusterDataPlanes.UpdateStatus(ctx, stored, metav1.UpdateOptions{FieldManager: "openchoreo"})
		return s.changed(ctx, err)
	}
}
