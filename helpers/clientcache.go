// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// ClientCache keeps a client of type T, which the caller chooses, for each of many data
// planes:
//
//	clients := helpers.NewClientCache(func(r *helpers.Remote) (kubernetes.Interface, error) {
//		return kubernetes.NewForConfigAndClient(r.Config(), r.HTTPClient())
//	})
//	defer clients.Close()
//	client, err := clients.Get(dataPlane)
//
// A client is kept by namespace and name of its DataPlane, for as long as the UID and
// the credentials stay the same. When either changes, the next Get builds a new client
// and closes the [Remote] of the old one, whose requests under way may end within its
// grace. Data planes never share connections, whatever their credentials.
//
// Wire its Handler to an informer, so that deleted data planes are forgotten. All
// methods may be called at any time from any goroutine.
type ClientCache[T any] struct {
	build   func(*Remote) (T, error)
	opts    []Option
	options options
	slots   sync.Map // of *cacheSlot[T], by types.NamespacedName
	clock   func() time.Time
	closed  atomic.Bool

	mu       sync.Mutex  // of what follows
	retiring []*Remote   // closed, and perhaps not finished yet
	idle     *time.Timer // runs while there are entries that can become idle
}

// cacheSlot is the place of one DataPlane. Its lock is held while a client is built, so
// that there is one build at a time and nobody else waits for it.
type cacheSlot[T any] struct {
	mu      sync.Mutex
	removed bool // from the cache; whoever finds it so looks again
	current atomic.Pointer[cacheEntry[T]]
}

// cacheEntry is immutable but for used.
type cacheEntry[T any] struct {
	uid        types.UID
	generation int64
	creds      v1alpha1.APIServerCredentials
	remote     *Remote
	client     T
	used       atomic.Int64 // nanoseconds since the epoch; kept only if something is bounded
}

// NewClientCache returns an empty cache. It calls build, with a new Remote, for each
// data plane that it has no client for; build must not wait for the network, and its
// client should be made of both Config and HTTPClient of the Remote. The options are
// those of the Remotes, and [WithIdleTimeout] and [WithMaxEntries]. The caller must
// call Close when done.
func NewClientCache[T any](build func(*Remote) (T, error), opts ...Option) *ClientCache[T] {
	return &ClientCache[T]{
		build: build, opts: opts, options: newOptions(opts), clock: time.Now,
	}
}

// WithIdleTimeout makes a ClientCache forget a data plane whose client nobody has asked
// for in d. 0 or less, the default, is no bound. It has no effect elsewhere.
func WithIdleTimeout(d time.Duration) Option {
	return func(o *options) { o.maxIdle = max(d, 0) }
}

// WithMaxEntries makes a ClientCache keep n clients at most: a new one takes the place
// of the one that nobody has asked for the longest. 0 or less, the default, is no
// bound. It has no effect elsewhere.
func WithMaxEntries(n int) Option {
	return func(o *options) { o.maxEntries = max(n, 0) }
}

// Get returns the client of dp, building it when there is none for the UID and the
// credentials of dp. It makes no network request.
//
// An object that is older than the one the client was built for, as a lagging cache
// returns it, gets the present client. An object without UID, as a program makes it by
// hand, is the same when its credentials are; one without a name is an error. A
// DataPlane that is being deleted is served as before, since finalizers need its
// cluster.
//
// Errors are those of [NewRemote] and of build, and [ErrRemoteClosed] after Close; none is
// kept. When the credentials of dp can't be used, the client of its earlier credentials
// is closed, not served.
func (c *ClientCache[T]) Get(dp *v1alpha1.DataPlane) (T, error) {
	var none T
	if dp == nil || dp.Name == "" {
		return none, errors.New("data plane has no name to keep a client by")
	}
	if c.closed.Load() {
		return none, errCacheClosed
	}
	key := keyOf(dp)
	if slot := c.lookUp(key); slot != nil {
		if entry := slot.current.Load(); entry != nil && entry.serves(dp) {
			c.touch(entry)
			return entry.client, nil
		}
	}
	return c.renew(key, dp)
}

