// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"flag"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/hack/integration/differential"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

var (
	differentialSeeds = flag.Int("differential.seeds", 8, "how many seeds compare the fake with the API server")
	differentialSeed  = flag.Uint64("differential.seed", 1, "the first seed; the others follow")
	differentialSteps = flag.Int("differential.steps", 300, "random requests per seed")
)

// The fake answers random requests as the API server does. The seed chooses the requests and the kind.
// To repeat a difference:
//
//	go test . -run TestFakeAnswersAsTheAPIServer -differential.seed=SEED -differential.seeds=1
func TestFakeAnswersAsTheAPIServer(t *testing.T) {
	t.Parallel()
	// This CRD of DataPlane merges conditions by type, as the fake does.
	v1 := ownPlane(t, variantOf(t, crds.DataPlaneV1(), func(schema map[string]any) {
		conditions := at(schema, "properties", "status", "properties", "conditions")
		conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"] = "map", []any{"type"}
	}))
	require.NoError(t, v1.InstallCRDs(t.Context(), crds.ClusterDataPlane()))
	planes := []*plane{shared, v1, v1} // as behaviours.Kinds
	seeds := *differentialSeeds
	if testing.Short() {
		seeds = min(seeds, len(planes)) // one of each kind
	}
	for i := range seeds {
		seed := *differentialSeed + uint64(i)
		chosen := seed % uint64(len(behaviours.Kinds))
		kind, p := behaviours.Kinds[chosen], planes[chosen]
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			if kind.Namespaced {
				t.Parallel()
			}
			config := rest.CopyConfig(p.Config())
			config.WarningHandler = rest.NoWarnings{} // many requests cause warnings
			client, err := openchoreoclient.NewForConfig(config)
			require.NoError(t, err)
			difference := differential.Run(t, kind, seed, *differentialSteps, func() (fake, server differential.Server) {
				namespaces := [2]string{p.space(t).namespace, p.space(t).namespace}
				if !kind.Namespaced {
					require.NoError(t, behaviours.Empty(t.Context(), kind.Client(client, "")))
				}
				return differential.Server{Name: "fake", Client: dataplanetest.NewClientset(), Namespaces: namespaces},
					differential.Server{Name: "API server", Client: client, Namespaces: namespaces}
			})
			if difference != "" {
				t.Error(difference)
			}
		})
	}
}
