// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package unittest_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/unittest"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

var request = reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "default", Name: "prod"}}

// newReconciler returns a reconciler for a management cluster that stores objects.
func newReconciler(t *testing.T, objects ...runtime.Object) (*unittest.Reconciler, *dataplanetest.Clientset) {
	t.Helper()
	client := dataplanetest.NewClientset(objects...)
	r := unittest.New(func(key types.NamespacedName) (*openchoreov1alpha1.DataPlane, error) {
		return client.OpenChoreoV1alpha1().DataPlanes(key.Namespace).Get(t.Context(), key.Name, metav1.GetOptions{})
	}, client)
	t.Cleanup(r.Close)
	return r, client
}

// connected reconciles the DataPlane and returns the verdict on its condition Connected.
func connected(t *testing.T, r *unittest.Reconciler, client *dataplanetest.Clientset) helpers.Verdict {
	t.Helper()
	_, err := r.Reconcile(t.Context(), request)
	require.NoError(t, err)
	dp, err := client.OpenChoreoV1alpha1().DataPlanes("default").Get(t.Context(), "prod", metav1.GetOptions{})
	require.NoError(t, err)
	return helpers.EvaluateCondition(dp, openchoreov1alpha1.DataPlaneConditionConnected)
}

func TestConnected(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler http.Handler                        // of the data plane
		edit    func(*openchoreov1alpha1.DataPlane) // after the credentials are set
		status  metav1.ConditionStatus
		reason  string
	}{
		"a cluster that answers":            {status: metav1.ConditionTrue, reason: "Reachable"},
		"a cluster that is not ready":       {handler: dataplanetest.Status(http.StatusServiceUnavailable), status: metav1.ConditionFalse, reason: "NotReady"},
		"a DataPlane without credentials":   {edit: withoutCredentials, status: metav1.ConditionFalse, reason: "InvalidCredentials"},
		"a DataPlane of OpenChoreo v1":      {edit: v1, status: metav1.ConditionFalse},
		"a DataPlane whose status is old":   {edit: stale, status: metav1.ConditionTrue, reason: "Reachable"},
		"a DataPlane that is being deleted": {edit: dataplanetest.Deleted, status: metav1.ConditionTrue, reason: "Reachable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := dataplanetest.NewServer(test.handler)
			t.Cleanup(server.Close)
			dp := dataplanetest.DataPlane("default", "prod", server.As("alice"))
			if test.edit != nil {
				test.edit(dp)
			}
			r, client := newReconciler(t, dp)
			verdict := connected(t, r, client)
			assert.Equal(t, test.status, verdict.Status)
			assert.Equal(t, test.reason, verdict.Reason)
			assert.Equal(t, helpers.CodeCurrent, verdict.Code)
		})
	}
}

func withoutCredentials(dp *openchoreov1alpha1.DataPlane) {
	dp.Spec.KubernetesCluster.Credentials = openchoreov1alpha1.APIServerCredentials{}
}

// v1 makes a DataPlane whose agent is away.
func v1(dp *openchoreov1alpha1.DataPlane) {
	dataplanetest.V1(dp)
	dataplanetest.AgentAway(dp)
}

// stale makes a DataPlane that was connected before its spec changed.
func stale(dp *openchoreov1alpha1.DataPlane) {
	dataplanetest.Connected(dp)
	dataplanetest.Stale(dp)
}

func TestNewCredentialsTakeEffect(t *testing.T) {
	t.Parallel()
	server := dataplanetest.NewServer(nil)
	t.Cleanup(server.Close)
	dp := dataplanetest.DataPlane("default", "prod", server.As("alice"))
	r, client := newReconciler(t, dp)
	require.Equal(t, metav1.ConditionTrue, connected(t, r, client).Status)

	server.RotateClients()
	assert.Equal(t, "Unauthorized", connected(t, r, client).Reason)

	dataPlanes := client.OpenChoreoV1alpha1().DataPlanes("default")
	dp, err := dataPlanes.Get(t.Context(), "prod", metav1.GetOptions{})
	require.NoError(t, err)
	server.As("bob")(dp)
	_, err = dataPlanes.Update(t.Context(), dp, metav1.UpdateOptions{})
	require.NoError(t, err)
	assert.Equal(t, metav1.ConditionTrue, connected(t, r, client).Status)
	requests := server.Requests()
	assert.Equal(t, "bob", requests[len(requests)-1].User)
}

func TestNothingIsDoneForAMissingDataPlane(t *testing.T) {
	t.Parallel()
	r, _ := newReconciler(t)
	result, err := r.Reconcile(t.Context(), request)
	require.NoError(t, err)
	assert.Zero(t, result)
}

func TestAFailedWriteIsRetried(t *testing.T) {
	t.Parallel()
	r, client := newReconciler(t, dataplanetest.DataPlane("default", "prod"))
	client.PrependReactor("patch", "dataplanes/status", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewInternalError(errors.New("etcd is gone"))
	})
	result, err := r.Reconcile(t.Context(), request)
	assert.ErrorContains(t, err, "etcd is gone")
	assert.Zero(t, result, "controller-runtime logs a warning of a result beside an error")
}
