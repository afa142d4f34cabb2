// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"fmt"
	"iter"
	"maps"
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
	slots   slotMap[T]
	clock   func() time.Time
	closed  atomic.Bool

	mu       sync.Mutex             // of what follows
	retiring []*Remote              // closed, and perhaps not finished yet
	buried   []types.NamespacedName // slots of deleted data planes, the oldest first
	idle     *time.Timer            // runs while there are entries that can become idle
}

// cacheSlot is the place of one DataPlane.
type cacheSlot[T any] struct {
	building sync.Mutex // held while a client is built, so that there is one build at a time
	current  atomic.Pointer[cacheEntry[T]]

	mu      sync.Mutex // of what follows, and of writing current; never held for long
	seen    seen
	removed bool // from the cache; whoever finds it so looks again
}

// seen is what is known of the newest object of a name, beyond what current was built
// from: that its credentials are not those of current, or that it was deleted.
type seen struct {
	uid        types.UID
	generation int64
	created    time.Time
	deleted    bool
}

// cacheEntry is immutable but for what is atomic.
type cacheEntry[T any] struct {
	uid        types.UID
	created    time.Time
	generation atomic.Int64 // the highest that these credentials were seen at
	creds      v1alpha1.APIServerCredentials
	remote     *Remote
	gate       *gate // of the remote, which Get finds here in a step less
	client     T
	used       atomic.Int64 // nanoseconds since the epoch; kept only if something is bounded
}

// ErrOutdated reports that a ClientCache was asked for the client of a DataPlane as it
// was before its credentials changed: by an object from a cache that lags behind. The
// credentials of then are no longer served.
var ErrOutdated = errors.New("data plane is out of date: its credentials have changed since")

// NewClientCache returns an empty cache. It calls build, with a new Remote, for each
// data plane that it has no client for. build must neither be nil, nor wait for the
// network, nor call the cache for the same data plane; its client should be made of both
// Config and HTTPClient of the Remote. The options are those of the Remotes, and
// [WithIdleTimeout] and [WithMaxEntries]. The caller must call Close when done.
func NewClientCache[T any](build func(*Remote) (T, error), opts ...Option) *ClientCache[T] {
	return &ClientCache[T]{
		build: build, opts: slices.Clone(opts), options: newOptions(opts), clock: time.Now,
	}
}

// WithIdleTimeout makes a ClientCache forget a data plane whose client nobody has asked
// for in d, within d after that. Requests through a client don't count: whoever keeps one
// beyond that, for an informer say, asks for it from time to time. 0 or less, the
// default, is no bound. It has no effect elsewhere.
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
// credentials of dp. It makes no network request, and waits for nothing but a build for
// the same data plane.
//
// An object that is older than the one the client was built for, as a lagging cache
// returns it, gets the present client. An object without UID, as a program makes it by
// hand, is the same when its credentials are; one without a name is an error. A
// DataPlane that is being deleted is served as before, since finalizers need its
// cluster.
//
// Errors are those of [NewRemote] and of build, and [ErrRemoteClosed] after Close; none is
// kept. When the credentials of dp can't be used, the client of its earlier credentials
// is closed, not served, and an object from before that gets [ErrOutdated]; likewise after
// Handler has seen the credentials change. After Handler has seen dp deleted, the error is
// [ErrDeleted], and [ErrReplaced] when another object of its name has come since. What was
// seen is forgotten by Forget, and with an entry that is evicted by a bound.
func (c *ClientCache[T]) Get(dp *v1alpha1.DataPlane) (T, error) {
	var none T
	switch {
	case dp == nil || dp.Name == "":
		return none, errors.New("data plane has no name")
	case c.closed.Load():
		return none, errCacheClosed
	}
	key := keyOf(dp)
	if slot := c.slots.load(key); slot != nil {
		if entry := slot.current.Load(); entry != nil && entry.serves(dp) {
			c.touch(entry)
			return entry.client, nil
		}
	}
	for {
		client, err := c.renew(key, c.slots.loadOrStore(key), dp)
		if !errors.Is(err, errRemoved) {
			return client, err
		}
	}
}

var (
	errCacheClosed = fmt.Errorf("client cache: %w", ErrRemoteClosed)
	errRemoved     = errors.New("the slot was removed meanwhile")
)

// serves says whether the entry is for dp. Strings of an object from an informer are the
// very ones of the entry mostly, and so compare without being read; others are compared
// in full, since nothing less finds every change.
func (e *cacheEntry[T]) serves(dp *v1alpha1.DataPlane) bool {
	if e.gate.closed.Load() {
		return false
	}
	if e.uid != dp.UID && e.uid != "" && dp.UID != "" {
		return false
	}
	generation := e.generation.Load()
	if e.creds == dp.Spec.KubernetesCluster.Credentials {
		for dp.Generation > generation && !e.generation.CompareAndSwap(generation, dp.Generation) {
			generation = e.generation.Load()
		}
		return true
	}
	return e.uid == dp.UID && dp.UID != "" && 0 < dp.Generation && dp.Generation < generation
}

