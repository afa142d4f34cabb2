// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func TestSetCondition(t *testing.T) {
	now, later := metav1.NewTime(time.Unix(1000, 500)), metav1.NewTime(time.Unix(2000, 0))
	stored := condition(ready, yes, 3)
	set := func(edit func(*metav1.Condition)) metav1.Condition {
		c := stored
		edit(&c)
		return c
	}
	for name, test := range map[string]struct {
		before  []metav1.Condition
		set     metav1.Condition
		after   []metav1.Condition
		changed bool
	}{
		"adds a condition, in whole seconds": {
			set:     metav1.Condition{Type: ready, Status: yes, Reason: "Tested", LastTransitionTime: now},
			after:   []metav1.Condition{{Type: ready, Status: yes, Reason: "Tested", ObservedGeneration: 3, LastTransitionTime: metav1.Unix(1000, 0)}},
			changed: true,
		},
		"the same again changes nothing": {
			before: []metav1.Condition{stored}, after: []metav1.Condition{stored},
			set: set(func(c *metav1.Condition) { c.ObservedGeneration, c.LastTransitionTime = 0, later }),
		},
		"the time stays with the status": {
			before: []metav1.Condition{stored}, changed: true,
			set:   set(func(c *metav1.Condition) { c.Reason, c.Message, c.LastTransitionTime = "Other", "other", later }),
			after: []metav1.Condition{set(func(c *metav1.Condition) { c.Reason, c.Message = "Other", "other" })},
		},
		"the time moves with the status": {
			before: []metav1.Condition{stored}, changed: true,
			set:   set(func(c *metav1.Condition) { c.Status, c.LastTransitionTime = no, later }),
			after: []metav1.Condition{set(func(c *metav1.Condition) { c.Status, c.LastTransitionTime = no, later })},
		},
		"takes another observed generation": {
			before: []metav1.Condition{stored}, changed: true,
			set:   set(func(c *metav1.Condition) { c.ObservedGeneration = 2 }),
			after: []metav1.Condition{set(func(c *metav1.Condition) { c.ObservedGeneration = 2 })},
		},
		"removes duplicates and keeps other types": {
			before: []metav1.Condition{condition("A", yes, 1), stored, condition("B", yes, 1), condition(ready, no, 1)}, changed: true,
			set:   stored,
			after: []metav1.Condition{condition("A", yes, 1), stored, condition("B", yes, 1)},
		},
		"gives a time to conditions without one": {
			before: []metav1.Condition{{Type: "A", Status: yes}, {Type: ready, Status: yes}}, changed: true,
			set: set(func(c *metav1.Condition) { c.LastTransitionTime = later }),
			after: []metav1.Condition{
				{Type: "A", Status: yes, LastTransitionTime: later},
				set(func(c *metav1.Condition) { c.LastTransitionTime = later }),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dp := withConditions(3, test.before...)
			shared := slices.Clone(test.before)
			changed, err := helpers.SetCondition(dp, test.set)
			require.NoError(t, err)
			assert.Equal(t, test.changed, changed)
			assert.Equal(t, test.after, dp.Status.Conditions)
			assert.Equal(t, shared, test.before, "a list that others may hold stays as it is")
		})
	}

	dp, start := withConditions(3), time.Now().Truncate(time.Second)
	_, err := helpers.SetCondition(dp, metav1.Condition{Type: ready, Status: yes, Reason: "Tested"})
	require.NoError(t, err)
	assert.WithinRange(t, dp.Status.Conditions[0].LastTransitionTime.Time, start, time.Now())
	assert.Zero(t, dp.Status.Conditions[0].LastTransitionTime.Nanosecond())
}

func TestSetConditionRefusesWhatTheAPIServerWould(t *testing.T) {
	sound := condition(ready, yes, 1)
	for name, test := range map[string]struct {
		edit func(*metav1.Condition)
		says string
	}{
		"no type":         {func(c *metav1.Condition) { c.Type = "" }, "status.conditions.type: Required value"},
		"type of words":   {func(c *metav1.Condition) { c.Type = "Is Ready" }, "status.conditions[Is Ready].type: "},
		"long type":       {func(c *metav1.Condition) { c.Type = strings.Repeat("A", 317) }, "].type: "},
		"no status":       {func(c *metav1.Condition) { c.Status = "" }, "status.conditions[Ready].status: "},
		"status in case":  {func(c *metav1.Condition) { c.Status = "true" }, "status.conditions[Ready].status: "},
		"no reason":       {func(c *metav1.Condition) { c.Reason = "" }, "status.conditions[Ready].reason: "},
		"reason in prose": {func(c *metav1.Condition) { c.Reason = "it failed" }, "status.conditions[Ready].reason: "},
		"long reason":     {func(c *metav1.Condition) { c.Reason = strings.Repeat("A", 1025) }, "status.conditions[Ready].reason: "},
		"generation":      {func(c *metav1.Condition) { c.ObservedGeneration = -1 }, "status.conditions[Ready].observedGeneration: "},
	} {
		t.Run(name, func(t *testing.T) {
			dp, c := &v1alpha1.DataPlane{}, sound
			test.edit(&c)
			changed, err := helpers.SetCondition(dp, c)
			require.ErrorContains(t, err, test.says)
			assert.False(t, changed)
			assert.Equal(t, &v1alpha1.DataPlane{}, dp)
		})
	}
	_, err := helpers.SetCondition(nil, sound)
	require.EqualError(t, err, "nil data plane")
}

func TestSetConditionCutsAMessageAtACharacter(t *testing.T) {
	const limit = 32768
	for _, character := range []string{"x", "ü", "語", "😀"} {
		dp, c := &v1alpha1.DataPlane{}, condition(ready, yes, 1)
		c.Message = strings.Repeat(character, limit)
		_, err := helpers.SetCondition(dp, c)
		require.NoError(t, err)
		assert.Equal(t, c.Message, dp.Status.Conditions[0].Message, "just as long as it may be")

		c.Message += character
		_, err = helpers.SetCondition(dp, c)
		require.NoError(t, err)
		cut := dp.Status.Conditions[0].Message
		assert.Equal(t, limit, utf8.RuneCountInString(cut))
		assert.True(t, utf8.ValidString(cut))
		assert.True(t, strings.HasSuffix(cut, character+"…"))
	}
}

// JSON replaces bytes that are not UTF-8. The stored message must equal the one in memory.
func TestSetConditionOfAMessageThatIsNotUTF8(t *testing.T) {
	dp, c := &v1alpha1.DataPlane{}, condition(ready, yes, 1)
	c.Message = "\xff\xfebad"
	changed, err := helpers.SetCondition(dp, c)
	require.NoError(t, err)
	assert.True(t, changed)
	data, err := json.Marshal(dp)
	require.NoError(t, err)
	stored := &v1alpha1.DataPlane{}
	require.NoError(t, json.Unmarshal(data, stored))
	changed, err = helpers.SetCondition(stored, c)
	require.NoError(t, err)
	assert.False(t, changed)
}
