// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

func TestDataPlaneIsValid(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "prod")
	warnings, errs := helpers.Validate(dp)
	assert.Empty(t, warnings)
	assert.Empty(t, errs)
	assert.Empty(t, dp.Status)

	same := dataplanetest.DataPlane("default", "prod")
	assert.Equal(t, dp.UID, same.UID)
	assert.NotEqual(t, dp.Spec.KubernetesCluster.Credentials.ClientCert, same.Spec.KubernetesCluster.Credentials.ClientCert)
	assert.NotEqual(t, dp.UID, dataplanetest.DataPlane("default", "other").UID)
	assert.NotEqual(t, dataplanetest.DataPlane("a-b", "c").UID, dataplanetest.DataPlane("a", "b-c").UID)
	for _, uid := range []types.UID{dp.UID, dataplanetest.ClusterDataPlane("prod").UID} {
		assert.Empty(t, validation.IsDNS1123Label(string(uid)), "a real UID can be the value of a label, or a part of a name")
	}
}

func TestDataPlaneWithoutAServerRefusesConnections(t *testing.T) {
	_, err := get(t, dataplanetest.DataPlane("default", "prod"), "/readyz")
	require.ErrorIs(t, err, syscall.ECONNREFUSED, "without a network, too")
}

func TestEditsMakeTheStatesThatHelpersDistinguish(t *testing.T) {
	for name, test := range map[string]struct {
		edits            edits
		ready, connected bool
		deleted, noCreds bool
	}{
		"new":                 {},
		"ready":               {edits: edits{dataplanetest.Ready}, ready: true},
		"connected":           {edits: edits{dataplanetest.Connected}, connected: true},
		"ready and connected": {edits: edits{dataplanetest.Ready, dataplanetest.Connected}, ready: true, connected: true},
		"no longer ready": {edits: edits{
			dataplanetest.Ready, dataplanetest.Condition(v1alpha1.DataPlaneConditionReady, metav1.ConditionFalse),
		}},
		"ready but stale":   {edits: edits{dataplanetest.Ready, dataplanetest.Stale}},
		"ready but deleted": {edits: edits{dataplanetest.Ready, dataplanetest.Deleted}, deleted: true},
		"OpenChoreo v1":     {edits: edits{dataplanetest.V1}, connected: true, noCreds: true},
	} {
		t.Run(name, func(t *testing.T) {
			dp := dataplanetest.DataPlane("default", "prod", test.edits...)
			assert.Equal(t, test.ready, helpers.IsReady(dp))
			assert.Equal(t, test.connected, helpers.IsConnected(dp))
			assert.Equal(t, test.deleted, dp.DeletionTimestamp != nil && len(dp.Finalizers) > 0)
			_, err := helpers.RESTConfigFor(dp)
			if test.noCreds {
				assert.ErrorIs(t, err, helpers.ErrNoCredentials)
			} else {
				assert.NoError(t, err)
			}
		})
	}
	created := dataplanetest.DataPlane("default", "prod", dataplanetest.V1)
	assert.True(t, helpers.IsReady(created, helpers.ReadyFrom(v1alpha1.DataPlaneConditionCreated)))
}

// As in OpenChoreo v0.3, and with PatchConditions by default.
func TestConditionsAloneObserveAGeneration(t *testing.T) {
	dp := dataplanetest.DataPlane("default", "prod", dataplanetest.Connected, dataplanetest.Stale)
	assert.Zero(t, dp.Status.ObservedGeneration)
	assert.Equal(t, helpers.CodeStale, helpers.EvaluateCondition(dp, v1alpha1.DataPlaneConditionConnected).Code)

	dp, err := helpers.PatchConditions(t.Context(), dataplanetest.NewClientset(dp).OpenChoreoV1alpha1().DataPlanes("default"), dp,
		[]metav1.Condition{{Type: v1alpha1.DataPlaneConditionConnected, Status: metav1.ConditionTrue, Reason: "Reachable"}},
		helpers.PatchConditionsOptions{})
	require.NoError(t, err)
	assert.True(t, helpers.IsConnected(dp))
}

func TestCredentialsForAConfig(t *testing.T) {
	server := dataplanetest.NewServer(nil)
	defer server.Close()
	dp := dataplanetest.DataPlane("default", "copy", dataplanetest.WithCredentials(server.Config("alice")))
	status, err := get(t, dp, "/readyz")
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status)
	assert.Panics(t, func() { dataplanetest.WithCredentials(&rest.Config{Host: "https://example.com", BearerToken: "token"}) })
}
