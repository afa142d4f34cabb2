// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/redact"
)

func TestMergePatchHoldsTheDifference(t *testing.T) {
	before := dataplanetest.DataPlane("default", "production-dataplane")
	before.ResourceVersion = "7"
	before.Labels = map[string]string{"gone": "x", "stays": "x"}
	after := before.DeepCopy()
	after.Labels = map[string]string{"stays": "x", "new": "x"}
	after.Spec.Registry.Prefix = "docker.io/other"
	after.ResourceVersion = "8"
	patch, err := helpers.MergePatch(before, after)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"metadata": {"resourceVersion": "7", "labels": {"gone": null, "new": "x"}},
		"spec": {"registry": {"prefix": "docker.io/other"}}
	}`, string(patch))
	assert.Equal(t, "7", before.ResourceVersion, "must not be changed")

	patch, err = helpers.MergePatch(before, before)
	require.NoError(t, err)
	assert.JSONEq(t, `{"metadata": {"resourceVersion": "7"}}`, string(patch))
}

// OpenChoreo v0.8 to v0.14 stored the reference as a string, and the merge of an object into a string is the object.
func TestMergePatchReplacesAStringByAnObject(t *testing.T) {
	before := dataplanetest.DataPlane("default", "prod", dataplanetest.V1)
	before.ResourceVersion = "7"
	require.NoError(t, json.Unmarshal([]byte(`{"spec": {"observabilityPlaneRef": "obs"}}`), before))
	after := before.DeepCopy()
	after.Spec.ObservabilityPlaneRef.Kind = "ObservabilityPlane"
	patch, err := helpers.MergePatch(before, after)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"metadata": {"resourceVersion": "7"},
		"spec": {"observabilityPlaneRef": {"kind": "ObservabilityPlane", "name": "obs"}}
	}`, string(patch))

	after.Spec.ObservabilityPlaneRef = nil
	patch, err = helpers.MergePatch(before, after)
	require.NoError(t, err)
	assert.JSONEq(t, `{"metadata": {"resourceVersion": "7"}, "spec": {"observabilityPlaneRef": null}}`, string(patch))
}

// Objects from a list have no kind; objects from a get may have one.
func TestMergePatchHoldsNoKindAndNoManagedFields(t *testing.T) {
	bare := dataplanetest.DataPlane("default", "production-dataplane")
	bare.ResourceVersion = "7"
	full := bare.DeepCopy()
	full.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "DataPlane"}
	full.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	for name, test := range map[string]struct{ before, after *v1alpha1.DataPlane }{
		"before alone has them": {full, bare}, "after alone has them": {bare, full}, "both have them": {full, full},
	} {
		t.Run(name, func(t *testing.T) {
			after := test.after.DeepCopy()
			after.Spec.Registry.Prefix = "docker.io/other"
			patch, err := helpers.MergePatch(test.before, after)
			require.NoError(t, err)
			assert.JSONEq(t, `{"metadata": {"resourceVersion": "7"}, "spec": {"registry": {"prefix": "docker.io/other"}}}`, string(patch))
		})
	}
}

