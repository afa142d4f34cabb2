// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package shards

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// boundedLeases ends each request with its context, and after limit. A client that waits for its
// rate limiter or a credential plugin may not do that: an election would wait with it, and its
// runs would continue while another replica leads the shard.
type boundedLeases struct {
	coordinationv1client.LeaseInterface
	limit time.Duration
}

// Leases makes boundedLeases a LeasesGetter, for elections.
func (b boundedLeases) Leases(string) coordinationv1client.LeaseInterface { return b }

func (b boundedLeases) Get(ctx context.Context, name string, opts metav1.GetOptions) (*coordinationv1.Lease, error) {
	return bounded(ctx, b.limit, func(ctx context.Context) (*coordinationv1.Lease, error) {
		return b.LeaseInterface.Get(ctx, name, opts)
	})
}

func (b boundedLeases) List(ctx context.Context, opts metav1.ListOptions) (*coordinationv1.LeaseList, error) {
	return bounded(ctx, b.limit, func(ctx context.Context) (*coordinationv1.LeaseList, error) {
		return b.LeaseInterface.List(ctx, opts)
	})
}

func (b boundedLeases) Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error) {
	lease = lease.DeepCopy() // an election changes the Lease for its next request
	return bounded(ctx, b.limit, func(ctx context.Context) (*coordinationv1.Lease, error) {
		return b.LeaseInterface.Create(ctx, lease, opts)
	})
}

func (b boundedLeases) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	lease = lease.DeepCopy()
	return bounded(ctx, b.limit, func(ctx context.Context) (*coordinationv1.Lease, error) {
		return b.LeaseInterface.Update(ctx, lease, opts)
	})
}

func (b boundedLeases) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	_, err := bounded(ctx, b.limit, func(ctx context.Context) (any, error) {
		return nil, b.LeaseInterface.Delete(ctx, name, opts)
	})
	return err
}

// bounded returns the answer to a request, or the context's error if that ends or limit passes first.
func bounded[T any](ctx context.Context, limit time.Duration, request func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := request(ctx)
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
