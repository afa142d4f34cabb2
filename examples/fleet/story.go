// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
)

const (
	targets         = 2
	planesPerTarget = 3
	planes          = targets * planesPerTarget
)

// stage is the setting of a story.
type stage struct {
	*demo.Clusters
	*board
}

// newStage creates DataPlanes, several for each target.
func newStage(ctx context.Context, clusters *demo.Clusters) (*stage, error) {
	var names []string
	for _, target := range clusters.Targets {
		for i := range planesPerTarget {
			dp, err := clusters.Create(ctx, target, planeName(target, i), []rbacv1.PolicyRule{mayCount})
			if err != nil {
				return nil, err
			}
			names = append(names, dp.Namespace+"/"+dp.Name)
		}
	}
	fmt.Printf("\n%d DataPlanes describe %d clusters; for each, all Deployments of its cluster are counted\n", planes, targets)
	return &stage{clusters, newBoard(os.Stdout, names...)}, nil
}

var mayCount = rbacv1.PolicyRule{APIGroups: []string{appsv1.GroupName}, Resources: []string{"deployments"}, Verbs: []string{"list", "watch"}}

func planeName(target *demo.Target, i int) string { return fmt.Sprintf("%s-%c", target.Name, 'a'+i) }

// story shows one Fleet.
func story(ctx context.Context, clusters *demo.Clusters, o *options) error {
	s, err := newStage(ctx, clusters)
	if err != nil {
		return err
	}
	c, err := o.newCounter(clusters, s.report)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	counting, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		err := c.run(counting)
		cancel(err) // no more events
		done <- err
	}()
	if err = s.play(ctx); err == nil {
		fmt.Print("\nThe Fleet's own status:\n\n")
		printStatus(s.out, c.Status())
		fmt.Print("\nThe Fleet ends:\n\n")
	}
	stop()
	if countErr := <-done; countErr != nil {
		return countErr
	}
	if err == nil {
		fmt.Println("\nNext: go -C examples run ./fleet --replicas 3, or ./watch-workloads, which is a program to copy.")
	}
	return err
}

func (s *stage) play(ctx context.Context) error {
	first, second := s.Targets[0], s.Targets[1]
	// step calls do, and waits for this sum.
	step := func(title string, deployments, counted, planes int, do func(ctx context.Context) error) demo.Step {
		want := sum{deployments, counted, planes}
		return demo.Step{Title: title, Do: func(ctx context.Context) error {
			if err := do(ctx); err != nil {
				return err
			}
			return s.wait(ctx, func() string { return s.sum().unless(want) })
		}}
	}
	return demo.Play(ctx, os.Stdout, []demo.Step{
		step("the Fleet starts a run for each data plane", 0, planes, planes, func(context.Context) error { return nil }),
		step("2 Deployments are created in target-1, and 1 in target-2", 9, planes, planes, func(ctx context.Context) error {
			return errors.Join(demo.CreateDeployment(ctx, first.Core, "shop"), demo.CreateDeployment(ctx, first.Core, "cart"), demo.CreateDeployment(ctx, second.Core, "mail"))
		}),
		step("1 Deployment of target-1 is deleted", 6, planes, planes, func(ctx context.Context) error {
			return first.Core.AppsV1().Deployments(metav1.NamespaceDefault).Delete(ctx, "cart", metav1.DeleteOptions{})
		}),
		step("target-1-b gets other credentials, and its run remains; then 1 Deployment is created in target-1", 9, planes, planes, func(ctx context.Context) error {
			if err := s.rotate(ctx, first, planeName(first, 1)); err != nil {
				return err
			}
			return demo.CreateDeployment(ctx, first.Core, "pay")
		}),
		step("target-2 stops; then 1 Deployment is created in target-1", 9, planesPerTarget, planes, func(ctx context.Context) error {
			if err := second.APIServer.Stop(); err != nil {
				return err
			}
			return demo.CreateDeployment(ctx, first.Core, "cart")
		}),
		step("target-2 starts again, and may deny all rights for a moment", 12, planes, planes, second.APIServer.Start),
		step("DataPlane target-1-a is deleted", 9, planes-1, planes-1, func(ctx context.Context) error {
			return s.DataPlanes.Delete(ctx, planeName(first, 0), metav1.DeleteOptions{})
		}),
	})
}

// rotate gives the user of a data plane another certificate, and waits until its run uses it.
func (s *stage) rotate(ctx context.Context, target *demo.Target, name string) error {
	credentials, err := target.Credentials(ctx, name)
	if err != nil {
		return err
	}
	if _, err := s.Rotate(ctx, name, credentials); err != nil {
		return err
	}
	return s.wait(ctx, func() string {
		if s.rotations == 0 {
			return "no run has the new credentials"
		}
		return ""
	})
}
