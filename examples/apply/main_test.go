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

func TestMain(m *testing.M) { demotest.Main(m, "apply", &program) }

func TestApply(t *testing.T) {
	t.Parallel()
	p := demotest.Start(t, program, "--secret-ref=registry-credentials")
	require.Zero(t, p.Wait(), p)
	assert.Equal(t, "DataPlane production: secretRef is \"registry-credentials\", managed by [apply-example]\n", p.Stdout())
	p.LeavesNothing()
}

func TestApplyOnExistingCluster(t *testing.T) {
	t.Parallel()
	clusters, dataPlanes := demotest.Cluster(t)
	dp := dataplanetest.DataPlane(clusters.Namespace, "production")
	dp.Spec.Registry.SecretRef = "old"
	_, err := dataPlanes.Create(t.Context(), dp, metav1.CreateOptions{FieldManager: "operator"})
	require.NoError(t, err)

	for _, step := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--secret-ref=new"}, 1, `conflict with "operator" using openchoreo.dev/v1alpha1: .spec.registry.secretRef`},
		{[]string{"--secret-ref=new", "--force"}, 0, `secretRef is "new", managed by [apply-example]`},
		{nil, 0, `secretRef is "", managed by []`},
		{[]string{"--name=missing", "--secret-ref=new"}, 1, "Required value"},
	} {
		p := demotest.Start(t, program, append(clusters.Args(), step.args...)...)
		assert.Equal(t, step.code, p.Wait(), p)
		assert.Contains(t, p.String(), step.want)
	}
}
