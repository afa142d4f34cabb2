// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// upload is the body of one attempt to send a request. It stays open while there may be
// another attempt.
type upload struct {
	io.ReadCloser
	request *request
	state   atomic.Int32
}

const (
	untouched int32 = iota
	begun           // read from
	moved           // given to the next attempt
)

var errMoved = errors.New("the body is sent by another attempt")

// newUpload returns nil if there is no body.
func newUpload(body io.ReadCloser) *upload {
	if body == nil || body == http.NoBody {
		return nil
	}
	return &upload{ReadCloser: body}
}

// Read counts as progress of the request.
func (u *upload) Read(p []byte) (int, error) {
	if !u.state.CompareAndSwap(untouched, begun) && u.state.Load() == moved {
		return 0, errMoved
	}
	if u.request.kind == unary && !u.request.answered.Load() {
		u.request.progress()
	}
	return u.ReadCloser.Read(p)
}

func (u *upload) Close() error {
	s := u.request.session
	s.mu.Lock()
	unsent := u.request.unsent
	s.mu.Unlock()
	if unsent && u.state.Load() != begun {
		return nil
	}
	return u.ReadCloser.Close()
}

// again returns the body for another attempt.
func (u *upload) again(req *http.Request) (*upload, error) {
	switch {
	case u == nil:
		return u, nil
	case u.state.CompareAndSwap(untouched, moved):
		return newUpload(u.ReadCloser), nil
	case req.GetBody == nil:
		return u, ErrRotated
	}
	body, err := req.GetBody()
	if err != nil {
		return u, err
	}
	u.finish()
	return newUpload(body), nil
}

func (u *upload) finish() {
	if u != nil {
		_ = u.ReadCloser.Close()
	}
}
