// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// Cluster is a connection to the cluster of one DataPlane, whose credentials can be replaced while
// it is in use. Make a client from its Config and its HTTPClient:
//
//	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
//
// Clients of client-go's dynamic, metadata and discovery packages are made in the same way. For
// controller-runtime, set the field HTTPClient of its options.
//
// All methods may be called at any time from any goroutine.
type Cluster struct {
	*target
	limiter flowcontrol.RateLimiter // shared by all clients; nil for none

	ctx    context.Context // ends when the Cluster is closed
	cancel context.CancelFunc

	updating  sync.Mutex // held by Update, Close and a request that asks ConfigFor again
	uid       types.UID
	dp        *v1alpha1.DataPlane // of the last Update
	refusedAt time.Time           // when a refused request last asked ConfigFor
	askErr    error               // the error of asking it then
	agentCA   []*x509.Certificate // of the last DataPlane that had one
	moved     atomic.Bool         // the last DataPlane, or ConfigFor's last result, has another API server

	mu        sync.RWMutex
	askedAt   time.Time             // when a request last asked ConfigFor without a refusal
	config    *rest.Config          // the newest that could be used
	current   *session              // nil if reason is set
	reason    error                 // why no request is accepted
	rotatedAt time.Time             // zero if the first session is the current one
	sessions  map[*session]struct{} // the current one, and those with requests under way
	open      sync.WaitGroup        // counts sessions
}

var (
	// ErrClosed reports that a [Cluster] or a [Cache] is closed. A request that Close cuts fails
	// with it too.
	ErrClosed = errors.New("connection to data plane is closed")
	// ErrServerChanged reports that a DataPlane has another API server than its [Cluster]. Make a new
	// Cluster. Another API server has another scheme, host, port or path. Another spelling of the same
	// address, such as a slash at the end, is the same server. Through OpenChoreo's cluster gateway,
	// the path contains the plane ID, so another plane ID is another server.
	//
	// A DataPlane whose spec.clusterAgent.clientCA.value has certificates, but none with a former key,
	// has another API server too, whatever Options.ConfigFor returns: its cluster may have been built
	// anew, and informers would wait for resource versions that it hasn't reached.
	ErrServerChanged = errors.New("data plane has another API server")
)

// NewCluster returns a connection to the cluster of dp. It makes no request and starts no
// goroutine. The Cluster keeps dp: don't modify it afterwards. The caller must call Close when
// done. An error is one of Options.ConfigFor, or says which part of its result can't be used.
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
	c := &Cluster{target: t, uid: dp.UID, dp: dp, agentCA: agentCA(dp), askedAt: time.Now(), sessions: map[*session]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	first, err := newSession(t, config, c.forget)
	if err != nil {
		return nil, c.wrap(err)
	}
	c.limiter = newLimiter(config, c)
	c.replace(first, nil)
	return c, nil
}

// Update replaces the credentials of the Cluster with those of dp, the current state of the same
// DataPlane. Like [NewCluster], it makes no request and keeps dp. If Options.ConfigFor returns an
// equal configuration, Update does nothing. Functions, such as WrapTransport, can't be compared:
// new ones take effect when something else changes.
//
// From the moment Update returns, new requests use the new credentials, and the old key signs
// nothing. Requests under way have Options.Grace to end; then they fail with [ErrRotated]. Watches
// end within the grace, and informers resume them without a list. For this, each watch stays open
// for at least 1.5 s after its start or its initial events: after a shorter watch, reflectors list
// again. The old connections are closed when they are no longer used.
//
// If Update fails, all requests fail with its error, and call Options.ConfigFor again for dp, at
// most every 10 s. They work again when it returns credentials that can be used, or when another
// Update succeeds; if it returns another error, they fail with that. Update's error is
// [helpers.ErrReplaced] if dp is another object of the same name, [ErrServerChanged] if it has
// another API server, [ErrClosed] after Close, or one of [NewCluster].
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
		return false, c.refuse(err)
	}
	return rotated, nil
}

// refuse makes all requests fail with err, and returns the error that they get. The caller holds
// updating.
func (c *Cluster) refuse(err error) error {
	err = c.wrap(err)
	c.replace(nil, err)
	c.fail(err)
	return err
}

