// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// memberLeases are the Leases of a sharding as leaderelection gets them: with a label, with
// requests that take no longer than a retry period, and released by their holder only.
type memberLeases struct{ *sharding }

func (m memberLeases) Leases(string) coordinationv1client.LeaseInterface {
	return &memberLease{m.leases, m.sharding}
}

type memberLease struct {
	coordinationv1client.LeaseInterface
	s *sharding
}

func (m *memberLease) Get(ctx context.Context, name string, opts metav1.GetOptions) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, m.s.config.retryPeriod())
	defer cancel()
	return m.LeaseInterface.Get(ctx, name, opts)
}

func (m *memberLease) Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, m.s.config.retryPeriod())
	defer cancel()
	lease = lease.DeepCopy()
	metav1.SetMetaDataLabel(&lease.ObjectMeta, labelShards, m.s.config.Name)
	return m.written(m.LeaseInterface.Create(ctx, lease, opts))
}

func (m *memberLease) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if isReleased(lease) {
		// Another may have it by now, which leaderelection doesn't always notice; or the
		// renewal that was under way at the end has reached the API server.
		current, err := m.Get(ctx, lease.Name, metav1.GetOptions{})
		if err != nil || isReleased(current) || *current.Spec.HolderIdentity != m.s.identity {
			return current, err
		}
		lease = lease.DeepCopy()
		lease.ResourceVersion = current.ResourceVersion
	}
	ctx, cancel := context.WithTimeout(ctx, m.s.config.retryPeriod())
	defer cancel()
	return m.written(m.LeaseInterface.Update(ctx, lease, opts))
}

func (m *memberLease) written(lease *coordinationv1.Lease, err error) (*coordinationv1.Lease, error) {
	if err != nil {
		m.s.refused(err)
		return nil, err
	}
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.s.admits = true
	return lease, nil
}

func isReleased(lease *coordinationv1.Lease) bool {
	return lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == ""
}

// shardLeases are memberLeases, and what makes leaderelection fair and safe here: it sees
// a Lease only when that is free and it is this replica's turn; the run ends in time, by
// when a renewal was sent; and a Lease is released only when the run has returned, for
// which leaderelection leaves no time by itself.
type shardLeases struct{ *ledShard }

func (l shardLeases) Leases(namespace string) coordinationv1client.LeaseInterface {
	return &shardLease{memberLeases{l.sharding}.Leases(namespace), l.ledShard}
}

type shardLease struct {
	coordinationv1client.LeaseInterface
	l *ledShard
}

// Get waits until the Lease is free for this replica, by what refresh has seen, which
// saves a request for each shard and retry period. If that is out of date, the update that
// follows conflicts. A leader gets the Lease as it is.
func (g *shardLease) Get(ctx context.Context, name string, opts metav1.GetOptions) (*coordinationv1.Lease, error) {
	for {
		answer := g.l.answer(name)
		switch {
		case answer.led:
			lease, err := g.LeaseInterface.Get(ctx, name, opts)
			if err == nil && !isReleased(lease) && *lease.Spec.HolderIdentity != g.l.identity {
				g.l.stop() // leaderelection would hope on
			}
			return lease, err
		case answer.notYet == nil:
			return answer.lease, answer.err
		}
		select {
		case <-answer.notYet:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// leaseAnswer is what answers a Get.
type leaseAnswer struct {
	lease  *coordinationv1.Lease
	err    error
	notYet <-chan struct{} // there is none before this is closed
	led    bool            // this replica leads the shard
}

func (l *ledShard) answer(name string) leaseAnswer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == shardLed || l.state == shardEnding {
		return leaseAnswer{led: true}
	}
	l.state = shardForeign
	if l.lookErr != nil && time.Since(l.looked) > l.config.LeaseDuration {
		return leaseAnswer{err: l.lookErr}
	}
	lease, exists := l.seen[name]
	free := !exists || !lease.held() || *lease.Spec.HolderIdentity == l.identity // which could not release it
	if !free || !l.member || l.rounds < enoughRounds || len(l.own(shardClaimed, shardLed, shardEnding)) >= l.most {
		return leaseAnswer{notYet: l.changed}
	}
	l.state = shardClaimed
	if !exists {
		return leaseAnswer{err: apierrors.NewNotFound(coordinationv1.Resource("leases"), name)}
	}
	offered := lease.DeepCopy()
	offered.Spec.HolderIdentity = nil // it has been watched for long enough
	return leaseAnswer{lease: offered}
}

func (g *shardLease) Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error) {
	return g.write(lease, func(lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
		return g.LeaseInterface.Create(ctx, lease, opts)
	})
}

func (g *shardLease) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if isReleased(lease) {
		select {
		case <-g.l.stop():
			return g.LeaseInterface.Update(ctx, lease, opts)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return g.write(lease, func(lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
		return g.LeaseInterface.Update(ctx, lease, opts)
	})
}

// write sends the Lease of a leader. Its times are of now: leaderelection takes them before
// it asks for the Lease, which may have waited for long.
func (g *shardLease) write(lease *coordinationv1.Lease,
	send func(*coordinationv1.Lease) (*coordinationv1.Lease, error),
) (*coordinationv1.Lease, error) {
	sent := time.Now()
	g.l.mu.Lock()
	if g.l.state == shardClaimed {
		g.l.acquired = sent
	}
	lease = lease.DeepCopy()
	lease.Spec.AcquireTime, lease.Spec.RenewTime = &metav1.MicroTime{Time: g.l.acquired}, &metav1.MicroTime{Time: sent}
	g.l.mu.Unlock()
	written, err := send(lease)
	if err == nil {
		g.l.renewed(sent)
	}
	return written, err
}

// renewed lets the run go on for as long as a renewal allows that was sent then.
func (l *ledShard) renewed(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := time.Until(sent.Add(l.config.tenure()))
	if l.expiry != nil {
		l.expiry.Reset(left)
		return
	}
	cancel := l.cancel
	l.expiry = time.AfterFunc(left, func() { cancel(ErrShardLost) })
}
