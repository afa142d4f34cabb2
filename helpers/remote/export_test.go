// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"time"
)

// WorstFirst lists each Reachability once.
var WorstFirst = worstFirst

// WithTimes sets times that users don't need to change.
func (o Options) WithTimes(ping, handshake time.Duration) Options {
	o.pingAfter, o.pingTimeout, o.handshakeTimeout = ping, ping, handshake
	return o
}

// WithInitialEvents sets how long the initial events of a watch may last after a rotation.
func (o Options) WithInitialEvents(limit time.Duration) Options {
	o.initialEvents = limit
	return o
}

// WithAsking sets how often requests ask ConfigFor again.
func (o Options) WithAsking(every, afterRefusal time.Duration) Options {
	o.askEvery, o.askAfterRefusal = every, afterRefusal
	return o
}
