// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

var leaseResource = coordinationv1.Resource("leases")

// leaseServer keeps Leases in memory, as an API server does.
type leaseServer struct {
	mu       sync.Mutex
	version  int
	leases   map[string]*coordinationv1.Lease
	requests int
	quota    int // how many Leases there may be; 0 for any number
}

// fault is what happens to a request for Leases.
type fault struct {
	before, after time.Duration // how long the request and its answer take
	stuck         time.Duration // how long it goes on, even after its context has ended
	err           error         // instead of an answer
	lost          bool          // the request is carried out all the same
}

// leaseClient is the way of one replica to the server.
type leaseClient struct {
	coordinationv1client.LeaseInterface // nil: what isn't below is not used

	mu     sync.Mutex
	server *leaseServer
	fault  func(verb string) fault // nil for none
}

func (c *leaseClient) Leases(string) coordinationv1client.LeaseInterface { return c }

func (c *leaseClient) setFault(f func(verb string) fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// suspend gives a client Leases of its own until resume is called: for its replica, no time passes.
func (c *leaseClient) suspend() (resume func()) {
	use := func(s *leaseServer) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.server = s
	}
	server := c.server
	server.mu.Lock()
	use(&leaseServer{version: server.version, leases: maps.Clone(server.leases)})
	server.mu.Unlock()
	return func() { use(server) }
}

func (c *leaseClient) Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error) {
	lease = lease.DeepCopy()
	return send(ctx, c, "create", func(s *leaseServer) (*coordinationv1.Lease, error) {
		if d := lease.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
			return nil, apierrors.NewInvalid(coordinationv1.SchemeGroupVersion.WithKind("Lease").GroupKind(), lease.Name, nil)
		}
		if s.quota > 0 && len(s.leases) >= s.quota { // which an API server checks before it looks for the Lease
			return nil, apierrors.NewForbidden(leaseResource, lease.Name, errors.New("exceeded quota"))
		}
		if s.leases[lease.Name] != nil {
			return nil, apierrors.NewAlreadyExists(leaseResource, lease.Name)
		}
		return s.write(lease, opts.DryRun), nil
	})
}

func (c *leaseClient) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	lease = lease.DeepCopy()
	return send(ctx, c, "update", func(s *leaseServer) (*coordinationv1.Lease, error) {
		switch old := s.leases[lease.Name]; {
		case old == nil:
			return nil, apierrors.NewNotFound(leaseResource, lease.Name)
		case lease.ResourceVersion == "": // Leases can't be updated unconditionally
			return nil, apierrors.NewInvalid(coordinationv1.SchemeGroupVersion.WithKind("Lease").GroupKind(), lease.Name, nil)
		case old.ResourceVersion != lease.ResourceVersion:
			return nil, apierrors.NewConflict(leaseResource, lease.Name, errors.New("it was modified"))
		}
		return s.write(lease, opts.DryRun), nil
	})
}

func (c *leaseClient) Get(ctx context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	return send(ctx, c, "get", func(s *leaseServer) (*coordinationv1.Lease, error) {
		if s.leases[name] == nil {
			return nil, apierrors.NewNotFound(leaseResource, name)
		}
		return s.leases[name].DeepCopy(), nil
	})
}

func (c *leaseClient) List(ctx context.Context, _ metav1.ListOptions) (*coordinationv1.LeaseList, error) {
	return send(ctx, c, "list", func(s *leaseServer) (*coordinationv1.LeaseList, error) {
		list := &coordinationv1.LeaseList{}
		for _, lease := range s.leases {
			list.Items = append(list.Items, *lease.DeepCopy())
		}
		return list, nil
	})
}

func (c *leaseClient) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	_, err := send(ctx, c, "delete", func(s *leaseServer) (any, error) {
		lease := s.leases[name]
		if lease == nil {
			return nil, apierrors.NewNotFound(leaseResource, name)
		}
		if p := opts.Preconditions; p != nil && *p.ResourceVersion != lease.ResourceVersion {
			return nil, apierrors.NewConflict(leaseResource, name, errors.New("it was modified"))
		}
		if len(opts.DryRun) == 0 {
			delete(s.leases, name)
		}
		return nil, nil
	})
	return err
}

func forbid(verb string) func(string) fault {
	return func(v string) fault {
		if v != verb {
			return fault{}
		}
		return fault{err: apierrors.NewForbidden(leaseResource, "", fmt.Errorf("cannot %s leases", verb))}
	}
}

// failing makes requests of some verbs fail.
func failing(err error, verbs ...string) func(string) fault {
	return func(verb string) fault {
		for _, v := range verbs {
			if v == verb {
				return fault{err: err}
			}
		}
		return fault{}
	}
}

var errCutOff = errors.New("cut off")

func cutOff(string) fault { return fault{err: errCutOff} }

type answer[T any] struct {
	value T
	err   error
}

// send sends a request and waits for the answer. The request is under way when ctx has ended.
func send[T any](ctx context.Context, c *leaseClient, verb string, request func(s *leaseServer) (T, error)) (T, error) {
	c.mu.Lock()
	var f fault
	if c.fault != nil {
		f = c.fault(verb)
	}
	server := c.server
	c.mu.Unlock()
	time.Sleep(f.stuck)
	answers := make(chan answer[T], 1)
	go func() {
		time.Sleep(f.before)
		a := answer[T]{err: f.err}
		if f.err == nil || f.lost {
			server.mu.Lock()
			server.requests++
			value, err := request(server)
			server.mu.Unlock()
			if f.err == nil {
				a = answer[T]{value, err}
			}
		}
		select {
		case <-time.After(f.after):
			answers <- a
		case <-ctx.Done():
		}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// write stores a Lease unless that is a dry run. It needs the lock.
func (s *leaseServer) write(lease *coordinationv1.Lease, dryRun []string) *coordinationv1.Lease {
	lease = lease.DeepCopy()
	s.version++
	lease.ResourceVersion = strconv.Itoa(s.version)
	if len(dryRun) == 0 {
		s.leases[lease.Name] = lease
	}
	return lease.DeepCopy()
}
