// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// request is a request under way, until the end of the body of its response, which it is.
type request struct {
	session *session
	kind    kind
	began   time.Time
	caller  context.Context
	ctx     context.Context
	cancel  context.CancelCauseFunc
	limit   *time.Timer // nil for none
	sent    atomic.Bool // it has got a connection
	body    io.ReadCloser
	once    sync.Once

	answered atomic.Bool // there are response headers
	upgraded io.Closer   // the connection, when it has left HTTP; of the session's lock
}

var (
	// errRetired says that a request was not taken, and that its body was not touched.
	errRetired = errors.New("session is retired")
	// errNotSent says that nothing of a request was sent, or only the start of a watch, and
	// that other credentials are in place by now.
	errNotSent = errors.New("not sent before the credentials were rotated")
)

// roundTrip sends a request with the given body. After errRetired and errNotSent, the
// request is one for the next session.
func (s *session) roundTrip(req *http.Request, body io.ReadCloser) (*http.Response, error) {
	r := &request{session: s, kind: kindOf(req, s.basePath), began: time.Now(), caller: req.Context()}
	r.ctx, r.cancel = context.WithCancelCause(r.caller)
	r.startLimit()
	if !s.enter(r) {
		r.stopLimit()
		r.cancel(nil)
		return nil, errRetired
	}
	req = req.WithContext(httptrace.WithClientTrace(r.ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { r.sent.Store(true) },
	}))
	req.Body = body
	if body != nil && body != http.NoBody && r.limit != nil {
		req.Body = &upload{body, r}
	}
	resp, err := s.wrapped.RoundTrip(req)
	if err == nil && !r.answer(resp) {
		_ = resp.Body.Close()
		err = errNotSent
	}
	if err != nil {
		err = r.explain(err)
		r.end()
		return nil, err
	}
	if isRedirect(resp) && r.kind == unary { // a proxied service may redirect its client
		_ = resp.Body.Close()
		return nil, &reachabilityError{ReachabilityRedirected, s.cluster.wrap(errors.New("the server redirects, which is not followed"))}
	}
	return resp, nil
}

func isRedirect(resp *http.Response) bool {
	return resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != ""
}

// answer takes in the response headers. It returns false for a watch that was to end
// before they came.
func (r *request) answer(resp *http.Response) bool {
	r.stopLimit()
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.kind == watch && s.rotated {
		return false
	}
	r.answered.Store(true)
	r.body = resp.Body
	if stream, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		r.upgraded = stream
		resp.Body = &upgraded{r, stream}
		if r.ctx.Err() != nil { // stop has come before
			_ = stream.Close()
		}
	} else {
		resp.Body = r
	}
	return true
}

// stop ends the request from this side, whether or not the caller closes its body.
func (r *request) stop() {
	s := r.session
	s.mu.Lock()
	reason, stream := s.reason, r.upgraded
	if s.rotated && r.kind == watch {
		reason = io.EOF
		if !r.answered.Load() {
			reason = errNotSent
		}
	}
	s.mu.Unlock()
	r.cancel(reason)
	if stream != nil { // which heeds no context
		_ = stream.Close()
	}
	r.end()
}

// explain says why this side has ended the request, where net/http only says that the
// context has ended.
func (r *request) explain(err error) error {
	if cause := context.Cause(r.ctx); cause != nil && r.caller.Err() == nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case r.caller.Err() != nil:
	case s.rotated && !r.sent.Load():
		return errNotSent
	case s.ended || s.reason != nil && !r.sent.Load():
		return s.reason
	}
	return err
}

// end takes note that the request has ended.
func (r *request) end() {
	r.once.Do(func() {
		r.stopLimit()
		r.cancel(nil)
		r.session.leave(r)
	})
}

// Read reads the body of the response.
func (r *request) Read(p []byte) (int, error) {
	if r.kind == unary {
		r.progress()
		defer r.stopLimit()
	}
	n, err := r.body.Read(p)
	switch {
	case err == io.EOF: //nolint:errorlint // readers are told the end by this very value
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
type limitError struct{ text string }

func (e *limitError) Error() string        { return e.text }
func (e *limitError) Timeout() bool        { return true }
func (e *limitError) Temporary() bool      { return true }
func (e *limitError) Is(target error) bool { return target == context.DeadlineExceeded }

// startLimit begins the limit of a request that has no response yet.
func (r *request) startLimit() {
	limit, text := r.session.cluster.options.StallTimeout, "request made no progress for %s"
	if r.kind != unary {
		limit, text = r.session.cluster.options.WatchStart, "no response headers within %s"
	}
	if limit > 0 {
		err := &limitError{r.session.cluster.wrap(fmt.Errorf(text, limit)).Error()}
		r.limit = time.AfterFunc(limit, func() { r.cancel(err) })
	}
}

// progress begins the limit of a unary request anew.
func (r *request) progress() {
	if r.limit != nil {
		r.limit.Reset(r.session.cluster.options.StallTimeout)
	}
}

func (r *request) stopLimit() {
	if r.limit != nil {
		r.limit.Stop()
	}
}

// upload is the body of a unary request; each piece that is sent is progress.
type upload struct {
	io.ReadCloser
	request *request
}

func (u *upload) Read(p []byte) (int, error) {
	if u.request.kind == unary && !u.request.answered.Load() {
		u.request.progress()
	}
	return u.ReadCloser.Read(p)
}

// upgraded is a connection that has left HTTP and belongs to the caller.
type upgraded struct {
	request *request
	io.ReadWriteCloser
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

func (u *upgraded) Close() error {
	err := u.ReadWriteCloser.Close()
	u.request.end()
	return err
}

// kind says what ends a request.
type kind int

const (
	unary   kind = iota // its response
	watch               // somebody; informers go on where it was
	lasting             // somebody: following a log, a stream to a container, a port or a service
)

func kindOf(req *http.Request, basePath string) kind {
	parts := strings.Split(strings.Trim(strings.TrimPrefix(req.URL.Path, basePath), "/"), "/")
	// Paths begin with /api/VERSION or /apis/GROUP/VERSION, and go on with the resource and
	// the name, which namespaces/NAMESPACE may precede.
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		parts = nil
	}
	subresource := ""
	switch {
	case len(parts) > 4 && parts[0] == "namespaces":
		subresource = parts[4]
	case len(parts) > 2 && parts[0] != "namespaces":
		subresource = parts[2]
	}
	query := req.URL.Query()
	switch {
	case req.Header.Get("Upgrade") != "":
		return lasting
	case subresource == "exec", subresource == "attach", subresource == "portforward", subresource == "proxy",
		subresource == "log" && isTrue(query, "follow"):
		return lasting
	case len(parts) > 0 && parts[0] == "watch", parts != nil && isTrue(query, "watch"):
		return watch
	}
	return unary
}

// isTrue reads a parameter as API servers do.
func isTrue(query url.Values, name string) (value bool) {
	values := query[name]
	return runtime.Convert_Slice_string_To_bool(&values, &value, nil) == nil && value
}
