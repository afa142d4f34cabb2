// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"cmp"
	"strings"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// DisplayName returns the display-name annotation of dp without surrounding space, or else
// its name. It returns "" for nil.
func DisplayName(dp *v1alpha1.DataPlane) string {
	if dp == nil {
		return ""
	}
	return cmp.Or(strings.TrimSpace(dp.Annotations[v1alpha1.AnnotationDisplayName]), dp.Name)
}

// Description returns the description annotation of dp without surrounding space. It
// returns "" if there is none, and for nil.
func Description(dp *v1alpha1.DataPlane) string {
	if dp == nil {
		return ""
	}
	return strings.TrimSpace(dp.Annotations[v1alpha1.AnnotationDescription])
}
