// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"sync"
	"time"
)

// awaitStart waits until Options.StartLimit lets one more run start. The caller calls release when
// the run has started or ended.
func (f *Fleet) awaitStart(ctx context.Context) (release func(), _ error) {
	if f.starting == nil {
		return func() {}, nil
	}
	select {
	case f.starting <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	once := sync.OnceFunc(func() { <-f.starting })
	if f.options.StartTimeout < 0 {
		return once, nil
	}
	timer := time.AfterFunc(f.options.StartTimeout, once)
	return func() { timer.Stop(); once() }, nil
}
