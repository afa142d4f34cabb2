// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import "time"

// This file keeps the flat files compiling until they are deleted, and goes with them.

func (r Report) summary(now time.Time) string { return r.Summary(now) }

// Age is used by wait.go.
func (v Verdict) Age(now time.Time) time.Duration { return age(v.LastTransitionTime, now) }

func cell(text string) string {
	if text = oneLine(text); text != "" {
		return text
	}
	return "-"
}