// The patch holds no required field of v0.3: these are empty in objects of v1.
func TestMergePatchOfTheShapeOfV1(t *testing.T) {
	before := &v1alpha1.ClusterDataPlane{ObjectMeta: metav1.ObjectMeta{Name: "default", ResourceVersion: "7"}}
	before.Spec.PlaneID = "prod"
	before.Spec.Gateway = &v1alpha1.ClusterDataPlaneGateway{Egress: &v1alpha1.GatewayNetworkSpec{}}
	after := before.DeepCopy()
	after.Spec.PlaneID, after.Spec.Gateway.Egress = "other", nil
	after.Spec.SecretStoreRef = &v1alpha1.SecretStoreRef{Name: "default"}
	patch, err := helpers.MergePatch(before.AsDataPlane(), after.AsDataPlane())
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"metadata": {"resourceVersion": "7"},
		"spec": {"planeID": "other", "gateway": {"egress": null}, "secretStoreRef": {"name": "default"}}
	}`, string(patch))
}

func TestMergePatchTakesTheWordREDACTEDElsewhere(t *testing.T) {
	before := dataplanetest.DataPlane("default", "production-dataplane")
	before.ResourceVersion = "7"
	before.Labels = map[string]string{"tier": v1alpha1.Redacted}
	before.Annotations = map[string]string{"note": v1alpha1.Redacted, "link": "https://" + v1alpha1.Redacted + "@host"}
	before.Spec.KubernetesCluster.Name = v1alpha1.Redacted
	before.Spec.Observer = &v1alpha1.ObserverAPI{URL: "https://observer.example.com"}
	before.Spec.Observer.Authentication.BasicAuth.Username = v1alpha1.Redacted
	before.Status.Conditions = []metav1.Condition{{Type: ready, Status: yes, Reason: v1alpha1.Redacted, Message: v1alpha1.Redacted}}
	after := before.DeepCopy()
	after.Spec.Registry.Prefix = v1alpha1.Redacted
	patch, err := helpers.MergePatch(before, after)
	require.NoError(t, err)
	assert.JSONEq(t, `{"metadata": {"resourceVersion": "7"}, "spec": {"registry": {"prefix": "REDACTED"}}}`, string(patch))
}

func TestMergePatchRefusesDifferentObjects(t *testing.T) {
	sound := dataplanetest.DataPlane("default", "production-dataplane")
	sound.ResourceVersion = "7"
	with := func(edit func(*v1alpha1.DataPlane)) *v1alpha1.DataPlane {
		dp := sound.DeepCopy()
		edit(dp)
		return dp
	}
	for name, test := range map[string]struct {
		before, after *v1alpha1.DataPlane
		says          string
	}{
		"nil before":           {nil, sound, "nil data plane"},
		"nil after":            {sound, nil, "nil data plane"},
		"not read":             {with(func(dp *v1alpha1.DataPlane) { dp.ResourceVersion = "" }), sound, "metadata.resourceVersion: must be set"},
		"another name":         {sound, with(func(dp *v1alpha1.DataPlane) { dp.Name = "x" }), "must be the same"},
		"another of that name": {sound, with(func(dp *v1alpha1.DataPlane) { dp.UID = "x" }), "must be the same"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := helpers.MergePatch(test.before, test.after)
			require.ErrorContains(t, err, test.says)
		})
	}
}

// Each case has a secret in one field only, so no other field reveals the redaction.
func TestMergePatchRefusesRedactedObjects(t *testing.T) {
	observer := func(edit func(*v1alpha1.ObserverAPI)) func(*v1alpha1.DataPlane) {
		return func(dp *v1alpha1.DataPlane) {
			dp.Spec.Observer = &v1alpha1.ObserverAPI{}
			edit(dp.Spec.Observer)
		}
	}
	creds := func(edit func(*v1alpha1.APIServerCredentials)) func(*v1alpha1.DataPlane) {
		return func(dp *v1alpha1.DataPlane) { edit(&dp.Spec.KubernetesCluster.Credentials) }
	}
	fields := map[string]func(*v1alpha1.DataPlane){
		"clientKey":           creds(func(c *v1alpha1.APIServerCredentials) { c.ClientKey = "a2V5" }),
		"no clientCert":       creds(func(c *v1alpha1.APIServerCredentials) { c.ClientCert = "a2V5" }),
		"no caCert":           creds(func(c *v1alpha1.APIServerCredentials) { c.CACert = "a2V5" }),
		"user of the URL":     creds(func(c *v1alpha1.APIServerCredentials) { c.APIServerURL = "https://admin:hunter2@host:6443" }),
		"unreadable URL":      creds(func(c *v1alpha1.APIServerCredentials) { c.APIServerURL = "admin:hunter2@host:6443" }),
		"password":            observer(func(o *v1alpha1.ObserverAPI) { o.Authentication.BasicAuth.Password = "hunter2" }),
		"user of an observer": observer(func(o *v1alpha1.ObserverAPI) { o.URL = "https://admin:hunter2@host" }),
	}
	for _, annotation := range redact.Annotations {
		fields[annotation] = func(dp *v1alpha1.DataPlane) { metav1.SetMetaDataAnnotation(&dp.ObjectMeta, annotation, "{}") }
	}
	for name, fill := range fields {
		t.Run(name, func(t *testing.T) {
			whole := withConditions(1)
			whole.ResourceVersion = "7"
			fill(whole)
			_, err := helpers.MergePatch(whole, whole)
			require.NoError(t, err)
			_, err = helpers.MergePatch(whole, whole.Redacted())
			require.ErrorIs(t, err, helpers.ErrSecretsDropped)
			require.ErrorContains(t, err, "after: ")
			_, err = helpers.MergePatch(whole.Redacted(), whole)
			require.ErrorIs(t, err, helpers.ErrSecretsDropped)
			require.ErrorContains(t, err, "before: ")
		})
	}
}
