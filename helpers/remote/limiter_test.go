// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/openchoreo/dataplane-sdk-go/helpers/internal/testserver"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestConfigsShareOneRateLimiter(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	dp := server.DataPlane("prod", "alice")
	given := flowcontrol.NewTokenBucketRateLimiter(7, 1)
	for name, test := range map[string]struct {
		edit func(*rest.Config)
		want float32 // 0 for none
	}{
		"default":         {func(*rest.Config) {}, 50},
		"QPS":             {func(config *rest.Config) { config.QPS = 3 }, 3},
		"client-go's QPS": {func(config *rest.Config) { config.QPS = 0 }, rest.DefaultQPS},
		"RateLimiter":     {func(config *rest.Config) { config.RateLimiter = given }, 7},
		"QPS below 0":     {func(config *rest.Config) { config.QPS = -1 }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, dp, editConfig(test.edit))
			limiter := c.Config().RateLimiter
			if test.want == 0 {
				assert.Nil(t, limiter)
				return
			}
			require.NotNil(t, limiter)
			assert.Equal(t, test.want, limiter.QPS())
			require.NoError(t, c.Update(server.DataPlane("prod", "bob")))
			assert.Same(t, limiter, c.Config().RateLimiter)
		})
	}
}

// stuckLimiter lets no request through.
type stuckLimiter struct {
	flowcontrol.RateLimiter
	waiting chan struct{}
	once    sync.Once
}

func (l *stuckLimiter) Wait(ctx context.Context) error {
	l.once.Do(func() { close(l.waiting) })
	<-ctx.Done()
	return ctx.Err()
}

func TestARequestToAClosedClusterDoesNotWaitForTheRateLimiter(t *testing.T) {
	server := testserver.New(t, testserver.WhoAmI)
	limiter := &stuckLimiter{RateLimiter: flowcontrol.NewFakeAlwaysRateLimiter(), waiting: make(chan struct{})}
	c := newCluster(t, server.DataPlane("prod", "alice"), editConfig(func(config *rest.Config) { config.RateLimiter = limiter }))
	client, err := kubernetes.NewForConfigAndClient(c.Config(), c.HTTPClient())
	require.NoError(t, err)
	request := func(ctx context.Context) error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/").DoRaw(ctx)
		return err
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, request(cancelled), context.Canceled)

	result := make(chan error, 1)
	go func() { result <- request(context.Background()) }()
	testserver.Receive(t, limiter.waiting)
	c.Close()
	waiting := testserver.Receive(t, result)
	go func() { result <- request(context.Background()) }()
	for _, err := range []error{waiting, testserver.Receive(t, result)} {
		require.ErrorIs(t, err, remote.ErrClosed)
		assert.NotContains(t, err.Error(), "rate limiter")
	}
}
