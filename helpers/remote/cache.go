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

// Cache keeps a client of type T, which the caller chooses, for each of many data planes.
// Get reads the DataPlane: it builds a client for a new one, replaces the credentials of a
// client when they have changed, and closes the client when the DataPlane is gone. Add its
// Handler to an informer to have that done at once. Data planes never share connections,
// whatever their credentials.
//
// All methods may be called at any time from any goroutine.
type Cache[T any] struct {
	get     func(types.NamespacedName) (*v1alpha1.DataPlane, error)
	build   func(*Cluster) (T, error)
	options Options

	mu      sync.Mutex // also of the entries' fields that say so
	entries map[types.NamespacedName]*entry[T]
	closed  bool
}

// entry is the place of one data plane. It is written with both its lock and that of the
// Cache held, and read with either.
type entry[T any] struct {
	updating        sync.Mutex
	cluster         *Cluster // nil when there is none
	client          T
	uid             types.UID
	resourceVersion string   // of the DataPlane that the client is for; empty to look again
	failure         *failure // of building a client, if there is none
	changed         bool     // an event came while updating was held; guarded by Cache.mu alone
}

// NewCache returns an empty cache.
//
// get reads a DataPlane from memory, see [FromListers], and returns a NotFound error for one that
// is gone. build makes a client of both Config and HTTPClient of a [Cluster]. It may start
// informers that end with [Cluster.Done], but must not call the Cache or wait for any answer, since
// Get waits for build. Neither function may be nil. The caller must call Close when done.
func NewCache[T any](get func(types.NamespacedName) (*v1alpha1.DataPlane, error), build func(*Cluster) (T, error), options Options) *Cache[T] {
	return &Cache[T]{get: get, build: build, options: options, entries: map[types.NamespacedName]*entry[T]{}}
}

// FromListers returns what [NewCache] takes to read both DataPlanes and ClusterDataPlanes from
// the caches of informers. A key without namespace names a ClusterDataPlane. Either lister may be
// nil; no objects of its kind are found then. Until an informer has synced, its objects are
// NotFound. Give the Cache's Handler to the informers of both.
func FromListers(dataPlanes listers.DataPlaneLister, clusterDataPlanes listers.ClusterDataPlaneLister) func(types.NamespacedName) (*v1alpha1.DataPlane, error) {
	var converted sync.Map // of names to the last conversions, so that a hit converts nothing
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

// Get returns the client of a data plane. It makes no request, and waits only while a
// client for the same data plane is built. A DataPlane that is being deleted is served as
// before, since finalizers need its cluster.
//
// A NotFound error means that the DataPlane is gone; its client is closed. Other errors of reading
// it don't concern the client. [Classify] calls all of them Unknown, since they say nothing about
// the data plane. If the credentials can't be used, Get returns the error of [NewCluster] or
// [Cluster.Update], and each request of a client from before fails with it; both work again when
// the credentials can be used. No error of build is kept. After Close, the error is [ErrClosed].
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
	if err != nil { // nothing was sent to the data plane, whatever kind of error it is
		return nil, &reachabilityError{ReachabilityUnknown, &clusterError{key, err}}
	}
	return dp, nil
}

// errGone says that an entry was removed before its lock was taken.
var errGone = errors.New("entry was removed")

// serves says whether the client is for dp as it is, and was not closed by the caller.
func (e *entry[T]) serves(dp *v1alpha1.DataPlane) bool {
	return e.resourceVersion != "" && e.resourceVersion == dp.ResourceVersion && e.uid == dp.UID && e.cluster.ctx.Err() == nil
}

// updateAndUnlock brings a client up to date, and releases the entry's lock, which the caller
// holds. If there is no client that can be kept, it builds one, provided that it may.
func (c *Cache[T]) updateAndUnlock(key types.NamespacedName, e *entry[T], mayBuild bool) (T, error) {
	rotated, panicked := false, true // in build
	defer func() {
		if panicked {
			e.updating.Unlock()
		}
		if rotated && c.options.OnRotate != nil { // which may call the cache
			c.options.OnRotate(key)
		}
	}()
	for {
		client, changed, err := c.renew(key, e, mayBuild)
		rotated = rotated || changed
		c.mu.Lock()
		if !e.changed {
			e.updating.Unlock() // before a handler can see the lock held and leave
			panicked = false
			c.mu.Unlock()
			return client, err
		}
		e.changed = false
		e.resourceVersion = "" // a resync changes what ConfigFor returns, and no version
		c.mu.Unlock()
	}
}

// renew brings a client up to date once. It reads the DataPlane with the entry locked, so
// that of two callers the later never has the older object.
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
	if mayBuild && e.serves(dp) { // since another caller has had the lock
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
		version = "" // and keep a client, which works again when the credentials can be used
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		e.cluster, e.client, e.uid, e.resourceVersion, e.failure = cluster, client, dp.UID, version, failed
	}
	c.mu.Unlock()
	if closed {
		if cluster != nil { // which Close has not seen
			cluster.startClose()
		}
		err = &clusterError{key, ErrClosed}
	}
	if err != nil {
		client = none
	}
	return client, rotated, err
}

// newClient builds a client. On an error, or a panic of build, its Cluster is closed.
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

// remove removes an entry whose lock the caller has.
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

// Handler returns a handler for informers of DataPlanes and ClusterDataPlanes. It applies
// changes to existing clients at once: new credentials take effect, and clients of DataPlanes
// that are gone are closed. Without it, that waits for the next Get of the same data plane. It
// never builds, nor waits for a build.
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
		e.changed = true // who has the lock looks again
	}
	c.mu.Unlock()
	if locked {
		_, _ = c.updateAndUnlock(key, e, false) // the next Get returns the error
	}
}

// Len returns how many clients the cache has.
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

// Close closes all clients, and waits until the last of their requests has ended, for
// Options.Grace at most. It doesn't wait for clients that were closed before. Get
// fails from then on.
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
