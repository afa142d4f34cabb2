// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package args

import (
	"errors"
	"fmt"
	"strings"
)

// Object is a flag that names a DataPlane or, with a kind as in kubectl, a ClusterDataPlane:
//
//	production
//	clusterdataplane/default
//	cdp/default
type Object struct {
	// Cluster is true for a ClusterDataPlane.
	Cluster bool
	Name    string
}

// Set implements flag.Value.
func (o *Object) Set(text string) error {
	kind, name, found := strings.Cut(text, "/")
	if !found {
		kind, name = "dataplane", text
	}
	if name == "" {
		return errors.New("no name")
	}
	switch strings.TrimSuffix(strings.ToLower(kind), ".openchoreo.dev") { // as kubectl get -o name prints it
	case "dataplane", "dataplanes", "dp", "dps":
		*o = Object{false, name}
	case "clusterdataplane", "clusterdataplanes", "cdp", "cdps":
		*o = Object{true, name}
	default:
		return fmt.Errorf("kind %q: want dataplane or clusterdataplane", kind)
	}
	return nil
}

// String returns a text that Set accepts.
func (o *Object) String() string {
	if o.Cluster {
		return "clusterdataplane/" + o.Name
	}
	return o.Name
}