// check says why dp can't be served, if what is seen is newer.
func (s *seen) check(dp *v1alpha1.DataPlane) error {
	switch {
	case dp.UID == "" || s.uid == "":
		return nil
	case dp.UID != s.uid:
		if dp.CreationTimestamp.Time.Before(s.created) {
			return ErrReplaced
		}
		return nil
	case s.deleted:
		return ErrDeleted
	case 0 < dp.Generation && dp.Generation < s.generation:
		return ErrOutdated
	}
	return nil
}

// note remembers dp, unless what is seen is newer.
func (s *seen) note(dp *v1alpha1.DataPlane) {
	if dp.UID != "" && s.check(dp) == nil {
		*s = seen{uid: dp.UID, generation: dp.Generation, created: dp.CreationTimestamp.Time}
	}
}

// renew builds the client of dp and puts it in the place of the one before.
func (c *ClientCache[T]) renew(key types.NamespacedName, slot *cacheSlot[T], dp *v1alpha1.DataPlane) (T, error) {
	slot.building.Lock()
	defer slot.building.Unlock()
	var none T
	if entry := slot.current.Load(); entry != nil && entry.serves(dp) {
		c.touch(entry)
		return entry.client, nil
	}
	slot.mu.Lock()
	err := slot.seen.check(dp)
	slot.mu.Unlock()
	if err != nil {
		return none, fmt.Errorf("data plane %s: %w", key, err)
	}
	entry, err := c.newEntry(dp)
	if errors.Is(err, ErrSecretsDropped) { // which says nothing of the credentials
		return none, fmt.Errorf("data plane %s: %w", key, err)
	}
	if err := c.store(key, slot, dp, entry); err != nil {
		return none, err
	}
	if err != nil {
		return none, fmt.Errorf("data plane %s: %w", key, err)
	}
	c.startIdleTimer()
	c.evictSurplus(key)
	return entry.client, nil
}

// newEntry closes the remote again unless there is a client of it, also when build panics.
func (c *ClientCache[T]) newEntry(dp *v1alpha1.DataPlane) (_ *cacheEntry[T], err error) {
	remote, err := NewRemote(dp, c.opts...)
	if err != nil {
		return nil, err
	}
	entry := &cacheEntry[T]{
		uid: dp.UID, created: dp.CreationTimestamp.Time, creds: dp.Spec.KubernetesCluster.Credentials, remote: remote, gate: remote.transport,
	}
	entry.generation.Store(dp.Generation)
	c.touch(entry)
	built := false
	defer func() {
		if !built {
			remote.transport.close()
		}
	}()
	if entry.client, err = c.build(remote); err != nil {
		return nil, err
	}
	built = true
	return entry, nil
}

// store replaces the current entry of a slot by one for dp, or by none when entry is nil,
// unless something newer has been seen while it was built.
func (c *ClientCache[T]) store(key types.NamespacedName, slot *cacheSlot[T], dp *v1alpha1.DataPlane, entry *cacheEntry[T]) error {
	slot.mu.Lock()
	defer slot.mu.Unlock()
	err := slot.seen.check(dp)
	switch {
	case slot.removed:
		err = errRemoved
	case c.closed.Load(): // Close may have looked here before
		err = errCacheClosed
	case err != nil:
		err = fmt.Errorf("data plane %s: %w", key, err)
	}
	if err != nil {
		c.retire(entry)
		return err
	}
	slot.seen.note(dp)
	c.retire(slot.current.Swap(entry))
	return nil
}

// Forget closes the client of a data plane and removes all that is known of it. A later
// Get builds another.
func (c *ClientCache[T]) Forget(key types.NamespacedName) {
	if slot := c.slots.load(key); slot != nil {
		slot.mu.Lock()
		defer slot.mu.Unlock()
		c.remove(key, slot)
	}
}

// evict removes the entry of a key if it still is this one.
func (c *ClientCache[T]) evict(key types.NamespacedName, entry *cacheEntry[T]) {
	if slot := c.slots.load(key); slot != nil {
		slot.mu.Lock()
		defer slot.mu.Unlock()
		if slot.current.Load() == entry {
			c.remove(key, slot)
		}
	}
}

// Handler returns what an informer of DataPlanes calls so that the cache forgets those
// that are deleted, and closes at once what was built from credentials that have
// changed since. It never closes the client of another object of the same name, and never
// waits for a build. The cache remembers the last thousand that were deleted, so that an
// object that somebody still holds does not bring a client back.
func (c *ClientCache[T]) Handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(before, after any) {
			old, isOld := before.(*v1alpha1.DataPlane)
			dp, ok := after.(*v1alpha1.DataPlane)
			if !ok || dp == nil {
				return
			}
			if isOld && old != nil && old.UID != dp.UID { // deleted and recreated unwatched
				c.deleted(old)
			}
			c.changed(dp)
		},
		DeleteFunc: func(obj any) {
			last, unknown := obj.(cache.DeletedFinalStateUnknown)
			if unknown {
				obj = last.Obj
			}
			if dp, ok := obj.(*v1alpha1.DataPlane); ok && dp != nil {
				c.deleted(dp)
			} else if namespace, name, err := cache.SplitMetaNamespaceKey(last.Key); unknown && err == nil {
				c.Forget(types.NamespacedName{Namespace: namespace, Name: name})
			}
		},
	}
}

