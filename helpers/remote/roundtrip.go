// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/requestinfo"
)

// roundTripper is the Cluster as its HTTP client sees it.
type roundTripper Cluster

// RoundTrip sends a request, and notices credentials that changed outside the DataPlane: in files
// that a mounted Secret renews, or in a source that ConfigFor reads. For this it asks ConfigFor
// again, now and then, and when the credentials were refused. If they have changed, it sends a
// refused read once more. It doesn't send a write again, which may have been carried out.
func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	c := (*Cluster)(t)
	late := req.Context().Err() != nil
	resp, used, err := c.sendOrAsk(req)
	if ofProbe, ok := req.Context().Value(probeKey{}).(**session); ok {
		*ofProbe = used
	}
	if current, _ := c.use(); !late && used == current { // else the result says nothing about the newest credentials
		c.keepOutcome(req, resp, err)
	}
	return resp, err
}

// sendOrAsk also returns the session that the request was sent on, or nil if there was none.
func (c *Cluster) sendOrAsk(req *http.Request) (resp *http.Response, used *session, err error) {
	c.askNowAndThen()
	resp, used, err = c.send(req)
	if !refused(resp, err) {
		return resp, used, err
	}
	asked := c.askBecauseRefused(used)
	switch {
	case asked != nil && err != nil:
		return nil, used, c.wrap(fmt.Errorf("%w%s%s", err, askedAgain, asked.Error())) // Classify sees err alone
	case asked != nil:
		used.explainUnauthorized(req, resp, asked)
		return resp, used, nil
	}
	if current, _ := c.use(); current == used || !isRead(req) {
		return resp, used, err
	}
	if resp != nil {
		_ = resp.Body.Close()
	}
	return c.send(req)
}

// CloseIdleConnections is called by http.Client's method of this name.
func (t *roundTripper) CloseIdleConnections() {
	if s, _ := (*Cluster)(t).use(); s != nil {
		s.transport.CloseIdleConnections()
	}
}

// doNotFollow leaves redirects to checkAnswer, and those of proxied services to the caller.
func doNotFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// send sends a request with the current credentials, or with the next ones if they replace these
// before it is sent. A body can be sent again only with GetBody.
func (c *Cluster) send(req *http.Request) (resp *http.Response, used *session, err error) {
	for body := req.Body; ; {
		if used, err = c.use(); err != nil {
			closeBody(body)
			return nil, used, err
		}
		resp, err = used.try(req, body)
		switch {
		case !errors.Is(err, errAgain):
			return resp, used, err
		case body == nil || body == http.NoBody:
			continue
		case req.GetBody == nil:
			return nil, used, c.wrap(ErrRotated)
		}
		if body, err = req.GetBody(); err != nil {
			return nil, used, err
		}
	}
}

// try sends a request with this body on the session, and closes the body. It returns errAgain if
// the request must be sent on the next session.
func (s *session) try(req *http.Request, body io.ReadCloser) (*http.Response, error) {
	r := &request{session: s, beganAt: time.Now(), caller: req.Context()}
	info := requestinfo.Of(req, s.server.Path)
	r.lifetime, r.initial = info.Lifetime, info.InitialEvents && info.Bookmarks
	r.alwaysConnects = r.lifetime == requestinfo.Watch || isProbe(r.caller)
	r.ctx, r.cancel = context.WithCancelCause(r.caller)
	r.startLimit()
	if !s.add(r) {
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
	switch {
	case err != nil:
	case resp == nil:
		err = s.wrap(errors.New("a round tripper of rest.Config.Wrap returned neither a response nor an error"))
	case !r.track(resp):
		closeBody(resp.Body)
		err = errAgain
	}
	if err != nil {
		err = r.explain(err)
		r.finish()
		return nil, err
	}
	return s.checkAnswer(req, resp, r.lifetime)
}

func closeBody(body io.Closer) {
	if body != nil {
		_ = body.Close()
	}
}