// rotateTo replaces the current session with one for config, unless the current session's
// configuration is the same. The caller holds updating.
func (c *Cluster) rotateTo(config *rest.Config) (rotated bool, err error) {
	c.mu.RLock()
	current, last := c.current, c.config // only holders of updating change them
	c.mu.RUnlock()
	if current != nil && sameConfig(last, config, c.server) { // without mu: it calls the user's Proxy
		c.askErr = nil
		return false, nil
	}
	next, err := newSession(c.target, config, c.forget)
	if err != nil {
		return false, err
	}
	c.replace(next, nil)
	c.askErr = nil
	c.mu.Lock()
	c.rotatedAt = time.Now()
	c.mu.Unlock()
	return true, nil
}

// accept returns the configuration for dp. It refuses another DataPlane and another API server. The
// caller holds updating.
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
	ca := agentCA(dp)
	if otherKeys(c.agentCA, ca) {
		c.moved.Store(true)
		return nil, ErrServerChanged
	}
	config, server, err := c.options.acceptedConfig(dp)
	if err == nil && *server != *c.server {
		c.moved.Store(true)
		return nil, ErrServerChanged
	}
	if len(ca) > 0 { // even if ConfigFor fails, or a renewal by way of both certificates would be missed
		c.agentCA = ca
	}
	if err != nil {
		return nil, err
	}
	c.moved.Store(false)
	c.uid = cmp.Or(c.uid, dp.UID)
	return config, nil
}

// agentCA returns the certificates of clientCA that can be read, if the DataPlane has them and not
// only the name of their Secret.
func agentCA(dp *v1alpha1.DataPlane) (certificates []*x509.Certificate) {
	if dp.Spec.ClusterAgent == nil {
		return nil
	}
	for block, rest := pem.Decode([]byte(dp.Spec.ClusterAgent.ClientCA.Value)); block != nil; block, rest = pem.Decode(rest) {
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			certificates = append(certificates, certificate)
		}
	}
	return certificates
}

// otherKeys reports whether two CAs have certificates, and no key in common.
func otherKeys(former, next []*x509.Certificate) bool {
	return len(former) > 0 && len(next) > 0 && !slices.ContainsFunc(next, func(n *x509.Certificate) bool {
		return slices.ContainsFunc(former, func(f *x509.Certificate) bool {
			return bytes.Equal(f.RawSubjectPublicKeyInfo, n.RawSubjectPublicKeyInfo)
		})
	})
}

// replace makes next the current session, or sets the reason why there is none, and retires the old
// session.
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

// Key returns the namespace and name of the DataPlane. The namespace of a ClusterDataPlane is "".
func (c *Cluster) Key() types.NamespacedName { return c.key }

// Config returns a new configuration with the newest credentials, which the caller owns. After an
// Update that failed, it has the server but no credentials. All configurations of a Cluster share
// one rate limiter, made from the first.
//
// In a client made from Config and HTTPClient, HTTPClient connects and authenticates, and Config
// has only the settings of requests, such as the rate limiter and the content type. Set others,
// such as Impersonate and WrapTransport, in Options.ConfigFor: here, they have no effect.
//
// A client made from Config alone, such as a WebSocket client, makes its own connections. Update,
// Close, the limits and DialControl of [Options] have no effect on them. Make such a client anew
// for each use, and none where DialControl must hold. For exec, attach and port-forward, use a SPDY
// client whose UpgradeTransport is the Transport of HTTPClient: it connects through the Cluster,
// see docs/connecting.md. A rotation ends its connections after Options.Grace, and Close at once.
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

// HTTPClient returns a client on the connections of c, for functions that take one beside a
// rest.Config. It sends the newest credentials, has the limits of [Options], and refuses redirects,
// which would send the credentials elsewhere. It lowers a Retry-After of an error to 32 s, since
// client-go waits inside the request for that long.
func (c *Cluster) HTTPClient() *http.Client {
	return &http.Client{Transport: (*roundTripper)(c), CheckRedirect: doNotFollow}
}

// Done returns a channel that is closed when c is. Use it as the stop channel of informers
// on this connection.
func (c *Cluster) Done() <-chan struct{} { return c.ctx.Done() }

// Close ends the connection. New requests fail with [ErrClosed], watches and other lasting requests
// are cut, and unary requests have Options.Grace to finish. Close returns when the last has ended;
// nothing is open then. A second call waits, too.
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
	c.cancel() // after replace: once Done is closed, requests are refused
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
