// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet/internal/shards"
)

// Causes with which the context of a run ends, beside [helpers.ErrDeleted],
// [helpers.ErrReplaced] and [remote.ErrServerChanged].
var (
	// ErrDataPlaneChanged reports a change for which Options.RestartOn returned true.
	ErrDataPlaneChanged = errors.New("data plane has changed")
	// ErrNotSelected reports that Options.Filter no longer selects the DataPlane.
	ErrNotSelected = errors.New("data plane is no longer selected")
	// ErrShardLost reports that another replica leads the shard of the DataPlane, or may.
	ErrShardLost = shards.ErrLost
	// ErrStopped reports that the Fleet ends.
	ErrStopped = errors.New("fleet is stopped")
)

// ErrOverdue reports that a run did not return in time and was abandoned.
var ErrOverdue = errors.New("run did not return in time")

// PanicError is the error of a run or a ConfigFor that panicked, or of a WrapTransport or Proxy that
// panicked while a Cluster was made or its credentials changed. A panic in a request stays in the
// goroutine of its caller.
type PanicError struct {
	// Value is the value of the panic.
	Value any
	// Stack is the stack of the goroutine that panicked, as debug.Stack formats it.
	Stack []byte
}

// Error shows Value but not Stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
