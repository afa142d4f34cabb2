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

// request is a request under way until its response has ended, and the body of that.
type request struct {
	session  *session
	caller   context.Context
	ctx      context.Context
	cancel   context.CancelCauseFunc
	limit    *time.Timer // nil for none
	once     sync.Once
	kind     kind
	readOnly bool // it is a GET or HEAD
	initial  bool // it is a watch that begins with all objects
	body     io.ReadCloser
	lasts    bool // the body has no limit

	answered atomic.Bool // there are response headers
	// Guarded by the session's lock.
	unsent   bool      // it waits for a connection, and has sent nothing
	busy     time.Time // when the request began; if initial, when the last events came
	upgraded io.Closer // the connection, if it has left HTTP; written once
}

// errAgain says that a request may be sent again with the next credentials: that nothing
// of it was sent, or that it is a watch without response headers.
var errAgain = errors.New("the credentials were replaced before the request was sent")

// roundTrip sends a request with a body of its own.
func (s *session) roundTrip(req *http.Request, body *upload) (*http.Response, error) {
	r := &request{session: s, busy: time.Now(), caller: req.Context()}
	r.readOnly = req.Method == http.MethodGet || req.Method == http.MethodHead
	r.kind, r.initial = kindOf(req, strings.TrimRight(s.cluster.server.Path, "/"))
	r.ctx, r.cancel = context.WithCancelCause(r.caller)
	r.startLimit()
	if !s.enter(r) {
		r.stopLimit()
		r.cancel(nil)
		return nil, errAgain
	}
	req = req.WithContext(httptrace.WithClientTrace(r.ctx, &httptrace.ClientTrace{
		GetConn: func(string) { r.setUnsent(true) }, // also when net/http tries again, if that is safe
		GotConn: func(httptrace.GotConnInfo) { r.setUnsent(false) },
	}))
	if body != nil {
		body.request = r
		req.Body = body
	}
	resp, err := s.wrapped.RoundTrip(req)
	if err == nil && !r.answer(resp) {
		_ = resp.Body.Close()
		err = errAgain
	}
	if err != nil {
		err = r.explain(err)
		r.end()
		return nil, err
	}
	if resp.Body == http.NoBody {
		r.end()
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

// answer makes the request the body of its response. It returns false for a watch that is
// to begin again.
func (r *request) answer(resp *http.Response) bool {
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.kind == watch && s.rotated {
		return false
	}
	r.answered.Store(true)
	r.stopLimit()
	r.body, r.lasts = resp.Body, r.kind != unary && resp.StatusCode < 300
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if stream, ok := resp.Body.(io.ReadWriteCloser); ok {
			r.upgraded = stream
			resp.Body = &upgraded{r, stream}
			if r.ctx.Err() != nil { // it was stopped before
				_ = stream.Close()
			}
			return true
		}
	}
	if resp.Body != http.NoBody {
		resp.Body = r
	}
	return true
}

func (r *request) setUnsent(unsent bool) {
	r.session.mu.Lock()
	defer r.session.mu.Unlock()
	r.unsent = unsent
}

// endWatch ends a watch as soon as reflectors accept its end.
func (r *request) endWatch() {
	s := r.session
	s.mu.Lock()
	wait := minWatch - time.Since(r.busy)
	s.mu.Unlock()
	if wait > 0 {
		time.AfterFunc(wait, r.endWatch)
		return
	}
	s.stop(func(other *request) bool { return other == r })
}

// cause returns the error of a request that ends because the session is retired. The
// caller holds the session's lock.
func (r *request) cause() error {
	s := r.session
	switch {
	case !s.rotated:
		return s.reason
	case r.kind == watch && r.answered.Load():
		return io.EOF
	case r.kind == watch, r.unsent:
		return errAgain
	}
	return s.reason
}

// explain says why this side has ended the request, where net/http only says that its
// context has ended.
func (r *request) explain(err error) error {
	if r.caller.Err() != nil {
		return err
	}
	s := r.session
	s.mu.Lock()
	defer s.mu.Unlock()
	cause := context.Cause(r.ctx)
	switch {
	case errors.Is(cause, errAgain) && !r.readOnly: // it may have been sent since
		return r.cause()
	case r.cut():
		return cause
	case s.ended, s.reason != nil && r.unsent:
		return r.cause()
	}
	return err
}

// cut says whether this side has ended the request.
func (r *request) cut() bool {
	cause := context.Cause(r.ctx)
	return cause != nil && !errors.Is(cause, context.Canceled)
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
	if !r.lasts {
		r.progress()
		defer r.stopLimit()
	}
	n, err := r.body.Read(p)
	if r.initial {
		r.session.mu.Lock()
		r.busy = time.Now()
		r.session.mu.Unlock()
	}
	switch {
	// A server that sees a request cut may end its answer in good order, which is not the
	// end of what it had to say.
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

// upload is the body of a request. It is kept open while the request may be sent again.
type upload struct {
	io.ReadCloser
	request *request
	read    atomic.Bool
}

// newUpload returns nil if there is no body.
func newUpload(body io.ReadCloser) *upload {
	if body == nil || body == http.NoBody {
		return nil
	}
	return &upload{ReadCloser: body}
}

// Read counts as progress of the request.
func (u *upload) Read(p []byte) (int, error) {
	u.read.Store(true)
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
	if unsent && !u.read.Load() {
		return nil
	}
	return u.ReadCloser.Close()
}

// again returns the body to send again.
func (u *upload) again(req *http.Request) (*upload, error) {
	switch {
	case u == nil || !u.read.Load():
		return u, nil
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

// kind is how long a request is open.
type kind int

const (
	unary   kind = iota // until its response has ended
	watch               // until either side ends it; informers resume it
	lasting             // until either side ends it: a followed log, or a stream to a container, port or service
)

// kindOf tells the kind of a request to a server whose URL has the path basePath, and
// whether it is a watch that begins with all objects.
func kindOf(req *http.Request, basePath string) (_ kind, initial bool) {
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
		return lasting, false
	case subresource == "exec", subresource == "attach", subresource == "portforward", subresource == "proxy",
		subresource == "log" && isTrue(query, "follow"):
		return lasting, false
	case len(parts) > 0 && parts[0] == "watch", parts != nil && isTrue(query, "watch"):
		return watch, isTrue(query, "sendInitialEvents")
	}
	return unary, false
}

// isTrue reads a parameter as API servers do.
func isTrue(query url.Values, name string) (value bool) {
	values := query[name]
	return runtime.Convert_Slice_string_To_bool(&values, &value, nil) == nil && value
}
