// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package internalinterfaces has what the packages of the informers share.
package internalinterfaces

import (
	"k8s.io/client-go/tools/cache"
)

// ListWatchFor returns lw for a reflector, with what client says of streaming
// lists: a reflector of client-go 0.35 or later otherwise asks for one, and waits
// forever when client is a fake. It is cache.ToListWatcherWithWatchListSemantics
// for every client-go.
func ListWatchFor(client any, lw *cache.ListWatch) cache.ListerWatcher {
	fake, ok := client.(watchListUnsupporter)
	return listWatch{ListWatch: lw, unsupported: ok && fake.IsWatchListSemanticsUnSupported()}
}

// watchListUnsupporter is the method by which client-go 0.35 and later tells
// clients that can't stream lists.
type watchListUnsupporter interface {
	IsWatchListSemanticsUnSupported() bool
}

type listWatch struct {
	*cache.ListWatch
	unsupported bool
}

// IsWatchListSemanticsUnSupported reports what the client said.
func (lw listWatch) IsWatchListSemanticsUnSupported() bool {
	return lw.unsupported
}
