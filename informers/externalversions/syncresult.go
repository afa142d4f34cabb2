// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package externalversions

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// SyncResult is which informers have synced. It has the fields and the method of
// cache.SyncResult, which client-go has from 0.36 on.
type SyncResult struct {
	// Err is nil if all caches were synced, and the cause of the context's end otherwise.
	Err error

	// Synced has each started informer by the type of its objects, and is true for those
	// that have synced.
	Synced map[reflect.Type]bool
}

// AsError returns nil if all caches were synced. Otherwise, its error wraps Err and names
// the types whose caches were not.
func (r SyncResult) AsError() error {
	if r.Err == nil {
		return nil
	}
	var unsynced []string
	for objects, synced := range r.Synced {
		if !synced {
			unsynced = append(unsynced, objects.String())
		}
	}
	slices.Sort(unsynced)
	return fmt.Errorf("failed to sync all caches: %s: %w", strings.Join(unsynced, ", "), r.Err)
}
