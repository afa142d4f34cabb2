// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func TestDisplayNameAndDescription(t *testing.T) {
	for name, test := range map[string]struct {
		annotations          map[string]string
		wantName, wantDetail string
	}{
		"neither": {nil, "prod", ""},
		"both": {map[string]string{
			v1alpha1.AnnotationDisplayName: " Production ", v1alpha1.AnnotationDescription: "In Europe.\n",
		}, "Production", "In Europe."},
		"blank": {map[string]string{v1alpha1.AnnotationDisplayName: " "}, "prod", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Name: "prod", Annotations: test.annotations}}
			assert.Equal(t, test.wantName, DisplayName(dp))
			assert.Equal(t, test.wantDetail, Description(dp))
		})
	}
	assert.Empty(t, DisplayName(nil))
	assert.Empty(t, Description(nil))
}

func TestRedact(t *testing.T) {
	dp := newDataPlane(t)
	before := dp.DeepCopy()
	redacted := Redact(dp)
	assert.Equal(t, before, dp)
	assert.Equal(t, v1alpha1.Redacted, redacted.Spec.KubernetesCluster.Credentials.ClientKey)
	assert.Nil(t, Redact(nil))
}
