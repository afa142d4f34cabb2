// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

func TestStatusTable(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	status := fleet.Status{Planes: []fleet.PlaneStatus{
		{Namespace: "default", Name: "a", State: fleet.StateRunning, RunningSince: now.Add(-90 * time.Second)},
		{
			Namespace: "default", Name: "b", State: fleet.StateRetrying, Restarts: 3, LastError: "dial tcp:\nrefused",
			LastErrorTime: now.Add(-5 * time.Second), NextRetry: now.Add(8 * time.Second), Overdue: 1,
		},
		{Name: "c", State: fleet.StateDone},
	}}
	assert.Equal(t, ""+
		"NAMESPACE  NAME  STATE                 RUNNING  RESTARTS  RETRY IN  LAST ERROR\n"+
		"default    a     Running               90s      0         -         -\n"+
		"default    b     Retrying (1 overdue)  -        3         8s        dial tcp: refused (5s ago)\n"+
		"-          c     Done                  -        0         -         -\n", statusTable(status, now))
}
