// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package behaviours_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/clientset/versioned/fake"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

// From client-go 0.35 on, a fake must declare that it can't stream lists. Otherwise, its informers
// never sync.
func TestInformerOnFakeSyncsAndFollows(t *testing.T) {
	for name, client := range map[string]*fake.Clientset{
		"NewClientset":       fake.NewClientset(newDataPlane("prod")),
		"NewSimpleClientset": fake.NewSimpleClientset(newDataPlane("prod")),
	} {
		t.Run(name, func(t *testing.T) {
			factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
			dataPlanes := factory.OpenChoreo().V1alpha1().DataPlanes()
			seen := make(chan string, 10)
			_, err := dataPlanes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
				AddFunc: func(obj any) { seen <- obj.(*openchoreov1alpha1.DataPlane).Name },
			})
			require.NoError(t, err)

			stop := make(chan struct{})
			factory.Start(stop)
			defer factory.Shutdown()
			defer close(stop)
			synced := make(chan struct{})
			time.AfterFunc(25*time.Second, func() { close(synced) })
			for _, ok := range factory.WaitForCacheSync(synced) {
				require.True(t, ok, "the informer has not synced")
			}
			assert.Equal(t, "prod", receive(t, seen))

			_, err = client.OpenChoreoV1alpha1().DataPlanes("default").Create(t.Context(), newDataPlane("new"), metav1.CreateOptions{})
			require.NoError(t, err)
			assert.Equal(t, "new", receive(t, seen))
			all, err := dataPlanes.Lister().DataPlanes("default").List(labels.Everything())
			require.NoError(t, err)
			assert.Len(t, all, 2)
			_, err = dataPlanes.Lister().DataPlanes("default").Get("absent")
			assert.True(t, apierrors.IsNotFound(err), err)
		})
	}
}

func TestInformerFactoryWithContext(t *testing.T) {
	start := func(client *fake.Clientset) (openchoreoinformers.SharedInformerFactory, context.CancelCauseFunc, context.Context) {
		ctx, cancel := context.WithCancelCause(t.Context())
		factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
		factory.OpenChoreo().V1alpha1().DataPlanes().Informer()
		factory.StartWithContext(ctx)
		return factory, cancel, ctx
	}

	t.Run("syncs and stops with the context", func(t *testing.T) {
		factory, cancel, ctx := start(fake.NewClientset(newDataPlane("prod")))
		synced := factory.WaitForCacheSyncWithContext(ctx)
		require.NoError(t, synced.AsError())
		assert.Equal(t, map[reflect.Type]bool{reflect.TypeFor[*openchoreov1alpha1.DataPlane](): true}, synced.Synced)
		cancel(nil)
		factory.Shutdown() // waits for the informers
	})

	t.Run("the error names the informer that hasn't synced and the cause", func(t *testing.T) {
		client := fake.NewClientset()
		client.PrependReactor("list", "dataplanes", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("refused")
		})
		factory, cancel, ctx := start(client)
		defer factory.Shutdown()
		cause := errors.New("shutting down")
		cancel(cause)
		err := factory.WaitForCacheSyncWithContext(ctx).AsError()
		require.ErrorIs(t, err, cause)
		assert.ErrorContains(t, err, "*v1alpha1.DataPlane")
	})
}

func receive(t *testing.T, from <-chan string) string {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(10 * time.Second):
		t.Fatal("nothing received within 10 s")
		return ""
	}
}
