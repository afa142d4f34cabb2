// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package testleases keeps Leases in memory, for tests of replicas that share shards. Each replica
// has a client, whose requests can fail, take long, or get no answer.
package testleases

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// Resource is the resource of Leases, for errors.
var Resource = coordinationv1.Resource("leases")

// Server keeps Leases as an API server does.
type Server struct {
	mu       sync.Mutex
	version  int
	leases   map[string]*coordinationv1.Lease
	requests int
	quota    int
}

// NewServer returns a Server without Leases.
func NewServer() *Server { return &Server{leases: map[string]*coordinationv1.Lease{}} }

// Client returns a client for one replica.
func (s *Server) Client() *Client { return &Client{server: s} }

// Hold writes a Lease with a duration of lasts, as a program that ignores the holder does.
func (s *Server) Hold(name, holder string, lasts time.Duration) {
	now, seconds := metav1.NowMicro(), int32(lasts.Seconds())
	lease := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now}}
	lease.Name = name
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(lease, nil)
}

// Delete deletes a Lease, as a user may.
func (s *Server) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leases, name)
}

// Holders returns the holders of the Leases, by the Leases' names.
func (s *Server) Holders() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	holders := map[string]string{}
	for name, lease := range s.leases {
		holders[name] = *lease.Spec.HolderIdentity
	}
	return holders
}

// Requests returns how many requests the server has handled.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// SetQuota limits the number of Leases; 0 is no limit.
func (s *Server) SetQuota(quota int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = quota
}

// Fault describes what happens to a request.
type Fault struct {
	Before, After time.Duration // how long the request and its answer take
	Stuck         time.Duration // how long the client ignores the request's context
	Err           error         // returned instead of an answer
	Lost          bool          // with Err: the server handles the request nevertheless
}

// ErrCutOff is the error of a client that can't reach the server.
var ErrCutOff = errors.New("cut off")

// CutOff is the fault of a client that can't reach the server.
func CutOff(string) Fault { return Fault{Err: ErrCutOff} }

// Failing makes requests of some verbs fail.
func Failing(err error, verbs ...string) func(string) Fault { return On(Fault{Err: err}, verbs...) }

// On limits a fault to requests of some verbs.
func On(fault Fault, verbs ...string) func(string) Fault {
	return func(verb string) Fault {
		if slices.Contains(verbs, verb) {
			return fault
		}
		return Fault{}
	}
}

// Client is one replica's client of a [Server].
type Client struct {
	coordinationv1client.LeaseInterface // nil: no other methods are called

	mu     sync.Mutex
	server *Server
	fault  func(verb string) Fault // nil for none
}

// Leases makes Client a LeasesGetter.
func (c *Client) Leases(string) coordinationv1client.LeaseInterface { return c }

// SetFault sets the faults of requests by their RBAC verbs; nil for none.
func (c *Client) SetFault(fault func(verb string) Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = fault
}

// Suspend gives the client a copy of the Leases until resume is called, so that its replica sees no
// changes by others, as if no time passed.
func (c *Client) Suspend() (resume func()) {
	use := func(s *Server) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.server = s
	}
	server := c.server
	server.mu.Lock()
	use(&Server{version: server.version + 1e6, leases: maps.Clone(server.leases)}) // no version occurs in both
	server.mu.Unlock()
	return func() { use(server) }
}

type answer[T any] struct {
	value T
	err   error
}

// send sends a request and waits for the answer. The request continues when ctx has ended.
func send[T any](ctx context.Context, c *Client, verb string, request func(s *Server) (T, error)) (T, error) {
	c.mu.Lock()
	var f Fault
	if c.fault != nil {
		f = c.fault(verb)
	}
	server := c.server
	c.mu.Unlock()
	time.Sleep(f.Stuck)
	answers := make(chan answer[T], 1)
	go func() {
		time.Sleep(f.Before)
		a := answer[T]{err: f.Err}
		if f.Err == nil || f.Lost {
			server.mu.Lock()
			server.requests++
			value, err := request(server)
			server.mu.Unlock()
			if f.Err == nil {
				a = answer[T]{value, err}
			}
		}
		select {
		case <-time.After(f.After):
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

// write stores a Lease, except in a dry run, and returns it. The caller holds s.mu.
func (s *Server) write(lease *coordinationv1.Lease, dryRun []string) *coordinationv1.Lease {
	lease = lease.DeepCopy()
	s.version++
	lease.ResourceVersion = strconv.Itoa(s.version)
	if len(dryRun) == 0 {
		s.leases[lease.Name] = lease
	}
	return lease.DeepCopy()
}

// Create creates a Lease.
func (c *Client) Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error) {
	lease = lease.DeepCopy()
	return send(ctx, c, "create", func(s *Server) (*coordinationv1.Lease, error) {
		if d := lease.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
			return nil, apierrors.NewInvalid(coordinationv1.SchemeGroupVersion.WithKind("Lease").GroupKind(), lease.Name, nil)
		}
		if s.quota > 0 && len(s.leases) >= s.quota { // an API server checks this before it looks for the Lease
			return nil, apierrors.NewForbidden(Resource, lease.Name, errors.New("exceeded quota"))
		}
		if s.leases[lease.Name] != nil {
			return nil, apierrors.NewAlreadyExists(Resource, lease.Name)
		}
		return s.write(lease, opts.DryRun), nil
	})
}

// Update writes a Lease, and fails if its resourceVersion is outdated.
func (c *Client) Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	lease = lease.DeepCopy()
	return send(ctx, c, "update", func(s *Server) (*coordinationv1.Lease, error) {
		switch old := s.leases[lease.Name]; {
		case old == nil:
			return nil, apierrors.NewNotFound(Resource, lease.Name)
		case lease.ResourceVersion == "": // Leases can't be updated unconditionally
			return nil, apierrors.NewInvalid(coordinationv1.SchemeGroupVersion.WithKind("Lease").GroupKind(), lease.Name, nil)
		case old.ResourceVersion != lease.ResourceVersion:
			return nil, apierrors.NewConflict(Resource, lease.Name, errors.New("it was modified"))
		}
		return s.write(lease, opts.DryRun), nil
	})
}

// Get returns a Lease.
func (c *Client) Get(ctx context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	return send(ctx, c, "get", func(s *Server) (*coordinationv1.Lease, error) {
		if s.leases[name] == nil {
			return nil, apierrors.NewNotFound(Resource, name)
		}
		return s.leases[name].DeepCopy(), nil
	})
}

// List returns all Leases.
func (c *Client) List(ctx context.Context, _ metav1.ListOptions) (*coordinationv1.LeaseList, error) {
	return send(ctx, c, "list", func(s *Server) (*coordinationv1.LeaseList, error) {
		list := &coordinationv1.LeaseList{}
		for _, lease := range s.leases {
			list.Items = append(list.Items, *lease.DeepCopy())
		}
		return list, nil
	})
}

// Delete deletes a Lease.
func (c *Client) Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error {
	_, err := send(ctx, c, "delete", func(s *Server) (any, error) {
		lease := s.leases[name]
		if lease == nil {
			return nil, apierrors.NewNotFound(Resource, name)
		}
		if p := opts.Preconditions; p != nil && *p.ResourceVersion != lease.ResourceVersion {
			return nil, apierrors.NewConflict(Resource, name, errors.New("it was modified"))
		}
		if len(opts.DryRun) == 0 {
			delete(s.leases, name)
		}
		return nil, nil
	})
	return err
}
