// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// request is a request under way until its response has ended, and the body of that.
type request struct {
	session  *session
	caller   context.Context
	ctx      context.Context
	cancel   context.CancelCauseFunc
	limit    *time.Timer // nil for none
	once     sync.Once
	lifetime requestinfo.Lifetime
	body     io.ReadCloser
	lasts    bool           // the body has no limit
	events   *initialEvents // of the body; nil if there are none, and after their end

	answered atomic.Bool // there are response headers
	// Guarded by the session's lock.
	unsent  bool      // it waits for a connection, and has sent nothing
	initial bool      // it is a watch whose initial events have not ended, and whose end can be seen
	since   time.Time // when the request began; after initial events, when they ended
}

// errAgain says that a request may be sent again with the next credentials: that nothing
// of it was sent, or that it is a watch without response headers.
var errAgain = errors.New("the credentials were replaced before the request was sent")

// roundTrip sends a request with a body of its own, and closes that.
func (s *session) roundTrip(req *http.Request, body io.ReadCloser) (*http.Response, error) {
	r := &request{session: s, since: time.Now(), caller: req.Context()}
	info := s.infoOf(req)
	r.lifetime, r.initial = info.Lifetime, info.InitialEvents && info.Bookmarks
	r.ctx, r.cancel = context.WithCancelCause(r.caller)
	r.startLimit()
	if !s.enter(r) {
		r.limit.Stop()
		r.cancel(nil)
		closeBody(body)
		return nil, errAgain
	}
	req = req.WithContext(context.WithValue(r.ctx, requestKey{}, r))
	if req.Body = body; body != nil && body != http.NoBody {
		req.Body = &upload{body, r}
	}
	if getBody := req.GetBody; getBody != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			body, err := getBody()
			return &upload{body, r}, err
		}
	}
	resp, err := s.wrapped.RoundTrip(req)
	if err == nil && !r.answer(resp) {
		closeBody(resp.Body)
		err = errAgain
	}
	if err != nil {
		err = r.explain(err)
		r.end()
		return nil, err
	}
	return s.checkAnswer(req, resp, r.lifetime)
}

func (s *session) infoOf(req *http.Request) requestinfo.Info {
	return requestinfo.Of(req, s.cluster.server.Path)
}

// answer makes the request the body of its response. It returns false for a request that was
// cut, and for a watch that is to begin again.
func (r *request) answer(resp *http.Response) bool {
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	r.unsent = false
	if r.cut() || r.lifetime == requestinfo.Watch && s.rotated {
		return false
	}
	r.answered.Store(true)
	r.limit.Stop()
	if resp.Body == nil { // as in a response that a wrapper makes up
		resp.Body = http.NoBody
	}
	r.body, r.lasts = resp.Body, r.lifetime != requestinfo.Unary && resp.StatusCode < 300
	if r.lasts && r.initial {
		r.events = newInitialEvents(resp.Header.Get("Content-Type"))
	}
	r.initial = r.events != nil
	r.lasts = r.lasts && !r.initial
	stream, ok := resp.Body.(io.ReadWriteCloser)
	resp.Body = r
	if ok && resp.StatusCode == http.StatusSwitchingProtocols {
		// The connection has left HTTP, and heeds no context.
		keep := context.AfterFunc(r.ctx, func() { _ = stream.Close() })
		resp.Body = &upgraded{r, stream, keep}
	}
	return true
}

// wait takes note that the request waits for a connection.
func (r *request) wait() {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	r.unsent = true
}

// start takes note that the request goes out on a connection. It returns false for a request
// that must not go out: one that was stopped while it waited, and one that a wrapper held until
// the credentials were replaced.
func (r *request) start() bool {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	if r.unsent && r.session.rotated {
		r.cancel(r.cause())
	}
	if r.unsent && r.ctx.Err() != nil {
		return false
	}
	r.unsent = false
	return true
}

// cause returns the error of a request that ends because the session is retired. The
// caller holds the session's lock.
func (r *request) cause() error {
	s := r.session
	switch {
	case !s.rotated:
		return s.reason
	case r.lifetime == requestinfo.Watch && r.answered.Load():
		return io.EOF
	case r.lifetime == requestinfo.Watch, r.unsent:
		return errAgain
	}
	return s.reason
}

