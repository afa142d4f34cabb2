// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

var (
	// ErrClosed reports a request through a [Cluster] that is closed, or that was closed
	// while the request was under way; and a call of a [Cache] that is closed.
	ErrClosed = errors.New("connection to data plane is closed")
	// ErrServerChanged reports that a DataPlane names another API server than the one a
	// [Cluster] was made for. The connection can't go on: make a new one.
	ErrServerChanged = errors.New("data plane has another API server")
	// ErrRotated reports a request that was under way when the credentials were rotated,
	// and had not ended when Options.CloseGrace was over. Watches don't get it: they end
	// as if the API server had ended them.
	ErrRotated = errors.New("credentials of data plane were rotated")
)

// Cluster is a connection to the cluster of one DataPlane, whose credentials can be
// replaced while it is in use, and which can be closed. Clients are made of two parts:
//
//	client, err := kubernetes.NewForConfigAndClient(cluster.Config(), cluster.HTTPClient())
//
// and likewise those of client-go's dynamic, metadata and discovery packages. For
// controller-runtime, HTTPClient goes into the field of this name in its options.
//
// All methods may be called at any time from any goroutine.
type Cluster struct {
	key     types.NamespacedName
	options Options
	client  *http.Client
	limiter flowcontrol.RateLimiter // shared by all clients; nil for none

	ctx    context.Context // ends when the Cluster is closed
	cancel context.CancelFunc

	updating sync.Mutex // held by Update and Close
	uid      types.UID
	server   string

	mu       sync.RWMutex
	config   *rest.Config          // the newest that could be used
	current  *session              // nil when there is a reason
	reason   error                 // why no request is let through
	sessions map[*session]struct{} // the current one, and those that have requests under way
	left     sync.WaitGroup        // of sessions
}

// NewCluster returns a connection to the cluster of dp. It makes no request and starts no
// goroutine. The caller must call Close when done. Errors are those of Options.ConfigFor,
// or name the field of the rest.Config that can't be used.
func NewCluster(dp *v1alpha1.DataPlane, options Options) (*Cluster, error) {
	c := &Cluster{options: options.withDefaults(), sessions: map[*session]struct{}{}}
	if dp != nil {
		c.key = types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name}
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.client = &http.Client{Transport: (*transport)(c), CheckRedirect: doNotFollow}
	config, err := c.configFor(dp)
	if err != nil {
		return nil, c.wrap(err)
	}
	first, err := c.newSession(config)
	if err != nil {
		return nil, c.wrap(err)
	}
	if limiter := newLimiter(config); limiter != nil {
		c.limiter = &clusterLimiter{limiter, c}
	}
	c.replace(first, nil)
	return c, nil
}

// Update takes the credentials of dp in place of those that the Cluster has. dp must be
// the DataPlane that the Cluster was made for, as it is now. Update makes no request; when
// what Options.ConfigFor returns is the same as before, it does nothing. Functions in it,
// such as WrapTransport, can't be compared: they are taken when something else changes.
//
// New requests use the new credentials from the moment Update returns, and the old key
// signs nothing any more. Requests under way may go on for Options.CloseGrace; what is left
// then ends with [ErrRotated]. Watches end sooner, each at a random moment, in a way that
// makes informers resume them without a list. The old connections are closed when the
// last request on them has ended.
//
// After an error, no request is let through until another Update succeeds: they fail with
// that error. It is [helpers.ErrReplaced] when dp is another object of the same name,
// [ErrServerChanged] when it names another API server, [ErrClosed] after Close, or
// that of [NewCluster].
func (c *Cluster) Update(dp *v1alpha1.DataPlane) error {
	rotated, err := c.update(dp)
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
	config, err := c.configFor(dp)
	var next *session
	if err == nil {
		c.mu.RLock()
		same := c.current != nil && sameConfig(c.config, config)
		c.mu.RUnlock()
		if same {
			return false, nil
		}
		next, err = c.newSession(config)
	}
	if err != nil {
		err = c.wrap(err)
	}
	c.replace(next, err)
	return err == nil, err
}

