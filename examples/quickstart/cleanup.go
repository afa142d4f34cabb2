// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
)

// patience is how long each removal may take.
const patience = time.Minute

// create calls do, and undo at the end. An interrupt doesn't cancel the request of do, because
// then it would be unknown whether there is anything to remove.
func (q *quickstart) create(ctx context.Context, do, undo func(context.Context) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	uninterrupted, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := do(uninterrupted); err != nil {
		return err
	}
	q.onCleanUp(undo)
	return ctx.Err()
}

func (q *quickstart) onCleanUp(undo func(context.Context) error) { q.undo = append(q.undo, undo) }

// cleanUp removes everything that the steps created, in reverse order. It goes on after a
// failure.
func (q *quickstart) cleanUp() error {
	var errs []error
	for i := len(q.undo) - 1; i >= 0; i-- {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := q.undo[i](ctx); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("%w: %w", demo.ErrCleanUp, err))
		}
		cancel()
	}
	return errors.Join(errs...)
}

func (q *quickstart) deleteDataPlane(ctx context.Context) error {
	if err := q.dataPlanes.Delete(ctx, dataPlaneName, metav1.DeleteOptions{}); err != nil {
		return err
	}
	// A controller of an existing cluster may have added a finalizer.
	return await.ForDeletion(ctx, q.dataPlanes, dataPlaneName)
}

// deleteCRD deletes the definition that the quickstart has created, unless there are other
// DataPlanes, which would be deleted with it.
func (q *quickstart) deleteCRD(ctx context.Context, uid types.UID) error {
	left, err := q.listDataPlanes(ctx, metav1.NamespaceAll)
	if err != nil {
		return fmt.Errorf("%s stays, because it may be in use: %w", crds.DataPlaneName, err)
	}
	if len(left) > 0 {
		return fmt.Errorf("%s stays, because of DataPlane %s/%s", crds.DataPlaneName, left[0].Namespace, left[0].Name)
	}
	return q.crds.Delete(ctx, crds.DataPlaneName, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
}

// eventually calls done ten times a second until it returns true or an error.
func eventually(ctx context.Context, what string, done wait.ConditionWithContextFunc) error {
	if err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, done); err != nil {
		return fmt.Errorf("waiting for %s: %w", what, err)
	}
	return nil
}
