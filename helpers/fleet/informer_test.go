// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// mendable is a source whose lists fail until it is mended.
type mendable struct {
	*source
	mended atomic.Bool
}

func (m *mendable) List(options metav1.ListOptions) (runtime.Object, error) {
	if !m.mended.Load() {
		return nil, errors.New("no definition of DataPlane")
	}
	return m.source.List(options)
}

// Status says why the informer can't list.
func TestStatusSaysWhyTheInformerCannotList(t *testing.T) {
	m := &mendable{source: newSource(t)}
	start := func(informer cache.SharedIndexInformer) {
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			informer.Run(stop)
		}()
		t.Cleanup(func() {
			close(stop)
			<-stopped
		})
	}
	informer := cache.NewSharedIndexInformer(m, &v1alpha1.DataPlane{}, 0, cache.Indexers{})
	returns := func(context.Context, *remote.Cluster) error { return nil }
	f := fleet.New(returns, fleet.Options{}, informer)
	assert.Empty(t, f.Status().Informers[0].Error)
	start(informer)
	require.Eventually(t, func() bool { return f.Status().Informers[0].Error != "" }, 10*time.Second, time.Millisecond)
	status := f.Status()
	assert.False(t, status.Informers[0].Synced)
	assert.Contains(t, status.Informers[0].Error, "no definition of DataPlane")
	assert.WithinDuration(t, time.Now(), status.Informers[0].ErrorTime, time.Minute)

	late := fleet.New(returns, fleet.Options{}, informer)
	assert.Contains(t, late.Status().Informers[0].Error, "the informer was started before New")
	m.mended.Store(true)
	require.Eventually(t, func() bool { return f.Status().Informers[0].Synced }, time.Minute, time.Millisecond)
	assert.Empty(t, late.Status().Informers[0].Error)
}
