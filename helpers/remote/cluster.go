// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// Cluster is a connection to the cluster of one DataPlane, whose credentials can be
// replaced while it is in use. Clients are made of two parts:
//
//	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
//
// and likewise those of client-go's dynamic, metadata and discovery packages. For
// controller-runtime, HTTPClient goes into the field of this name in its options.
//
// All methods may be called at any time from any goroutine.
type Cluster struct {
	*target
	limiter flowcontrol.RateLimiter // shared by all clients; nil for none

	ctx    context.Context // ends when the Cluster is closed
	cancel context.CancelFunc

	updating   sync.Mutex // held by Update, Close and a request that asks ConfigFor again
	uid        types.UID
	dp         *v1alpha1.DataPlane // of the last Update
	refusedAt  time.Time           // when a refused request last asked ConfigFor
	refusedErr error               // what ConfigFor said then

	mu        sync.RWMutex
	askedAt   time.Time             // when a request last asked ConfigFor without a refusal
	config    *rest.Config          // the newest that could be used
	current   *session              // nil if there is a reason
	reason    error                 // why no request is accepted
	rotatedAt time.Time             // zero if the first session is the current one
	sessions  map[*session]struct{} // the current one, and those with requests under way
	open      sync.WaitGroup        // counts sessions
}

var (
	// ErrClosed reports a request through a [Cluster] that is closed, or that was closed while
	// the request was under way; and a call of a [Cache] that is closed.
	ErrClosed = errors.New("connection to data plane is closed")
	// ErrServerChanged reports that a DataPlane names another API server than the one a [Cluster]
	// was made for: another scheme, host, port or path. Another spelling of the same address, such
	// as with a slash at the end, is the same server. Make a new Cluster.
	ErrServerChanged = errors.New("data plane has another API server")
)

