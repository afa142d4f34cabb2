// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"math"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Options change how a [Cluster] connects. The zero value is good for most programs. A duration of
// 0 means its default; a negative one means no limit, or no grace.
type Options struct {
	// ConfigFor turns a DataPlane into the configuration of its connection. The default is
	// [helpers.RESTConfigFor]. Set it to connect through OpenChoreo's cluster gateway, with
	// [helpers.ConfigFor], or to add settings that the spec doesn't hold: impersonation, a bearer
	// token, a proxy, a server name or a round tripper (by Wrap).
	//
	// NewCluster and Update call it; a Fleet and the Handler of a [Cache] call Update when the
	// DataPlane changes and at each resync of the informer. A request calls it again, and reads the
	// files that its result names, at most once a minute, or every 10 s after the API server
	// refused the credentials or Update failed. In this way, credentials from elsewhere take
	// effect, such as certificates that cert-manager renews or a token in a Secret. A read that was
	// refused is then sent once more; a write isn't. Another API server isn't used: see
	// OnServerChanged. If ConfigFor fails in a request, the connection stays as it was, and the error of
	// a refused request includes ConfigFor's. It never runs twice at once for one Cluster. client-go
	// itself reads a BearerTokenFile again.
	//
	// ConfigFor must be quick, must make no request, and must not call the Cluster or the Cache. It
	// must return the same configuration until the credentials change: another token at each call
	// would end all watches every minute. ExecProvider, AuthProvider, Transport and Timeout are
	// refused with an error that names the field. An http URL is accepted, and sends tokens in
	// clear text.
	ConfigFor func(*v1alpha1.DataPlane) (*rest.Config, error)

	// StallTimeout ends a unary request after this long without a byte in either direction. It
	// doesn't cut a long list over a slow network. The kernel takes an upload of a few MB at once;
	// such an upload has this long to reach the API server. A watch that begins with all objects
	// (sendInitialEvents, with bookmarks) has the same limit until they have arrived. The default
	// is 40 s, more than the 30 s of OpenChoreo's cluster gateway.
	StallTimeout time.Duration
	// HeaderTimeout limits how long a lasting request may wait for response headers: a watch, exec,
	// attach, port-forward, a followed log, or a request to a proxied service. Once the headers, and
	// any initial events, have arrived, there is no limit. It must be more than 5 s for watches through
	// OpenChoreo's cluster gateway, where headers come with the last event: an informer would receive
	// nothing. The default is 40 s.
	HeaderTimeout time.Duration
	// DialTimeout limits how long connecting by TCP may take, to all addresses of a name together,
	// even through a Dial of ConfigFor. The default is 10 s. After an attempt to connect took a
	// second or more and failed, requests fail at once with its error. 10 s later, one of them
	// begins another attempt, and waits half a second for it. A Probe and a watch always connect. A
	// Probe takes at most DialTimeout and 5 s more; with a negative DialTimeout, it is
	// limited as other requests are.
	DialTimeout time.Duration
	// Grace is how long requests under way may continue after a rotation, and unary requests after
	// Close. After a rotation, a watch may first receive all its initial events, for a minute at
	// most. The default is 5 s.
	Grace time.Duration

	// DialControl is called with each resolved address before a connection to it is made; an error
	// refuses the address. Use it if the authors of DataPlanes must not reach every address that
	// the program can reach. With a proxy, the address is the proxy's. See
	// [net.Dialer.ControlContext].
	//
	// It applies to clients that connect through HTTPClient, but not to clients made from Config
	// alone, such as WebSocket clients, which take no dialer; see [Cluster.Config].
	DialControl func(ctx context.Context, network, address string, c syscall.RawConn) error
	// OnRotate is called after each rotation, by the goroutine of the Update or of the request that
	// noticed the new credentials. It may be called several times at once.
	OnRotate func(key types.NamespacedName)
	// OnServerChanged is called by the goroutine of a request that finds [ErrServerChanged] when it
	// calls ConfigFor again. It may be called several times, even at once. Requests continue to go
	// to the former server. Update doesn't call OnServerChanged, but returns the error; after that,
	// requests fail, and may call it. Make a new Cluster, and close this one from another goroutine:
	// Close waits for the request. A Cache, at the next Get, and a Fleet do both themselves.
	OnServerChanged func(key types.NamespacedName)

	pingAfter, pingTimeout, handshakeTimeout, initialEvents, askEvery, askAfterRefusal time.Duration // for tests
}

func (o Options) withDefaults() Options {
	if o.ConfigFor == nil {
		o.ConfigFor = helpers.RESTConfigFor
	}
	for _, limit := range []struct {
		value             *time.Duration
		defaultTime, none time.Duration
	}{
		{&o.StallTimeout, 40 * time.Second, math.MaxInt64},
		{&o.HeaderTimeout, 40 * time.Second, math.MaxInt64},
		{&o.DialTimeout, 10 * time.Second, 0},
		{&o.Grace, 5 * time.Second, 0},
		{&o.handshakeTimeout, 10 * time.Second, 0},
		{&o.initialEvents, time.Minute, 0}, // for the initial events of a watch after a rotation
		{&o.askEvery, time.Minute, 0},
		{&o.askAfterRefusal, 10 * time.Second, 0},
		{&o.pingAfter, 30 * time.Second, 0}, // without a byte from the peer; then it has pingTimeout to answer
		{&o.pingTimeout, 15 * time.Second, 0},
	} {
		switch {
		case *limit.value == 0:
			*limit.value = limit.defaultTime
		case *limit.value < 0:
			*limit.value = limit.none
		}
	}
	return o
}