// serves says whether the entry is for dp. Strings of an object from an informer are the
// very ones of the entry mostly, and so compare without being read; others are compared
// in full, since nothing less finds every change.
func (e *cacheEntry[T]) serves(dp *v1alpha1.DataPlane) bool {
	if e.remote.transport.isClosed.Load() {
		return false
	}
	if e.uid != dp.UID && e.uid != "" && dp.UID != "" {
		return false
	}
	if e.creds == dp.Spec.KubernetesCluster.Credentials {
		return true
	}
	return e.uid == dp.UID && dp.UID != "" && dp.Generation < e.generation
}

// renew builds the client of dp and puts it in the place of the one before.
func (c *ClientCache[T]) renew(key types.NamespacedName, dp *v1alpha1.DataPlane) (T, error) {
	var none T
	slot := c.lockSlot(key)
	before := slot.current.Load()
	if before != nil && before.serves(dp) {
		defer slot.mu.Unlock()
		c.touch(before)
		return before.client, nil
	}
	entry, err := c.newEntry(dp)
	if err != nil {
		c.removeLocked(key, slot)
		slot.mu.Unlock()
		return none, err
	}
	slot.current.Store(entry)
	c.retire(before)
	if c.closed.Load() { // Close may have looked here before the entry was there
		c.removeLocked(key, slot)
		slot.mu.Unlock()
		return none, errCacheClosed
	}
	slot.mu.Unlock()
	c.startIdleTimer()
	c.evictSurplus(key)
	return entry.client, nil
}

var errCacheClosed = fmt.Errorf("client cache: %w", ErrRemoteClosed)

func (c *ClientCache[T]) newEntry(dp *v1alpha1.DataPlane) (*cacheEntry[T], error) {
	remote, err := NewRemote(dp, c.opts...)
	if err != nil {
		return nil, err
	}
	client, err := c.build(remote)
	if err != nil {
		remote.transport.close()
		return nil, fmt.Errorf("data plane %s: %w", remote.key, err)
	}
	entry := &cacheEntry[T]{
		uid: dp.UID, generation: dp.Generation, creds: dp.Spec.KubernetesCluster.Credentials,
		remote: remote, client: client,
	}
	c.touch(entry)
	return entry, nil
}

// Forget closes the client of a data plane and removes it. A later Get builds another.
func (c *ClientCache[T]) Forget(key types.NamespacedName) {
	c.forget(key, func(*cacheEntry[T]) bool { return true })
}

// forget removes the entry of a key if it still is the one that is meant.
func (c *ClientCache[T]) forget(key types.NamespacedName, meant func(*cacheEntry[T]) bool) {
	slot := c.lookUp(key)
	if slot == nil {
		return
	}
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if entry := slot.current.Load(); !slot.removed && entry != nil && meant(entry) {
		c.removeLocked(key, slot)
	}
}

// Handler returns what an informer of DataPlanes calls so that the cache forgets those
// that are deleted, and closes at once what was built from credentials that have
// changed since. It never forgets the client of another object of the same name.
func (c *ClientCache[T]) Handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, obj any) {
			dp, ok := obj.(*v1alpha1.DataPlane)
			if !ok {
				return
			}
			c.forget(keyOf(dp), func(e *cacheEntry[T]) bool {
				return e.uid == dp.UID && e.generation <= dp.Generation && !e.serves(dp)
			})
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			dp, ok := obj.(*v1alpha1.DataPlane)
			if !ok {
				return
			}
			c.forget(keyOf(dp), func(e *cacheEntry[T]) bool { return e.uid == dp.UID || e.uid == "" })
		},
	}
}

// keyOf returns what a DataPlane is kept by.
func keyOf(dp *v1alpha1.DataPlane) types.NamespacedName {
	return types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name}
}

// Len returns how many clients the cache has.
func (c *ClientCache[T]) Len() int {
	n := 0
	for range c.entries() {
		n++
	}
	return n
}

