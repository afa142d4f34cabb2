// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package remote_test

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	"github.com/openchoreo/dataplane-sdk-go/internal/pki"
)

func overTLS(config *rest.Config) { config.Host, config.Insecure = "https://192.0.2.1:6443", true }

func TestASlowHandshakeThatFailsMakesAServerSilent(t *testing.T) {
	onWire(t, hangsUp, overTLS, func(t *testing.T, w *wire, c *remote.Cluster) {
		_, err := timed(t, c, "/api/v1/pods")
		require.Error(t, err)
		w.takeDials()
		_, err = timed(t, c, "/api/v1/pods")
		require.ErrorContains(t, err, "not tried again for")
		require.Zero(t, w.takeDials())
	})
}

func TestTheStatusOfASilentServerSaysWhatTheAttemptHasShown(t *testing.T) {
	calls := 0
	onWire(t, hangsUp, func(config *rest.Config) {
		overTLS(config)
		key := pki.ECDSAKey()
		config.CertData, config.KeyData = pki.Certificates(pki.New().Issue("alice", key, pki.Expired)), pki.PKCS8(key)
		if calls++; calls > 1 {
			config.Timeout = time.Second // which is refused
		}
	}, func(t *testing.T, w *wire, c *remote.Cluster) {
		_, err := timed(t, c, "/api/v1/pods")
		require.ErrorContains(t, err, "asked for other credentials")
		attempt := c.Status()
		require.Equal(t, remote.ReachabilityCertificateExpired, attempt.Reachability)
		w.takeDials()
		_, err = timed(t, c, "/api/v1/pods")
		require.ErrorContains(t, err, "; not tried again for up to 10s; asked for other credentials")
		require.Zero(t, w.takeDials())
		assert.Equal(t, attempt.LastError, strings.Replace(c.Status().LastError, "; not tried again for up to 10s", "", 1))
		assert.Equal(t, attempt.Reachability, c.Status().Reachability)
	})
}

func TestAQuickRefusalBehindASlowWrapperIsNotRemembered(t *testing.T) {
	onWire(t, answers, func(config *rest.Config) {
		overTLS(config)
		config.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "192.0.2.2:3128"})
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				time.Sleep(2 * time.Second) // such as a wrapper that gets a token
				return next.RoundTrip(req)
			})
		})
	}, func(t *testing.T, w *wire, c *remote.Cluster) {
		w.handler = func(resp http.ResponseWriter, _ *http.Request) { resp.WriteHeader(http.StatusProxyAuthRequired) }
		for range 2 {
			_, err := timed(t, c, "/api/v1/pods")
			require.ErrorContains(t, err, "407")
			require.NotContains(t, err.Error(), "not tried again")
		}
	})
}

// holdSlow lets the wire answer, except to requests for /slow, until release is called.
func holdSlow(w *wire) (release func()) {
	held := make(chan struct{})
	w.handler = func(_ http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "slow") {
			<-held
		}
	}
	w.set(answers)
	return func() { close(held) }
}

// net/http continues an attempt to connect after its request has ended.
func TestAnAttemptFromBeforeTheServerAnsweredDoesNotMakeItSilent(t *testing.T) {
	onWire(t, silent, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		ended := make(chan error, 2)
		request := func(path string) {
			go func() {
				_, err := timed(t, c, path)
				ended <- err
			}()
			synctest.Wait()
		}
		request("/api/v1/old")
		time.Sleep(9 * time.Second)
		release := holdSlow(w)
		request("/slow")
		require.Error(t, <-ended, "the old attempt fails after 10 s")
		_, err := timed(t, c, "/api/v1/pods")
		assert.NoError(t, err)
		release()
		require.NoError(t, <-ended)
	})
}

func TestAConnectionEndsTheSilenceBeforeAnAnswer(t *testing.T) {
	onWire(t, silent, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		requireSlowTimeout(t, c)
		release := holdSlow(w)
		time.Sleep(11 * time.Second)
		ended := make(chan error, 1)
		go func() {
			_, err := timed(t, c, "/slow")
			ended <- err
		}()
		synctest.Wait()
		_, err := timed(t, c, "/api/v1/pods")
		assert.NoError(t, err)
		release()
		require.NoError(t, <-ended)
	})
}

func TestTheStatusShowsTheLastOutcomeEvenIfTheClockStandsStill(t *testing.T) {
	onWire(t, refuses, nil, func(t *testing.T, w *wire, c *remote.Cluster) {
		for range 2 {
			w.set(refuses)
			c.HTTPClient().CloseIdleConnections()
			_, err := timed(t, c, "/api/v1/pods")
			assertClassified(t, remote.ReachabilityRefused, err)
			assert.Equal(t, remote.ReachabilityRefused, c.Status().Reachability)
			w.set(answers)
			_, err = timed(t, c, "/api/v1/pods")
			require.NoError(t, err)
			assert.Equal(t, remote.ReachabilityReachable, c.Status().Reachability)
		}
	})
}

// client-go sends a GET again, ten times, a second apart, after an error that looks like a reset.
func TestAClientDoesNotWaitForASilentServerThatResetsConnections(t *testing.T) {
	onWire(t, answers, func(config *rest.Config) {
		config.Dial = func(context.Context, string, string) (net.Conn, error) {
			time.Sleep(5 * time.Second) // such as a load balancer that looks for its backend
			return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
		}
	}, func(t *testing.T, _ *wire, c *remote.Cluster) {
		client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
		require.NoError(t, err)
		// The first refusal leads to another token, and so to a second attempt.
		for _, most := range []time.Duration{11 * time.Second, 0, 0} {
			began := time.Now()
			_, err = client.CoreV1().Pods("x").Get(t.Context(), "a", metav1.GetOptions{})
			assert.LessOrEqual(t, time.Since(began), most)
			assertClassified(t, remote.ReachabilityRefused, err)
			assert.ErrorContains(t, err, "read tcp: read: connection reset; not tried again for up to 10s")
		}
	})
}
