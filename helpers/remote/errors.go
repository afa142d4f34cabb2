// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

var (
	// ErrClosed reports a request through a [Cluster] that is closed, or that was closed
	// while the request was under way; and a call of a [Cache] that is closed.
	ErrClosed = errors.New("connection to data plane is closed")
	// ErrServerChanged reports that a DataPlane names another API server than the one a
	// [Cluster] was made for: another scheme, host, port or path. The same address in another
	// spelling, such as with a slash at the end, is the same server. The connection can't go
	// on: make a new one.
	ErrServerChanged = errors.New("data plane has another API server")
	// ErrRotated reports a request that was under way when the credentials were rotated,
	// and had not ended when Options.Grace was over. Watches don't get it: they end as
	// if the API server had ended them.
	ErrRotated = errors.New("credentials of data plane were rotated")
)

// clusterError names the data plane in an error.
type clusterError struct {
	key types.NamespacedName
	err error
}

// Error returns one line that names the data plane first and only once, for conditions and
// logs: a joined error has several lines, and an error inside may name the data plane too.
func (e *clusterError) Error() string {
	name := fmt.Sprintf("data plane %s: ", nameOf(e.key))
	lines := strings.FieldsFunc(e.err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	return name + strings.ReplaceAll(strings.Join(lines, "; "), name, "")
}

func (e *clusterError) Unwrap() error { return e.err }

// nameOf returns namespace/name of a DataPlane, and the name alone of a ClusterDataPlane.
func nameOf(key types.NamespacedName) string {
	if key.Namespace == "" {
		return key.Name
	}
	return key.String()
}
