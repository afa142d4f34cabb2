// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// limitError reports that the API server has taken longer than an option allows.
type limitError struct {
	error
	initial bool // the initial events have not ended
}

// Timeout is false for initial events. After a timeout, a reflector would ask for the same again,
// without end; after another error, it lists.
func (e *limitError) Timeout() bool        { return !e.initial }
func (e *limitError) Temporary() bool      { return true }
func (e *limitError) Is(target error) bool { return target == context.DeadlineExceeded }

// startLimit starts the limit of a request that has no response yet.
func (r *request) startLimit() {
	limit := r.session.options.StallTimeout
	if r.lifetime != requestinfo.Unary {
		limit = r.session.options.HeaderTimeout
	}
	r.limit = time.AfterFunc(limit, func() { r.cancel(r.limitReached()) })
}

// restartLimit starts the limit again, after progress or before a read.
func (r *request) restartLimit() { r.limit.Reset(r.session.options.StallTimeout) }

// limitReached returns the error of a request that has taken too long.
func (r *request) limitReached() error {
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.lifetime != requestinfo.Unary && !r.answered.Load():
		return &limitError{s.wrap(fmt.Errorf("no response headers within %s", s.options.HeaderTimeout)), false}
	case r.initial:
		return &limitError{s.wrap(fmt.Errorf("initial events made no progress for %s", s.options.StallTimeout)), true}
	default:
		return &limitError{s.wrap(fmt.Errorf("request made no progress for %s", s.options.StallTimeout)), false}
	}
}

// upload is the body of a request. Each piece that is read counts as progress.
type upload struct {
	io.ReadCloser
	request *request
}

func (u *upload) Read(p []byte) (int, error) {
	if u.request.lifetime == requestinfo.Unary && !u.request.answered.Load() {
		u.request.restartLimit()
	}
	return u.ReadCloser.Read(p)
}