// Close closes all clients, and waits until the last of their requests has ended, which
// takes no longer than the grace. Get fails from then on.
func (c *ClientCache[T]) Close() {
	c.closed.Store(true)
	for key := range c.entries() {
		c.Forget(key)
	}
	c.mu.Lock()
	retiring := c.retiring
	if c.idle != nil {
		c.idle.Stop()
	}
	c.mu.Unlock()
	for _, remote := range retiring {
		remote.Close()
	}
}

// entries iterates over what is there; what comes or goes meanwhile may be left out.
func (c *ClientCache[T]) entries() iter.Seq2[types.NamespacedName, *cacheEntry[T]] {
	return func(yield func(types.NamespacedName, *cacheEntry[T]) bool) {
		c.slots.Range(func(key, slot any) bool {
			entry := slot.(*cacheSlot[T]).current.Load()
			return entry == nil || yield(key.(types.NamespacedName), entry)
		})
	}
}

func (c *ClientCache[T]) lookUp(key types.NamespacedName) *cacheSlot[T] {
	slot, _ := c.slots.Load(key)
	found, _ := slot.(*cacheSlot[T])
	return found
}

// lockSlot returns the slot of a key, locked, making it if need be.
func (c *ClientCache[T]) lockSlot(key types.NamespacedName) *cacheSlot[T] {
	for {
		slot := c.lookUp(key)
		if slot == nil {
			made, _ := c.slots.LoadOrStore(key, &cacheSlot[T]{})
			slot = made.(*cacheSlot[T])
		}
		slot.mu.Lock()
		if !slot.removed {
			return slot
		}
		slot.mu.Unlock()
	}
}

// removeLocked removes a slot, by identity, and closes what is in it. The caller has the
// slot's lock.
func (c *ClientCache[T]) removeLocked(key types.NamespacedName, slot *cacheSlot[T]) {
	slot.removed = true
	c.slots.CompareAndDelete(key, slot)
	c.retire(slot.current.Swap(nil))
}

// retire closes the remote of an entry without waiting for its requests.
func (c *ClientCache[T]) retire(entry *cacheEntry[T]) {
	if entry == nil {
		return
	}
	entry.remote.transport.close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retiring = slices.DeleteFunc(c.retiring, func(r *Remote) bool {
		select {
		case <-r.transport.finished:
			return true
		default:
			return false
		}
	})
	c.retiring = append(c.retiring, entry.remote)
}

func (c *ClientCache[T]) touch(entry *cacheEntry[T]) {
	if c.options.maxIdle > 0 || c.options.maxEntries > 0 {
		entry.used.Store(c.clock().UnixNano())
	}
}

// evictSurplus forgets what was asked for the longest ago until the bound is kept. The
// entry of key, which is new, stays.
func (c *ClientCache[T]) evictSurplus(key types.NamespacedName) {
	if c.options.maxEntries == 0 {
		return
	}
	for c.Len() > c.options.maxEntries {
		var oldest *cacheEntry[T]
		var oldestKey types.NamespacedName
		for k, entry := range c.entries() {
			if k != key && (oldest == nil || entry.used.Load() < oldest.used.Load()) {
				oldest, oldestKey = entry, k
			}
		}
		if oldest == nil {
			return
		}
		c.forget(oldestKey, func(e *cacheEntry[T]) bool { return e == oldest })
	}
}

// startIdleTimer lets the idle timer run, if there is a bound and it doesn't.
func (c *ClientCache[T]) startIdleTimer() {
	if c.options.maxIdle == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle == nil && !c.closed.Load() {
		c.idle = time.AfterFunc(c.options.maxIdle, func() {
			c.mu.Lock()
			c.idle = nil
			c.mu.Unlock()
			c.evictIdle()
			if c.Len() > 0 {
				c.startIdleTimer()
			}
		})
	}
}

func (c *ClientCache[T]) evictIdle() {
	limit := c.clock().Add(-c.options.maxIdle).UnixNano()
	for key, entry := range c.entries() {
		if entry.used.Load() <= limit {
			c.forget(key, func(e *cacheEntry[T]) bool { return e == entry && e.used.Load() <= limit })
		}
	}
}
