// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

func TestHostsThatCannotBeUsedAreRefusedWithoutShowingThem(t *testing.T) {
	for name, host := range map[string]string{
		"a user name and a password": "https://user:hunter2@api.example.com",
		"a user name":                "https://hunter2@api.example.com",
		"both, and no URL":           "https://user:hunter2@[::1",
		"both, and no scheme":        "user:hunter2@api.example.com",
		"a query":                    "https://api.example.com?token=hunter2",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := remote.NewCluster(dataplanetest.DataPlane("default", "prod"), editConfig(func(config *rest.Config) { config.Host = host }))
			require.ErrorContains(t, err, "data plane default/prod: rest.Config field Host: ")
			assert.NotContains(t, err.Error(), "hunter2")

			used := "https://api.example.com"
			c := newCluster(t, dataplanetest.DataPlane("default", "prod"), editConfig(func(config *rest.Config) { config.Host = used }))
			used = host
			err = c.Update(dataplanetest.DataPlane("default", "prod"))
			require.Error(t, err)
			for _, text := range []string{err.Error(), c.String(), c.Config().Host} {
				assert.NotContains(t, text, "hunter2")
			}
		})
	}
}
