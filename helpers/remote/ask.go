// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"net/http"
	"time"
)

// askedAgain joins a refusal and the error of ConfigFor.
const askedAgain = "; asked for other credentials: "

// refused reports that the other side refuses the credentials, or that this side refuses the
// other's certificate. A server that cuts the connection may have done the former.
func refused(resp *http.Response, err error) bool {
	if err == nil {
		return resp.StatusCode == http.StatusUnauthorized
	}
	switch reachability := Classify(err); reachability {
	case ReachabilityTLSFailure, ReachabilityCertificateExpired, ReachabilityUnauthorized:
		return true
	default:
		return reachability == ReachabilityRefused && cutByPeer(err)
	}
}

// isRead reports that a request only reads. An upgrade doesn't: its GET can run a command.
func isRead(req *http.Request) bool {
	return (req.Method == http.MethodGet || req.Method == http.MethodHead) &&
		(req.Body == nil || req.Body == http.NoBody) && req.Header.Get("Upgrade") == ""
}

// askNowAndThen asks ConfigFor again if no request has done so for askEvery or, after an Update
// that failed, for askAfterRefusal. It returns no error: if requests must fail with it, ask keeps it.
func (c *Cluster) askNowAndThen() {
	c.mu.Lock()
	every := c.options.askEvery
	if c.current == nil {
		every = c.options.askAfterRefusal
	}
	due := time.Since(c.askedAt) >= every
	if due {
		c.askedAt = time.Now()
	}
	c.mu.Unlock()
	if due {
		_ = c.lockAndAsk(c.ask)
	}
}

// askBecauseRefused asks ConfigFor again after the credentials of a session were refused, unless
// others have replaced them, and returns the error. If a refusal led to asking a moment ago, it
// returns the error of that time. A request that is refused while another asks waits for the
// result.
func (c *Cluster) askBecauseRefused(used *session) error {
	return c.lockAndAsk(func() (rotated bool, err error) {
		if current, _ := c.use(); current == nil || current != used {
			return false, nil
		}
		if time.Since(c.refusedAt) >= c.options.askAfterRefusal {
			c.refusedAt = time.Now()
			rotated, c.askErr = c.ask()
		}
		return rotated, c.askErr
	})
}

// lockAndAsk calls ask with updating held, and OnRotate or OnServerChanged without.
func (c *Cluster) lockAndAsk(ask func() (rotated bool, err error)) error {
	err := c.report(func() (bool, error) {
		c.updating.Lock()
		defer c.updating.Unlock()
		return ask()
	}())
	if errors.Is(err, ErrServerChanged) && c.options.OnServerChanged != nil {
		c.options.OnServerChanged(c.key)
	}
	return err
}

// ask asks ConfigFor for the same DataPlane again. Another result takes effect as in Update. After
// an error, a connection that can be used stays as it was. Without one, requests fail with the new
// error, except that ErrServerChanged stays until ConfigFor returns the former server. The caller holds
// updating.
func (c *Cluster) ask() (rotated bool, err error) {
	if c.ctx.Err() != nil {
		return false, nil
	}
	config, err := c.accept(c.dp)
	if err == nil {
		rotated, err = c.rotateTo(config)
	}
	current, reason := c.use()
	moved := c.moved.Load() && errors.Is(reason, ErrServerChanged)
	if err != nil && current == nil && !moved {
		err = c.refuse(err)
	}
	return rotated, err
}
