// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// Redact returns a deep copy of dp without secrets, to show or to send where secrets
// don't belong: the client key and the observer's password are replaced by
// [v1alpha1.Redacted]. [v1alpha1.DataPlane.Redacted] says what else is left out, and
// where formatting and logging a DataPlane do this by themselves. The result is not fit
// to be written back. It returns nil for nil.
func Redact(dp *v1alpha1.DataPlane) *v1alpha1.DataPlane {
	return dp.Redacted()
}