// configFor returns the configuration for dp, if dp is still what the Cluster is for.
func (c *Cluster) configFor(dp *v1alpha1.DataPlane) (*rest.Config, error) {
	if dp != nil {
		if key := (types.NamespacedName{Namespace: dp.Namespace, Name: dp.Name}); key != c.key {
			return nil, fmt.Errorf("got data plane %s", key)
		}
		if c.uid != "" && dp.UID != "" && c.uid != dp.UID {
			return nil, helpers.ErrReplaced
		}
	}
	config, err := c.options.ConfigFor(dp)
	switch {
	case err != nil:
		return nil, err
	case config == nil:
		return nil, errors.New("ConfigFor returned no configuration")
	}
	config = rest.CopyConfig(config)
	if err := checkConfig(config, c.options); err != nil {
		return nil, err
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	switch {
	case err != nil:
		return nil, fmt.Errorf("server URL: %w", err)
	case c.server == "":
		c.server = server.String()
	case c.server != server.String():
		return nil, ErrServerChanged
	}
	if c.uid == "" && dp != nil {
		c.uid = dp.UID
	}
	if config.UserAgent == "" { // the wrappers of the transport take it as it is
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
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
		c.left.Add(1)
	}
	c.mu.Unlock()
	switch {
	case old == nil:
	case next != nil:
		old.retire(c.wrap(ErrRotated), true)
	default:
		old.retire(reason, false)
	}
}

// use returns the session for a new request.
func (c *Cluster) use() (*session, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.current, c.reason
}

// wrap names the data plane in an error.
func (c *Cluster) wrap(err error) error { return fmt.Errorf("data plane %s: %w", c.key, err) }

// Key returns namespace and name of the DataPlane.
func (c *Cluster) Key() types.NamespacedName { return c.key }

// Config returns a new configuration with the newest credentials, which the caller owns.
// After an Update that failed, it has the last ones' server and no credentials. All
// configurations of a Cluster share one rate limiter, with QPS and Burst of the first.
//
// Beside HTTPClient, a client takes from it only what has to do with requests, such as
// the rate limiter and content type. Changes of the rest, Impersonate and WrapTransport
// among them, have no effect there: make them in Options.ConfigFor.
//
// A client of Config alone, without HTTPClient, has connections that neither Update nor
// Close reaches. SPDY and WebSocket clients, for exec, attach and port-forward, are made
// so: make them anew for each use.
func (c *Cluster) Config() *rest.Config {
	c.mu.RLock()
	config, reason := c.config, c.reason
	c.mu.RUnlock()
	if reason != nil {
		config = rest.AnonymousClientConfig(config)
	}
	config = rest.CopyConfig(config)
	config.CAData = bytes.Clone(config.CAData)
	config.CertData = bytes.Clone(config.CertData)
	config.KeyData = bytes.Clone(config.KeyData)
	config.RateLimiter = c.limiter
	return config
}

// HTTPClient returns a client on the connections of c, for functions that take one beside
// a rest.Config. It sends the newest credentials, has the limits of [Options], and refuses
// redirects: an API server has no reason for them, and they would take the credentials
// elsewhere.
func (c *Cluster) HTTPClient() *http.Client {
	client := *c.client
	return &client
}

// Done returns a channel that is closed when c is. An informer that is to last as long as
// the connection takes it as its stop channel.
func (c *Cluster) Done() <-chan struct{} { return c.ctx.Done() }

// Close ends the connection. New requests fail with [ErrClosed] at once, watches and other
// lasting requests are cut, and unary requests may go on for Options.CloseGrace. Close
// returns when the last has ended; nothing is open then. A second call waits for the same.
func (c *Cluster) Close() {
	c.startClose()
	c.left.Wait()
}

// startClose is Close without the wait.
func (c *Cluster) startClose() {
	c.updating.Lock()
	defer c.updating.Unlock()
	closed := c.wrap(ErrClosed)
	c.cancel()
	c.replace(nil, closed)
	c.mu.RLock()
	sessions := slices.Collect(maps.Keys(c.sessions))
	c.mu.RUnlock()
	for _, s := range sessions {
		s.retire(closed, false)
	}
}

// String names the DataPlane and the server, and shows no credentials.
func (c *Cluster) String() string {
	return fmt.Sprintf("data plane %s at %s", c.key, c.server)
}

// transport is the Cluster as its HTTP client sees it.
type transport Cluster

// RoundTrip sends a request by the current credentials, and by the next if those were
// rotated before it was sent.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	for body := req.Body; ; {
		s, err := (*Cluster)(t).use()
		if err != nil {
			if body != nil {
				_ = body.Close() // a RoundTripper must
			}
			return nil, err
		}
		resp, err := s.roundTrip(req, body)
		if errors.Is(err, errRetired) {
			continue
		}
		if !errors.Is(err, errNotSent) {
			return resp, err
		}
		if body != nil && body != http.NoBody {
			if req.GetBody == nil {
				return nil, (*Cluster)(t).wrap(ErrRotated)
			}
			if body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// WrappedRoundTripper is how apimachinery's net package finds the transport, to close its
// idle connections.
func (t *transport) WrappedRoundTripper() http.RoundTripper {
	if s, _ := (*Cluster)(t).use(); s != nil {
		return s.transport
	}
	return nil
}

// doNotFollow leaves redirects to the session, and those of proxied services to the caller.
func doNotFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// clusterLimiter lets requests of a Cluster that takes none fail at once, in place of
// waiting for their turn.
type clusterLimiter struct {
	flowcontrol.RateLimiter
	cluster *Cluster
}

func (l *clusterLimiter) Wait(ctx context.Context) error {
	if _, err := l.cluster.use(); err != nil {
		return err
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.cluster.ctx, cancel)()
	err := l.RateLimiter.Wait(waiting)
	if err != nil && ctx.Err() == nil && l.cluster.ctx.Err() != nil {
		return l.cluster.wrap(ErrClosed)
	}
	return err
}
