// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package await

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// Error says why a wait failed, and describes the last state of the object.
//
// errors.Is and errors.As find the reason why the wait ended, including the error and the cause
// of its context, and LastErr. They skip a LastErr that is a timeout or a cancellation itself, so
// that context.DeadlineExceeded and context.Canceled always refer to the context of the wait.
type Error struct {
	// Key names the object. The namespace is the generated client's. With another client, it
	// is the object's, or empty if no object was seen.
	Key types.NamespacedName
	// UID is the object's; empty if it isn't known.
	UID types.UID
	// Want describes the state waited for, such as "Ready=True" or "deletion".
	Want string
	// Last is the last report of the object, with the options of [JudgeBy]; the zero Report
	// if there is no object.
	Last helpers.Report
	// LastErr is the last error of a request; nil if there was none. It may not be why the
	// wait failed, since later requests may have succeeded. NotFound and ErrDeleted are kept
	// only while there is no object.
	LastErr error
	// Elapsed is how long the wait took.
	Elapsed time.Duration

	cause         error     // nil if the Error was made by hand
	at            time.Time // when the wait ended
	minGeneration int64
	types         []string // the condition types waited for
}

// Error describes the wait in one line. It holds reasons and messages as their controllers
// wrote them, and nothing of the spec.
func (e *Error) Error() string {
	var details []string
	if e.Last.Ready.Code != "" {
		if e.Last.Generation < e.minGeneration {
			details = append(details, fmt.Sprintf("generation %d, want %d or later", e.Last.Generation, e.minGeneration))
		}
		details = append(details, e.unknownTypes()...)
		details = append(details, e.Last.Summary(e.at))
		if slices.Contains(e.types, v1alpha1.DataPlaneConditionReady) &&
			e.Last.Ready.Code == helpers.CodeNotReported && e.Last.Ready.From == "" &&
			e.Last.Created.Code != helpers.CodeNotReported {
			details = append(details, "to judge by what OpenChoreo reports, see helpers.Stock")
		}
	}
	if e.LastErr != nil && !errors.Is(e.cause, e.LastErr) {
		details = append(details, fmt.Sprintf("last error: %v", e.LastErr))
	}
	text := fmt.Sprintf("%s: waited %s for %s",
		strings.TrimSpace("data plane "+dataplane.Name(e.Key.Namespace, e.Key.Name)), e.Elapsed.Round(time.Millisecond), e.Want)
	if len(details) > 0 {
		text += ": " + strings.Join(details, "; ")
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// unknownTypes describes the condition types waited for that the API doesn't define and the object
// doesn't report. They may be misspelled. Summary shows the reported types.
func (e *Error) unknownTypes() (texts []string) {
	verdicts := e.Last.Verdicts()
	for _, conditionType := range e.types {
		if slices.ContainsFunc(verdicts, func(v helpers.Verdict) bool { return v.Type == conditionType }) {
			continue
		}
		hint := ""
		for _, v := range verdicts {
			if strings.EqualFold(v.Type, conditionType) {
				hint = fmt.Sprintf(" (did you mean %s?)", v.Type)
			}
		}
		texts = append(texts, conditionType+" not reported"+hint)
	}
	return texts
}

// Unwrap returns why the wait ended, and LastErr unless it is a timeout or a cancellation.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	if e.LastErr != nil && !errors.Is(e.LastErr, context.DeadlineExceeded) && !errors.Is(e.LastErr, context.Canceled) {
		errs = append(errs, e.LastErr)
	}
	return errs
}