// explain says why this side has ended the request, where net/http only says that its
// context has ended.
func (r *request) explain(err error) error {
	if ended := r.caller.Err(); ended != nil {
		return ended
	}
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	cause := context.Cause(r.ctx)
	switch {
	case errors.Is(cause, errAgain):
		return r.cause()
	case r.cut():
		return cause
	case s.ended, s.reason != nil && r.unsent:
		return r.cause()
	}
	return err
}

// cut says whether this side has ended the request. A server that sees that may still end
// its answer in good order, which is not the end of what it had to say.
func (r *request) cut() bool {
	cause := context.Cause(r.ctx)
	return r.caller.Err() != nil || cause != nil && !errors.Is(cause, context.Canceled)
}

// end takes note that the request has ended.
func (r *request) end() {
	r.once.Do(func() {
		if r.limit != nil {
			r.limit.Stop()
		}
		r.cancel(nil)
		r.session.leave(r)
	})
}

// Read reads the body of the response.
func (r *request) Read(p []byte) (int, error) {
	if !r.lasts {
		r.progress()
		defer r.limit.Stop()
	}
	n, err := r.body.Read(p)
	if r.events != nil && r.events.endIn(p[:n]) {
		r.endInitialEvents()
	}
	switch {
	case err == io.EOF && !r.cut(): //nolint:errorlint // readers are told the end by this very value
		r.end()
	case err != nil:
		err = r.explain(err)
		r.end()
	}
	return n, err
}

// Close closes the body of the response.
func (r *request) Close() error {
	err := r.body.Close()
	r.end()
	return err
}

// limitError reports that the API server has taken longer than an option allows.
type limitError struct {
	text    string
	initial bool // events have not come to their end
}

func (e *limitError) Error() string { return e.text }

// Timeout is false for initial events. A reflector that is told of a timeout asks for the same
// again, without end; after another error it lists.
func (e *limitError) Timeout() bool        { return !e.initial }
func (e *limitError) Temporary() bool      { return true }
func (e *limitError) Is(target error) bool { return target == context.DeadlineExceeded }

// startLimit begins the limit of a request that has no response yet.
func (r *request) startLimit() {
	c := r.session.cluster
	limit := c.options.StallTimeout
	if r.lifetime != requestinfo.Unary {
		limit = c.options.HeaderTimeout
	}
	r.limit = time.AfterFunc(limit, func() {
		r.session.mu.Lock()
		answered, initial := r.answered.Load(), r.initial
		r.session.mu.Unlock()
		var err error
		switch {
		case r.lifetime != requestinfo.Unary && !answered:
			initial = false
			err = fmt.Errorf("no response headers within %s", c.options.HeaderTimeout)
		case initial:
			err = fmt.Errorf("initial events made no progress for %s", c.options.StallTimeout)
		default:
			err = fmt.Errorf("request made no progress for %s", c.options.StallTimeout)
		}
		r.cancel(&limitError{c.wrap(err).Error(), initial})
	})
}

// progress begins the limit anew.
func (r *request) progress() { r.limit.Reset(r.session.cluster.options.StallTimeout) }

// upload is the body of a request, each piece of which is progress.
type upload struct {
	io.ReadCloser
	request *request
}

func (u *upload) Read(p []byte) (int, error) {
	if u.request.lifetime == requestinfo.Unary && !u.request.answered.Load() {
		u.request.progress()
	}
	return u.ReadCloser.Read(p)
}

// upgraded is a connection that has left HTTP and belongs to the caller.
type upgraded struct {
	request *request
	io.ReadWriteCloser
	keep func() bool // keeps the end of the request's context from closing the connection
}

func (u *upgraded) Read(p []byte) (int, error) {
	n, err := u.ReadWriteCloser.Read(p)
	return n, u.explain(err)
}

func (u *upgraded) Write(p []byte) (int, error) {
	n, err := u.ReadWriteCloser.Write(p)
	return n, u.explain(err)
}

func (u *upgraded) explain(err error) error {
	if err == nil || u.request.ctx.Err() == nil {
		return err
	}
	return u.request.explain(err)
}

func (u *upgraded) Close() (err error) {
	if u.keep() {
		err = u.ReadWriteCloser.Close()
	}
	u.request.end()
	return err
}