// changed closes what was built from other credentials than dp has.
func (c *ClientCache[T]) changed(dp *v1alpha1.DataPlane) {
	slot := c.slots.load(keyOf(dp))
	if slot == nil || secretsDropped(dp) {
		return
	}
	slot.mu.Lock()
	defer slot.mu.Unlock()
	entry := slot.current.Load()
	if entry != nil && entry.serves(dp) {
		return
	}
	if slot.seen.check(dp) != nil {
		return
	}
	slot.seen.note(dp)
	if entry != nil && (entry.uid == dp.UID || entry.uid == "" || !dp.CreationTimestamp.Time.Before(entry.created)) {
		slot.current.Store(nil)
		c.retire(entry)
	}
}

// deleted closes the client of dp, and remembers that dp is gone.
func (c *ClientCache[T]) deleted(dp *v1alpha1.DataPlane) {
	key := keyOf(dp)
	slot := c.slots.loadOrStore(key)
	slot.mu.Lock()
	defer slot.mu.Unlock()
	entry := slot.current.Load()
	switch {
	case entry != nil && entry.uid != dp.UID && entry.uid != "":
		return // another object of the name
	case slot.seen.uid != "" && slot.seen.uid != dp.UID && dp.CreationTimestamp.Time.Before(slot.seen.created):
		return
	}
	slot.current.Store(nil)
	c.retire(entry)
	slot.seen = seen{uid: dp.UID, created: dp.CreationTimestamp.Time, deleted: true}
	c.bury(key)
}

// maxBuried is how many deleted data planes are remembered.
const maxBuried = 1000

// bury remembers a key whose slot only says that its object is deleted, and removes the
// oldest of those when there are too many. The caller has the slot's lock.
func (c *ClientCache[T]) bury(key types.NamespacedName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buried = append(c.buried, key)
	if len(c.buried) <= maxBuried {
		return
	}
	oldest := c.buried[0]
	c.buried = c.buried[1:]
	slot := c.slots.load(oldest)
	// Whoever holds this lock is busy with it: then it is no loss to leave it.
	if slot == nil || oldest == key || !slot.mu.TryLock() {
		return
	}
	defer slot.mu.Unlock()
	if slot.seen.deleted && slot.current.Load() == nil {
		slot.removed = true
		c.slots.delete(oldest, slot)
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
	for key := range c.slots.all() { // also those whose client is being built
		c.Forget(key)
	}
	c.mu.Lock()
	retiring := slices.Clone(c.retiring)
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
		for key, slot := range c.slots.all() {
			if entry := slot.current.Load(); entry != nil && !yield(key, entry) {
				return
			}
		}
	}
}

// remove removes a slot, by identity, and closes what is in it. The caller has the
// slot's lock.
func (c *ClientCache[T]) remove(key types.NamespacedName, slot *cacheSlot[T]) {
	slot.removed = true
	c.slots.delete(key, slot)
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
	for {
		n := 0
		var oldest *cacheEntry[T]
		var oldestKey types.NamespacedName
		for k, entry := range c.entries() {
			n++
			if k != key && (oldest == nil || entry.used.Load() < oldest.used.Load()) {
				oldest, oldestKey = entry, k
			}
		}
		if n <= c.options.maxEntries || oldest == nil {
			return
		}
		c.evict(oldestKey, oldest)
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
			c.evict(key, entry)
		}
	}
}

// slotMap holds the slots of a cache. A sync.Map would box the keys, and take more steps
// through memory to find them.
type slotMap[T any] struct {
	// Readers write to the lock, too, so nothing that all of them read is on its line of
	// memory.
	_     [64]byte
	mu    sync.RWMutex // the innermost: nothing else is locked with it held
	_     [64]byte
	slots map[types.NamespacedName]*cacheSlot[T]
}

// load returns nil where there is none.
func (m *slotMap[T]) load(key types.NamespacedName) *cacheSlot[T] {
	m.mu.RLock()
	slot := m.slots[key]
	m.mu.RUnlock()
	return slot
}

// loadOrStore makes the slot of a key if need be.
func (m *slotMap[T]) loadOrStore(key types.NamespacedName) *cacheSlot[T] {
	if slot := m.load(key); slot != nil {
		return slot
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := m.slots[key]
	if slot == nil {
		if m.slots == nil {
			m.slots = map[types.NamespacedName]*cacheSlot[T]{}
		}
		slot = &cacheSlot[T]{}
		m.slots[key] = slot
	}
	return slot
}

// delete removes a slot, unless another has its place.
func (m *slotMap[T]) delete(key types.NamespacedName, slot *cacheSlot[T]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.slots[key] == slot {
		delete(m.slots, key)
	}
}

// all returns a copy.
func (m *slotMap[T]) all() map[types.NamespacedName]*cacheSlot[T] {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.Clone(m.slots)
}
