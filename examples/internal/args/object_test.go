// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package args_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
)

func TestObject(t *testing.T) {
	for text, want := range map[string]args.Object{
		"prod":                                  {Name: "prod"},
		"dataplane/prod":                        {Name: "prod"},
		"dp/prod":                               {Name: "prod"},
		"clusterdataplane/prod":                 {Cluster: true, Name: "prod"},
		"ClusterDataPlanes/prod":                {Cluster: true, Name: "prod"},
		"cdp/prod":                              {Cluster: true, Name: "prod"},
		"clusterdataplane.openchoreo.dev/prod":  {Cluster: true, Name: "prod"},
		"clusterdataplanes.openchoreo.dev/prod": {Cluster: true, Name: "prod"},
	} {
		var object, again args.Object
		require.NoError(t, object.Set(text), text)
		assert.Equal(t, want, object, text)
		require.NoError(t, again.Set(object.String()))
		assert.Equal(t, object, again, "Set accepts the text of String")
	}
	for _, text := range []string{"", "cdp/", "pod/prod"} {
		assert.Error(t, new(args.Object).Set(text), text)
	}
}
