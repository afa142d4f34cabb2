// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import "time"

// Summary is summary, until that is exported.
func (r Report) Summary(now time.Time) string { return r.summary(now) }
