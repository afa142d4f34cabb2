// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/dataplane"
)

// SetCondition sets a condition in the status of dp, in memory, and reports whether the
// conditions have changed. It modifies dp: pass a copy, never an object of a cache.
//
// LastTransitionTime changes only with the status: to the time in c, or to now if c has none,
// in whole seconds as the API server stores it. ObservedGeneration defaults to
// metadata.generation. A message that is too long is cut. SetCondition removes duplicates of
// the type. It adds missing transition times to other conditions, too: the API server rejects
// conditions without one.
//
// If type, status, reason or observed generation of c are invalid, SetCondition returns an
// error that names the field, and doesn't change dp.
func SetCondition(dp *v1alpha1.DataPlane, c metav1.Condition) (changed bool, err error) {
	if dp == nil {
		return false, dataplane.ErrNil
	}
	if c, err = prepareCondition(c, dp.Generation, time.Now()); err != nil {
		return false, err
	}
	before := dp.Status.Conditions
	dp.Status.Conditions = setConditions(before, []metav1.Condition{c})
	return !slices.Equal(before, dp.Status.Conditions), nil
}

var conditionsField = field.NewPath("status", "conditions")

// prepareCondition checks a condition and returns it as the API server will store it.
func prepareCondition(c metav1.Condition, generation int64, now time.Time) (metav1.Condition, error) {
	if c.Type == "" {
		return c, field.Required(conditionsField.Child("type"), "")
	}
	if c.ObservedGeneration == 0 {
		c.ObservedGeneration = generation
	}
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = metav1.NewTime(now)
	}
	c.LastTransitionTime = metav1.NewTime(c.LastTransitionTime.Truncate(time.Second))
	message := c.Message
	c.Message = "" // ValidateCondition counts bytes, the API server characters
	errs := validation.ValidateCondition(c, conditionsField.Key(c.Type))
	c.Message = cutMessage(strings.ToValidUTF8(message, "\uFFFD")) // as JSON does
	return c, errs.ToAggregate()
}

// setConditions sets prepared conditions, of different types, in a copy of conditions.
func setConditions(conditions, set []metav1.Condition) []metav1.Condition {
	result := make([]metav1.Condition, 0, len(conditions)+len(set))
	places := make(map[string]int, len(set)) // indices in result of the types to set; -1 until found
	for _, c := range set {
		places[c.Type] = -1
	}
	for _, other := range conditions {
		place, toSet := places[other.Type]
		switch {
		case toSet && place >= 0:
			continue // a duplicate
		case toSet:
			places[other.Type] = len(result)
		}
		if other.LastTransitionTime.IsZero() {
			other.LastTransitionTime = set[0].LastTransitionTime
		}
		result = append(result, other)
	}
	for _, c := range set {
		if place := places[c.Type]; place >= 0 {
			one := result[place : place+1 : place+1]
			meta.SetStatusCondition(&one, c)
		} else {
			result = append(result, c)
		}
	}
	return result
}

const maxConditionMessage = 32768 // characters

// cutMessage shortens a message to what the API server accepts.
func cutMessage(message string) string {
	if utf8.RuneCountInString(message) <= maxConditionMessage {
		return message
	}
	return string([]rune(message)[:maxConditionMessage-1]) + "…"
}
