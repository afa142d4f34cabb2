// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package helpers

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
)

func TestSetCondition(t *testing.T) {
	dp := &v1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Generation: 3}}
	start := time.Now().Add(-time.Second)

	changed, err := SetCondition(dp, metav1.Condition{Type: ready, Status: metav1.ConditionTrue, Reason: "Fine"})
	require.NoError(t, err)
	assert.True(t, changed)
	first := dp.Status.Conditions[0]
	assert.EqualValues(t, 3, first.ObservedGeneration)
	assert.WithinRange(t, first.LastTransitionTime.Time, start.Truncate(time.Second), time.Now())
	assert.Zero(t, first.LastTransitionTime.Nanosecond(), "the API server stores seconds")

	changed, err = SetCondition(dp, metav1.Condition{Type: ready, Status: metav1.ConditionTrue, Reason: "Fine"})
	require.NoError(t, err)
	assert.False(t, changed, "the same again")

	moved := metav1.NewTime(time.Unix(1000, 500))
	changed, err = SetCondition(dp, metav1.Condition{
		Type: ready, Status: metav1.ConditionTrue, Reason: "Other", Message: "x", LastTransitionTime: moved,
	})
	require.NoError(t, err)
	assert.True(t, changed)
	assert.Equal(t, first.LastTransitionTime, dp.Status.Conditions[0].LastTransitionTime, "the status has not changed")
	assert.Equal(t, "Other", dp.Status.Conditions[0].Reason)

	_, err = SetCondition(dp, metav1.Condition{
		Type: ready, Status: metav1.ConditionFalse, Reason: "Other", ObservedGeneration: 2, LastTransitionTime: moved,
	})
	require.NoError(t, err)
	assert.Equal(t, time.Unix(1000, 0), dp.Status.Conditions[0].LastTransitionTime.Time)
	assert.EqualValues(t, 2, dp.Status.Conditions[0].ObservedGeneration)
}

func TestSetConditionCollapsesDuplicatesAndKeepsOthers(t *testing.T) {
	dp := &v1alpha1.DataPlane{Status: v1alpha1.DataPlaneStatus{Conditions: []metav1.Condition{
		condition("A", metav1.ConditionTrue, 1), condition(ready, metav1.ConditionTrue, 1),
		condition("B", metav1.ConditionTrue, 1), condition(ready, metav1.ConditionFalse, 1),
	}}}
	before := dp.DeepCopy()
	same := condition(ready, metav1.ConditionTrue, 1)
	shared := dp.Status.Conditions
	changed, err := SetCondition(dp, same)
	require.NoError(t, err)
	assert.True(t, changed, "a duplicate less is a change")
	assert.Equal(t, []metav1.Condition{before.Status.Conditions[0], same, before.Status.Conditions[2]}, dp.Status.Conditions)
	assert.Equal(t, before.Status.Conditions, shared, "a list that others may hold stays as it is")
}

func TestSetConditionRefusesWhatTheAPIServerWould(t *testing.T) {
	sound := condition(ready, metav1.ConditionTrue, 1)
	for name, test := range map[string]struct {
		edit func(*metav1.Condition)
		says string
	}{
		"no type":         {func(c *metav1.Condition) { c.Type = "" }, `condition type ""`},
		"type of words":   {func(c *metav1.Condition) { c.Type = "Is Ready" }, "condition type"},
		"long type":       {func(c *metav1.Condition) { c.Type = longText(317) }, "condition type"},
		"no status":       {func(c *metav1.Condition) { c.Status = "" }, "condition Ready: status"},
		"status in case":  {func(c *metav1.Condition) { c.Status = "true" }, "condition Ready: status"},
		"no reason":       {func(c *metav1.Condition) { c.Reason = "" }, "condition Ready: reason"},
		"reason in prose": {func(c *metav1.Condition) { c.Reason = "it failed" }, "condition Ready: reason"},
		"long reason":     {func(c *metav1.Condition) { c.Reason = longText(1025) }, "condition Ready: reason"},
		"generation":      {func(c *metav1.Condition) { c.ObservedGeneration = -1 }, "condition Ready: observed generation"},
	} {
		t.Run(name, func(t *testing.T) {
			dp := &v1alpha1.DataPlane{}
			c := sound
			test.edit(&c)
			changed, err := SetCondition(dp, c)
			require.ErrorContains(t, err, test.says)
			assert.Less(t, len(err.Error()), 300)
			assert.False(t, changed)
			assert.Empty(t, dp.Status.Conditions)
		})
	}
	_, err := SetCondition(nil, sound)
	require.Error(t, err)
}

func TestSetConditionCutsAMessageAtACharacter(t *testing.T) {
	for _, character := range []string{"x", "ü", "語", "😀"} {
		dp := &v1alpha1.DataPlane{}
		c := condition(ready, metav1.ConditionTrue, 1)
		c.Message = strings.Repeat(character, maxConditionMessage)
		_, err := SetCondition(dp, c)
		require.NoError(t, err)
		assert.Equal(t, c.Message, dp.Status.Conditions[0].Message, "just as long as it may be")

		c.Message += character
		_, err = SetCondition(dp, c)
		require.NoError(t, err)
		cut := dp.Status.Conditions[0].Message
		assert.Equal(t, maxConditionMessage, utf8.RuneCountInString(cut))
		assert.True(t, utf8.ValidString(cut))
		assert.True(t, strings.HasSuffix(cut, character+"…"))
	}
}

// What JSON does to a message must not make it another one.
func TestSetConditionOfAMessageThatIsNoUTF8(t *testing.T) {
	dp := &v1alpha1.DataPlane{}
	c := metav1.Condition{Type: ready, Status: metav1.ConditionTrue, Reason: "Fine", Message: "\xff\xfebad"}
	changed, err := SetCondition(dp, c)
	require.NoError(t, err)
	assert.True(t, changed)
	data, err := json.Marshal(dp)
	require.NoError(t, err)
	stored := &v1alpha1.DataPlane{}
	require.NoError(t, json.Unmarshal(data, stored))
	changed, err = SetCondition(stored, c)
	require.NoError(t, err)
	assert.False(t, changed)
}