// NewCluster returns a connection to the cluster of dp. It makes no request and starts no
// goroutine. The Cluster keeps dp, which must not be modified then. The caller must call Close
// when done. Errors are those of Options.ConfigFor, or name the field of the rest.Config that
// can't be used.
func NewCluster(dp *v1alpha1.DataPlane, options Options) (*Cluster, error) {
	if dp == nil {
		return nil, dataplane.ErrNil
	}
	t := &target{key: cache.MetaObjectToName(dp).AsNamespacedName(), options: options.withDefaults()}
	config, server, err := t.options.acceptedConfig(dp)
	if err != nil {
		return nil, t.wrap(err)
	}
	t.server = server
	c := &Cluster{target: t, uid: dp.UID, dp: dp, askedAt: time.Now(), sessions: map[*session]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	first, err := newSession(t, config, c.forget)
	if err != nil {
		return nil, c.wrap(err)
	}
	c.limiter = newLimiter(config, c)
	c.replace(first, nil)
	return c, nil
}

// Update replaces the credentials of the Cluster with those of dp, which must be the
// DataPlane that the Cluster was made for, as it is now. Like [NewCluster], it makes no request
// and keeps dp. If Options.ConfigFor returns the same as before, it does nothing. Functions, such
// as WrapTransport, can't be compared: new ones take effect when something else changes.
//
// From the moment Update returns, new requests use the new credentials, and the old key signs
// nothing. Requests under way have Options.Grace to end; then they fail with [ErrRotated].
// Watches end within the grace too, and informers resume them without a list. For this, each
// watch stays open for at least 1.5 s after its start or its initial events: after a shorter one,
// reflectors list again. The old connections are closed when they are no longer used.
//
// If Update fails, all requests fail with its error until an Update succeeds, or until a request,
// which then calls Options.ConfigFor every 10 s at most, gets credentials for dp that can be used.
// The error is [helpers.ErrReplaced] if dp is another object of the same name, [ErrServerChanged]
// if it has another API server, [ErrClosed] after Close, or one of those of [NewCluster].
func (c *Cluster) Update(dp *v1alpha1.DataPlane) error {
	return c.report(c.update(dp))
}

// report calls OnRotate after a rotation. The caller holds no lock.
func (c *Cluster) report(rotated bool, err error) error {
	if rotated && c.options.OnRotate != nil {
		c.options.OnRotate(c.key)
	}
	return err
}

func (c *Cluster) update(dp *v1alpha1.DataPlane) (rotated bool, err error) {
	c.updating.Lock()
	defer c.updating.Unlock()
	if c.ctx.Err() != nil {
		return false, c.wrap(ErrClosed)
	}
	c.dp = dp
	config, err := c.accept(dp)
	if err == nil {
		rotated, err = c.rotateTo(config)
	}
	if err != nil {
		err = c.wrap(err)
		c.replace(nil, err)
		c.fail(err)
		return false, err
	}
	return rotated, nil
}

// rotateTo puts a configuration in the place of the current one, unless it is the same. The
// caller holds updating.
func (c *Cluster) rotateTo(config *rest.Config) (rotated bool, err error) {
	c.mu.RLock()
	same := c.current != nil && sameConfig(c.config, config, c.server)
	c.mu.RUnlock()
	if same {
		return false, nil
	}
	next, err := newSession(c.target, config, c.forget)
	if err != nil {
		return false, err
	}
	c.replace(next, nil)
	c.refusedErr = nil
	c.mu.Lock()
	c.rotatedAt = time.Now()
	c.mu.Unlock()
	return true, nil
}

// accept returns the configuration for dp, if dp is still what the Cluster is for. The caller
// holds updating.
func (c *Cluster) accept(dp *v1alpha1.DataPlane) (*rest.Config, error) {
	if dp == nil {
		return nil, dataplane.ErrNil
	}
	switch key := cache.MetaObjectToName(dp).AsNamespacedName(); {
	case key != c.key:
		return nil, fmt.Errorf("got data plane %s", dataplane.Name(key.Namespace, key.Name))
	case c.uid != "" && dp.UID != "" && c.uid != dp.UID:
		return nil, helpers.ErrReplaced
	}
	config, server, err := c.options.acceptedConfig(dp)
	switch {
	case err != nil:
		return nil, err
	case *server != *c.server:
		return nil, ErrServerChanged
	}
	c.uid = cmp.Or(c.uid, dp.UID)
	return config, nil
}

// replace puts a session, or the reason why there is none, in the place of the current
// session, and retires that.
func (c *Cluster) replace(next *session, reason error) {
	c.mu.Lock()
	old := c.current
	c.current, c.reason = next, reason
	if next != nil {
		c.config = next.config
		c.sessions[next] = struct{}{}
		c.open.Add(1)
	}
	c.mu.Unlock()
	switch {
	case old == nil:
	case next != nil:
		old.handOver()
	default:
		old.shutDown(reason)
	}
}

// forget removes a session that has closed.
func (c *Cluster) forget(s *session) {
	c.mu.Lock()
	delete(c.sessions, s)
	c.mu.Unlock()
	c.open.Done()
}

// use returns the session for a new request.
func (c *Cluster) use() (*session, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.current, c.reason
}

// Key returns namespace and name of the DataPlane. The namespace of a ClusterDataPlane is "".
func (c *Cluster) Key() types.NamespacedName { return c.key }

// Config returns a new configuration with the newest credentials, which the caller owns. After an
// Update that failed, it has the server but no credentials. All configurations of a Cluster share
// the rate limiter of the first.
//
// In a client that is made of Config and HTTPClient, HTTPClient connects and authenticates, and
// Config has only the settings of requests, such as the rate limiter and the content type. Change
// others, such as Impersonate and WrapTransport, in Options.ConfigFor: here, they have no effect.
//
// Update, Close, the limits and DialControl of [Options] don't reach the connections of a client
// that is made of Config alone, such as a WebSocket client. Make one anew for each use, and none
// where DialControl must hold. For exec, attach and port-forward, a SPDY client whose
// UpgradeTransport is the Transport of HTTPClient connects through the Cluster, see
// docs/connecting.md. A rotation ends its connections after Options.Grace, and Close at once.
func (c *Cluster) Config() *rest.Config {
	c.mu.RLock()
	config, reason := c.config, c.reason
	c.mu.RUnlock()
	if reason != nil {
		config = rest.AnonymousClientConfig(config)
	}
	config = cloneConfig(config)
	config.RateLimiter = c.limiter
	return config
}

// HTTPClient returns a client on the connections of c, for functions that take one beside
// a rest.Config. It sends the newest credentials, has the limits of [Options], and refuses
// redirects, which would take the credentials elsewhere. A Retry-After of an error is 32 s at
// most: client-go waits inside the request for as long as that says.
func (c *Cluster) HTTPClient() *http.Client {
	return &http.Client{Transport: (*roundTripper)(c), CheckRedirect: doNotFollow}
}

// Done returns a channel that is closed when c is. Use it as the stop channel of informers
// on this connection.
func (c *Cluster) Done() <-chan struct{} { return c.ctx.Done() }

// Close ends the connection. New requests fail with [ErrClosed] at once, watches and other
// lasting requests are cut, and unary requests may go on for Options.Grace. Close
// returns when the last has ended; nothing is open then. A second call waits for the same.
func (c *Cluster) Close() {
	c.startClose()
	c.open.Wait()
}

// Abort ends the connection like Close, but cuts all requests at once. It may be called while
// Close waits, which then returns.
func (c *Cluster) Abort() {
	for _, s := range c.startClose() {
		s.close()
	}
	c.open.Wait()
}

// startClose is Close without the wait. It returns the sessions that have requests.
func (c *Cluster) startClose() []*session {
	c.updating.Lock()
	defer c.updating.Unlock()
	closed := c.wrap(ErrClosed)
	c.replace(nil, closed)
	c.cancel() // Done says that requests are refused
	c.mu.RLock()
	sessions := slices.Collect(maps.Keys(c.sessions))
	c.mu.RUnlock()
	for _, s := range sessions {
		s.shutDown(closed)
	}
	return sessions
}

// String names the DataPlane and the server, and shows no credentials.
func (c *Cluster) String() string {
	return fmt.Sprintf("data plane %s at %s", dataplane.Name(c.key.Namespace, c.key.Name), c.server)
}
