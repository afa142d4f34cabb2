// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

// Cache keeps a client of type T, which the caller chooses, for each of many data planes. Get reads
// the DataPlane: it builds a client for a new one, replaces changed credentials, and closes the
// client of one that is gone. With the Cache's Handler in an informer, existing clients are updated
// and closed at once. Data planes never share connections, even with the same credentials.
//
// All methods may be called at any time from any goroutine.
type Cache[T any] struct {
	get     func(types.NamespacedName) (*v1alpha1.DataPlane, error)
	build   func(*Cluster) (T, error)
	options Options

	mu      sync.Mutex // guards the fields below; entry says how it guards those of an entry
	entries map[types.NamespacedName]*entry[T]
	closed  bool
}

// entry holds the client of one data plane. To write its fields, hold both updating and Cache.mu;
// to read them, either.
type entry[T any] struct {
	updating        sync.Mutex
	cluster         *Cluster // nil if there is no client
	client          T
	uid             types.UID
	resourceVersion string   // of the DataPlane that the client is up to date with; if empty, the next Get updates it
	failure         *failure // of the last attempt to build a client; nil if there is a client
	eventMissed     bool     // an event came while updating was held; guarded by Cache.mu alone
}

// NewCache returns an empty cache.
//
// get reads a DataPlane from memory (see [FromListers]), and returns a NotFound error for one that
// is gone. build makes a client from Config and HTTPClient of a [Cluster]. It may start informers
// that stop with [Cluster.Done]. It must not call the Cache or wait for an answer: Get waits for
// build. Neither function may be nil. The caller must call Close when done.
func NewCache[T any](get func(types.NamespacedName) (*v1alpha1.DataPlane, error), build func(*Cluster) (T, error), options Options) *Cache[T] {
	return &Cache[T]{get: get, build: build, options: options, entries: map[types.NamespacedName]*entry[T]{}}
}

// FromListers returns a function for [NewCache] that reads DataPlanes and ClusterDataPlanes from
// the caches of informers. A key without a namespace names a ClusterDataPlane. Either lister may be
// nil: objects of its kind are then NotFound. Until an informer has synced, its objects are
// NotFound too. Add the Cache's Handler to the informers of both kinds.
func FromListers(dataPlanes listers.DataPlaneLister, clusterDataPlanes listers.ClusterDataPlaneLister) func(types.NamespacedName) (*v1alpha1.DataPlane, error) {
	var converted sync.Map // the last conversion by name, so that an unchanged object is converted once
	return func(key types.NamespacedName) (*v1alpha1.DataPlane, error) {
		switch {
		case key.Namespace != "" && dataPlanes != nil:
			return dataPlanes.DataPlanes(key.Namespace).Get(key.Name)
		case key.Namespace != "", clusterDataPlanes == nil:
			return nil, notFound(key)
		}
		from, err := clusterDataPlanes.Get(key.Name)
		if err != nil {
			converted.Delete(key.Name)
			return nil, err
		}
		if last, ok := converted.Load(key.Name); ok && last.(conversion).from == from {
			return last.(conversion).to, nil
		}
		to := from.AsDataPlane()
		converted.Store(key.Name, conversion{from, to})
		return to, nil
	}
}

type conversion struct {
	from *v1alpha1.ClusterDataPlane
	to   *v1alpha1.DataPlane
}

func notFound(key types.NamespacedName) error {
	resource := "dataplanes"
	if key.Namespace == "" {
		resource = "clusterdataplanes"
	}
	return apierrors.NewNotFound(v1alpha1.Resource(resource), key.Name)
}

// Get returns the client of a data plane. It makes no request, and waits only while a client for
// the same data plane is built or updated. A DataPlane that is being deleted is served as before,
// since finalizers need its cluster.
//
// A NotFound error means that the DataPlane is gone; its client is closed. Other errors of reading
// the DataPlane leave its client as it is. [Classify] returns Unknown for both, since they say
// nothing about the data plane. If the credentials can't be used, Get returns the error of
// [NewCluster] or [Cluster.Update], and the requests of an existing client fail with it; both work
// again when the credentials can be used. After an error of build, the next Get calls build again.
// After Close, Get returns [ErrClosed].
func (c *Cache[T]) Get(key types.NamespacedName) (T, error) {
	var none T
	for {
		dp, err := c.read(key)
		c.mu.Lock()
		e := c.entries[key]
		switch {
		case c.closed:
			err = &clusterError{key, ErrClosed}
		case e == nil && err != nil:
		case e == nil:
			e = &entry[T]{}
			c.entries[key] = e
		case err == nil && e.serves(dp):
			client := e.client
			c.mu.Unlock()
			return client, nil
		default:
			err = nil // updateAndUnlock reads again
		}
		c.mu.Unlock()
		if err != nil {
			return none, err
		}
		e.updating.Lock()
		client, err := c.updateAndUnlock(key, e, true)
		if !errors.Is(err, errGone) {
			return client, err
		}
	}
}

func (c *Cache[T]) read(key types.NamespacedName) (*v1alpha1.DataPlane, error) {
	dp, err := c.get(key)
	if dp == nil && err == nil {
		err = notFound(key)
	}
	if err != nil { // even a timeout or Forbidden is no answer of the data plane
		return nil, &reachabilityError{ReachabilityUnknown, &clusterError{key, err}}
	}
	return dp, nil
}

// errGone says that an entry was removed before its lock was taken.
var errGone = errors.New("entry was removed")

