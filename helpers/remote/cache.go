// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	listers "github.com/openchoreo/dataplane-sdk-go/listers/openchoreo/v1alpha1"
)

// Cache keeps a client of type T, which the caller chooses, for each of many data planes.
// It reads a DataPlane at each Get: a client is built for a new one, gets new credentials
// when they are rotated, and is closed when the DataPlane is gone. Data planes never
// share connections, whatever their credentials.
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
	resourceVersion string // of the DataPlane that the client is for; empty to look again
	changed         bool   // Handler has seen another meanwhile; of the Cache's lock alone
}

// NewCache returns an empty cache.
//
// get reads a DataPlane from memory, see [FromLister]; it returns a NotFound error for one
// that is gone, and must return what a caller of the Cache can see, or newer. build makes
// a client of both Config and HTTPClient of a [Cluster]; it should not wait for the
// network, and must not call the cache for the same data plane. The options are those of
// the Clusters.
//
// The caller must call Close when done.
func NewCache[T any](get func(types.NamespacedName) (*v1alpha1.DataPlane, error), build func(*Cluster) (T, error), options Options) *Cache[T] {
	return &Cache[T]{get: get, build: build, options: options, entries: map[types.NamespacedName]*entry[T]{}}
}

// FromLister returns what [NewCache] takes to read DataPlanes from the cache of an informer.
func FromLister(lister listers.DataPlaneLister) func(types.NamespacedName) (*v1alpha1.DataPlane, error) {
	return func(key types.NamespacedName) (*v1alpha1.DataPlane, error) {
		return lister.DataPlanes(key.Namespace).Get(key.Name)
	}
}

// Get returns the client of a data plane. It makes no request, and waits for nothing but
// a build for the same data plane. A DataPlane that is being deleted is served as before,
// since finalizers need its cluster.
//
// A NotFound error means that the DataPlane is gone; its client is closed. Other errors of
// reading it leave the client as it is. When the credentials can't be used, Get returns the
// error of [NewCluster] or [Cluster.Update], and a client from before gets it from each
// request; both go on when the credentials can be used again. No error of build is kept.
// After Close, the error is [ErrClosed].
func (c *Cache[T]) Get(key types.NamespacedName) (T, error) {
	if dp, err := c.get(key); err == nil {
		c.mu.Lock()
		if e := c.entries[key]; e != nil && e.serves(dp) {
			client := e.client
			c.mu.Unlock()
			return client, nil
		}
		c.mu.Unlock()
	}
	for {
		c.mu.Lock()
		e := c.entries[key]
		if e == nil && !c.closed {
			e = &entry[T]{}
			c.entries[key] = e
		}
		c.mu.Unlock()
		if e == nil {
			var none T
			return none, fmt.Errorf("data plane %s: %w", key, ErrClosed)
		}
		e.updating.Lock()
		client, err := c.update(key, e, true)
		if !errors.Is(err, errGone) {
			return client, err
		}
	}
}

// errGone says that an entry was removed before its lock was taken.
var errGone = errors.New("entry was removed")

// serves says whether the client is for dp as it is, and was not closed by the caller.
func (e *entry[T]) serves(dp *v1alpha1.DataPlane) bool {
	return e.resourceVersion != "" && e.resourceVersion == dp.ResourceVersion && e.uid == dp.UID && e.cluster.ctx.Err() == nil
}

// update brings a client up to date, and gives up the entry's lock, which the caller has.
// Where there is none to go on with, it builds one if it may.
func (c *Cache[T]) update(key types.NamespacedName, e *entry[T], mayBuild bool) (T, error) {
	locked := true
	defer func() {
		if locked { // build has panicked
			e.updating.Unlock()
		}
	}()
	for {
		client, err := c.renew(key, e, mayBuild)
		c.mu.Lock()
		if again := e.changed; !again {
			e.updating.Unlock()
			locked = false
			c.mu.Unlock()
			return client, err
		}
		e.changed = false
		c.mu.Unlock()
	}
}

// renew brings a client up to date once. It reads the DataPlane under the entry's lock, so
// that of two callers the later never has the older object.
func (c *Cache[T]) renew(key types.NamespacedName, e *entry[T], mayBuild bool) (T, error) {
	var none T
	c.mu.Lock()
	gone := c.entries[key] != e
	c.mu.Unlock()
	if gone {
		return none, errGone
	}
	dp, err := c.get(key)
	if err != nil {
		if e.cluster == nil || apierrors.IsNotFound(err) {
			c.remove(key, e)
		}
		return none, err
	}
	if e.serves(dp) { // by the caller that had the lock before
		return e.client, nil
	}
	cluster, client := e.cluster, e.client
	if cluster != nil {
		err = cluster.Update(dp)
		if errors.Is(err, helpers.ErrReplaced) || errors.Is(err, ErrServerChanged) || errors.Is(err, ErrClosed) {
			cluster.startClose()
			cluster, client, err = nil, none, nil
		}
	}
	if cluster == nil && mayBuild {
		cluster, client, err = c.newClient(dp)
	}
	version := dp.ResourceVersion
	if err != nil || cluster == nil {
		version = "" // and keep a client, which goes on when the credentials can be used again
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		e.cluster, e.client, e.uid, e.resourceVersion = cluster, client, dp.UID, version
	}
	c.mu.Unlock()
	if closed { // Close has not seen a cluster that is new
		if cluster != nil {
			cluster.startClose()
		}
		return none, fmt.Errorf("data plane %s: %w", key, ErrClosed)
	}
	if err != nil {
		return none, err
	}
	return client, nil
}

// newClient returns nothing but the error when there is one.
func (c *Cache[T]) newClient(dp *v1alpha1.DataPlane) (*Cluster, T, error) {
	var none T
	cluster, err := NewCluster(dp, c.options)
	if err != nil {
		return nil, none, err
	}
	built := false
	defer func() {
		if !built { // also when build panics
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
	if c.entries[key] == e {
		delete(c.entries, key)
	}
	cluster := e.cluster
	e.cluster = nil
	c.mu.Unlock()
	if cluster != nil {
		cluster.startClose()
	}
}

// Handler returns what an informer of DataPlanes calls so that what Get does is done at
// once for the clients that are there: new credentials take effect, and clients of
// DataPlanes that are gone are closed. It builds nothing, and never waits for a build.
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
	key := types.NamespacedName{Namespace: name.Namespace, Name: name.Name}
	dp, _ := obj.(*v1alpha1.DataPlane)
	c.mu.Lock()
	e := c.entries[key]
	if e != nil && dp != nil && e.serves(dp) {
		e = nil
	}
	locked := e != nil && e.updating.TryLock()
	if e != nil && !locked {
		e.changed = true // who has the lock looks again
	}
	c.mu.Unlock()
	if locked {
		_, _ = c.update(key, e, false) // the next Get returns the error
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
// Options.CloseGrace at most. Get fails from then on.
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
