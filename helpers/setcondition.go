// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

// SetCondition sets the condition of c's type in the status of dp, in memory, and says
// whether that has changed anything. It changes the object it is given, so dp must be
// the caller's own, not one of a cache.
//
// LastTransitionTime moves only when the status does: to that of c, or to now, both
// without fractions of a second, which the API server doesn't store. ObservedGeneration
// becomes metadata.generation of dp unless c has one. A message that is longer than the
// API server takes is cut at a whole character, and what is not UTF-8 in it is replaced. Of several conditions of the type, one
// remains, where the first was.
//
// It is an error, and dp stays as it is, when the API server would refuse the
// condition: when type, status or reason are not of the form that [metav1.Condition]
// states. The error names the field.
func SetCondition(dp *v1alpha1.DataPlane, c metav1.Condition) (changed bool, err error) {
	if dp == nil {
		return false, errors.New("nil data plane")
	}
	conditions, changed, err := setCondition(dp.Status.Conditions, c, dp.Generation, time.Now())
	if err == nil && changed {
		dp.Status.Conditions = conditions
	}
	return changed, err
}

// The limits of metav1.Condition, which the definition of DataPlane enforces.
const (
	maxConditionType    = 316
	maxConditionReason  = 1024
	maxConditionMessage = 32768 // characters
)

var (
	conditionTypePattern = regexp.MustCompile(
		`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$`)
	conditionReasonPattern = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`)
)

// setCondition returns a new list; it does not change the one that it is given.
func setCondition(conditions []metav1.Condition, c metav1.Condition, generation int64, now time.Time) ([]metav1.Condition, bool, error) {
	if err := checkCondition(c); err != nil {
		return nil, false, err
	}
	c.Message = cutMessage(strings.ToValidUTF8(c.Message, "\uFFFD")) // as JSON does
	if c.ObservedGeneration == 0 {
		c.ObservedGeneration = generation
	}
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = metav1.NewTime(now)
	}
	c.LastTransitionTime = metav1.NewTime(c.LastTransitionTime.Truncate(time.Second))

	ofType := func(other metav1.Condition) bool { return other.Type == c.Type }
	first := slices.IndexFunc(conditions, ofType)
	if first < 0 {
		return append(slices.Clone(conditions), c), true, nil
	}
	if conditions[first].Status == c.Status {
		c.LastTransitionTime = conditions[first].LastTransitionTime
	}
	set := slices.Clone(conditions[:first])
	set = append(set, c)
	for _, other := range conditions[first+1:] {
		if !ofType(other) {
			set = append(set, other)
		}
	}
	return set, len(set) != len(conditions) || conditions[first] != c, nil
}

func checkCondition(c metav1.Condition) error {
	switch {
	case len(c.Type) > maxConditionType || !conditionTypePattern.MatchString(c.Type):
		return fmt.Errorf("condition type %.100q: want CamelCase, or a domain, a slash and CamelCase", c.Type)
	case c.Status != metav1.ConditionTrue && c.Status != metav1.ConditionFalse && c.Status != metav1.ConditionUnknown:
		return fmt.Errorf("condition %s: status %.100q: want True, False or Unknown", c.Type, c.Status)
	case len(c.Reason) > maxConditionReason || !conditionReasonPattern.MatchString(c.Reason):
		return fmt.Errorf("condition %s: reason %.100q: want a CamelCase word", c.Type, c.Reason)
	case c.ObservedGeneration < 0:
		return fmt.Errorf("condition %s: observed generation %d: want none or more than that", c.Type, c.ObservedGeneration)
	}
	return nil
}

// cutMessage shortens a message to what the API server takes, which counts characters.
func cutMessage(message string) string {
	if len(message) <= maxConditionMessage || utf8.RuneCountInString(message) <= maxConditionMessage {
		return message
	}
	count := 0
	for i := range message {
		if count == maxConditionMessage-1 {
			return message[:i] + "…"
		}
		count++
	}
	return message
}
