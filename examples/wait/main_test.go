// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

var program string

func TestMain(m *testing.M) { demotest.Main(m, "wait", &program) }

func TestWait(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program)
	require.Zero(t, p.Wait(), p)
	assert.Contains(t, p.Stdout(), "DataPlane production is ready at generation 1\n")
	p.LeavesNothing()
}

func TestWaitOnExistingCluster(t *testing.T) {
	t.Parallel()
	clusters, dataPlanes := demotest.Cluster(t)

	t.Run("waits until the DataPlane exists and is ready", func(t *testing.T) {
		t.Parallel()
		p := demotest.Start(t, program, append(clusters.Args(), "--name=new", "--timeout=1m")...)
		p.WaitFor("waiting for DataPlane default/new\n")
		dp, err := dataPlanes.Create(t.Context(), dataplanetest.DataPlane(clusters.Namespace, "new"), metav1.CreateOptions{})
		require.NoError(t, err)
		dataplanetest.Ready(dp)
		_, err = dataPlanes.UpdateStatus(t.Context(), dp, metav1.UpdateOptions{})
		require.NoError(t, err)
		assert.Zero(t, p.Wait(), p)
		assert.Contains(t, p.Stdout(), "DataPlane new is ready at generation 1\n")
	})

	t.Run("says what is missing", func(t *testing.T) {
		t.Parallel()
		_, err := dataPlanes.Create(t.Context(), dataplanetest.DataPlane(clusters.Namespace, "unready"), metav1.CreateOptions{})
		require.NoError(t, err)
		p := demotest.Start(t, program, append(clusters.Args(), "--name=unready", "--timeout=1s")...)
		assert.Equal(t, 1, p.Wait(), p)
		assert.Regexp(t, `data plane default/unready: waited \S+s for Ready=True: Ready from Created not reported`, p.String())
	})
}
