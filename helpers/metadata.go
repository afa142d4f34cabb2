// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"strings"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// DisplayName returns the name to show for dp: what its display-name annotation says,
// without space around it, or else its metadata.name. It returns "" for nil.
func DisplayName(dp *v1alpha1.DataPlane) string {
	if dp == nil {
		return ""
	}
	if name := strings.TrimSpace(dp.Annotations[v1alpha1.AnnotationDisplayName]); name != "" {
		return name
	}
	return dp.Name
}

// Description returns what the description annotation of dp says, without space
// around it. It returns "" when there is none, and for nil.
func Description(dp *v1alpha1.DataPlane) string {
	if dp == nil {
		return ""
	}
	return strings.TrimSpace(dp.Annotations[v1alpha1.AnnotationDescription])
}
