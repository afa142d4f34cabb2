// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

const (
	targets         = 2
	planesPerTarget = 3
)

// stage is the setting of a story.
type stage struct {
	*demo.Clusters
	*board
}

// newStage creates DataPlanes, several for each target.
func newStage(ctx context.Context, clusters *demo.Clusters) (*stage, error) {
	fmt.Printf("\n# %d DataPlanes, %d for each of %d clusters; each counts all Deployments of its cluster\n", targets*planesPerTarget, planesPerTarget, targets)
	for _, target := range clusters.Targets {
		for i := range planesPerTarget {
			if _, err := clusters.Create(ctx, target, planeName(target, i), []rbacv1.PolicyRule{mayCount}); err != nil {
				return nil, err
			}
		}
	}
	fmt.Printf("while this runs, look at them in another terminal:\n  kubectl --kubeconfig %s get dataplanes,leases\n\n", clusters.Plane.KubeconfigFile())
	return &stage{clusters, newBoard(os.Stdout)}, nil
}

var mayCount = rbacv1.PolicyRule{APIGroups: []string{appsv1.GroupName}, Resources: []string{"deployments"}, Verbs: []string{"list", "watch"}}

func planeName(target *demo.Target, i int) string { return fmt.Sprintf("%s-%c", target.Name, 'a'+i) }

// story shows one Fleet.
func story(ctx context.Context, clusters *demo.Clusters, metricsAddress string) error {
	s, err := newStage(ctx, clusters)
	if err != nil {
		return err
	}
	c, err := newCounter(clusters, nil, s.report)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	counting, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		err := c.run(counting, metricsAddress)
		cancel(err) // no more events
		ended <- err
	}()
	if err = s.play(ctx); err == nil {
		fmt.Print("\n# the Fleet's own status\n\n")
		printStatus(s.out, c.Status())
		fmt.Print("\n# the Fleet ends\n\n")
	}
	stop()
	if countErr := <-ended; countErr != nil {
		return countErr
	}
	return err
}

func (s *stage) play(ctx context.Context) error {
	first, second := s.Targets[0], s.Targets[1]
	const planes = targets * planesPerTarget
	// step does something, waits until the sum is as wanted, and prints the table.
	step := func(title string, deployments, running, planes int, do func(ctx context.Context) error) demo.Step {
		want := sum{deployments, running, planes}
		return demo.Step{Title: title, Do: func(ctx context.Context) error {
			err := do(ctx)
			if err == nil {
				err = s.wait(ctx, want.String(), func() bool { return s.sum() == want })
			}
			if err == nil {
				s.table()
			}
			return err
		}}
	}
	return demo.Play(ctx, os.Stdout, []demo.Step{
		step("the Fleet starts a run for each data plane", 0, planes, planes, func(context.Context) error { return nil }),
		step("2 Deployments are created in target-1, and 1 in target-2", 9, planes, planes, func(ctx context.Context) error {
			return errors.Join(createDeployment(ctx, first, "shop"), createDeployment(ctx, first, "cart"), createDeployment(ctx, second, "mail"))
		}),
		step("1 Deployment of target-1 is deleted", 6, planes, planes, func(ctx context.Context) error {
			return first.Core.AppsV1().Deployments(metav1.NamespaceDefault).Delete(ctx, "cart", metav1.DeleteOptions{})
		}),
		step("target-1-b gets other credentials, and its run goes on; then 1 Deployment is created in target-1", 9, planes, planes, func(ctx context.Context) error {
			if err := s.rotate(ctx, first, planeName(first, 1)); err != nil {
				return err
			}
			return createDeployment(ctx, first, "pay")
		}),
		step("target-2 stops; then another Deployment is created in target-1", 9, planesPerTarget, planes, func(ctx context.Context) error {
			if err := second.APIServer.Stop(); err != nil {
				return err
			}
			return createDeployment(ctx, first, "cart")
		}),
		step("target-2 starts again", 12, planes, planes, second.APIServer.Start),
		step("a DataPlane of target-1 is deleted", 9, planes-1, planes-1, func(ctx context.Context) error {
			return s.DataPlanes.Delete(ctx, planeName(first, 0), metav1.DeleteOptions{})
		}),
	})
}

// rotate gives the user of a data plane another certificate, and waits until its run has it.
func (s *stage) rotate(ctx context.Context, target *demo.Target, name string) error {
	credentials, err := target.Credentials(ctx, name)
	if err != nil {
		return err
	}
	if _, err := s.Rotate(ctx, name, credentials); err != nil {
		return err
	}
	return s.wait(ctx, "a rotation", func() bool { return s.rotations == 1 })
}

func createDeployment(ctx context.Context, target *demo.Target, name string) error {
	labels := map[string]string{"app": name}
	_, err := target.Core.AppsV1().Deployments(metav1.NamespaceDefault).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: "registry.k8s.io/pause:3.10"}}},
			},
		},
	}, metav1.CreateOptions{})
	return err
}
