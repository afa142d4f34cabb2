// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
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
			assert.Equal(t, test.wantName, helpers.DisplayName(dp))
			assert.Equal(t, test.wantDetail, helpers.Description(dp))
		})
	}
	assert.Empty(t, helpers.DisplayName(nil))
	assert.Empty(t, helpers.Description(nil))
}