// serves reports whether the client is up to date with dp, its Cluster is open, and no request has
// found that ConfigFor returns another API server now.
func (e *entry[T]) serves(dp *v1alpha1.DataPlane) bool {
	return e.resourceVersion != "" && e.resourceVersion == dp.ResourceVersion && e.uid == dp.UID &&
		e.cluster.ctx.Err() == nil && !e.cluster.moved.Load()
}

// updateAndUnlock brings a client up to date, and releases the entry's lock, which the caller
// holds. With mayBuild, it builds a client if there is none to keep.
func (c *Cache[T]) updateAndUnlock(key types.NamespacedName, e *entry[T], mayBuild bool) (T, error) {
	rotated, panicked := false, true // until build and ConfigFor have returned
	defer func() {
		if panicked {
			e.updating.Unlock()
		}
		if rotated && c.options.OnRotate != nil { // without a lock: it may call the Cache
			c.options.OnRotate(key)
		}
	}()
	for {
		client, changed, err := c.renew(key, e, mayBuild)
		rotated = rotated || changed
		c.mu.Lock()
		if !e.eventMissed {
			e.updating.Unlock() // with mu held: a handler sets changed before this, or gets the lock after it
			panicked = false
			c.mu.Unlock()
			return client, err
		}
		e.eventMissed = false
		e.resourceVersion = "" // after a resync, ConfigFor may return something else for the same version
		c.mu.Unlock()
	}
}

// renew brings a client up to date once. It reads the DataPlane under the entry's lock, so objects
// never go backwards.
func (c *Cache[T]) renew(key types.NamespacedName, e *entry[T], mayBuild bool) (client T, rotated bool, err error) {
	var none T
	c.mu.Lock()
	gone := c.entries[key] != e
	c.mu.Unlock()
	if gone {
		return none, false, errGone
	}
	dp, err := c.read(key)
	if err != nil {
		if e.cluster == nil || apierrors.IsNotFound(err) {
			c.remove(key, e)
		}
		return none, false, err
	}
	if mayBuild && e.serves(dp) { // another caller has updated it
		return e.client, false, nil
	}
	cluster, client := e.cluster, e.client
	if cluster != nil {
		rotated, err = cluster.update(dp)
		if errors.Is(err, helpers.ErrReplaced) || errors.Is(err, ErrServerChanged) || errors.Is(err, ErrClosed) {
			cluster.startClose()
			cluster, client, err = nil, none, nil
		}
	}
	if cluster == nil && mayBuild {
		cluster, client, err = c.newClient(dp)
	}
	version, failed := dp.ResourceVersion, e.failure
	switch {
	case cluster != nil:
		failed = nil
	case err != nil:
		failed = (&target{key: key}).failureOf(err)
	}
	if err != nil || cluster == nil {
		version = "" // the next Get tries again, and keeps an existing client
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		e.cluster, e.client, e.uid, e.resourceVersion, e.failure = cluster, client, dp.UID, version, failed
	}
	c.mu.Unlock()
	if closed {
		if cluster != nil { // Close has not seen it
			cluster.startClose()
		}
		err = &clusterError{key, ErrClosed}
	}
	if err != nil {
		client = none
	}
	return client, rotated, err
}

// newClient builds a client. After an error or a panic of build, it closes the client's Cluster.
func (c *Cache[T]) newClient(dp *v1alpha1.DataPlane) (*Cluster, T, error) {
	var none T
	cluster, err := NewCluster(dp, c.options)
	if err != nil {
		return nil, none, err
	}
	built := false
	defer func() {
		if !built {
			cluster.startClose()
		}
	}()
	client, err := c.build(cluster)
	if err != nil {
		return nil, none, cluster.wrap(err)
	}
	built = true
	return cluster, client, nil
}

// remove removes an entry, whose lock the caller holds, and closes its client.
func (c *Cache[T]) remove(key types.NamespacedName, e *entry[T]) {
	c.mu.Lock()
	delete(c.entries, key)
	cluster := e.cluster
	e.cluster = nil
	c.mu.Unlock()
	if cluster != nil {
		cluster.startClose()
	}
}

// Handler returns a handler for informers of DataPlanes and ClusterDataPlanes. It applies changes
// to existing clients at once: it replaces their credentials, and closes the clients of DataPlanes
// that are gone. Without it, the next Get of the data plane does so. It never builds a client, nor
// waits for one to be built.
func (c *Cache[T]) Handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    c.handle,
		UpdateFunc: func(_, obj any) { c.handle(obj) },
		DeleteFunc: c.handle,
	}
}

func (c *Cache[T]) handle(obj any) {
	name, err := cache.DeletionHandlingObjectToName(obj)
	if err != nil {
		return
	}
	key := name.AsNamespacedName()
	c.mu.Lock()
	e := c.entries[key]
	locked := e != nil && e.updating.TryLock()
	if e != nil && !locked {
		e.eventMissed = true // the holder of the lock updates again
	}
	c.mu.Unlock()
	if locked {
		_, _ = c.updateAndUnlock(key, e, false) // the next Get returns the error
	}
}

// Len returns the number of clients.
func (c *Cache[T]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, e := range c.entries {
		if e.cluster != nil {
			n++
		}
	}
	return n
}

// Close closes all clients, and waits until their last request has ended, at most for
// Options.Grace. It doesn't wait for clients that were closed before. From then on, Get returns
// [ErrClosed].
func (c *Cache[T]) Close() {
	c.mu.Lock()
	c.closed = true
	var clusters []*Cluster
	for _, e := range c.entries {
		if e.cluster != nil {
			clusters = append(clusters, e.cluster)
		}
	}
	clear(c.entries)
	c.mu.Unlock()
	for _, cluster := range clusters {
		cluster.startClose()
	}
	for _, cluster := range clusters {
		cluster.Close()
	}
}
