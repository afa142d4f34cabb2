// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"flag"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/differential"
)

var (
	differentialSeeds = flag.Int("differential.seeds", 8, "how many seeds compare the fake with the API server")
	differentialSeed  = flag.Uint64("differential.seed", 1, "the first seed; the others follow")
	differentialSteps = flag.Int("differential.steps", 300, "random requests per seed")
)

// The fake answers random requests as the API server does. To see a difference again:
//
//	go test . -run TestFakeAnswersAsTheAPIServer -differential.seed=SEED -differential.seeds=1
func TestFakeAnswersAsTheAPIServer(t *testing.T) {
	t.Parallel()
	config := rest.CopyConfig(shared.Config())
	config.WarningHandler = rest.NoWarnings{} // many requests are odd
	client, err := openchoreoclient.NewForConfig(config)
	require.NoError(t, err)
	for i := range *differentialSeeds {
		seed := *differentialSeed + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			namespaces := [2]string{shared.space(t).namespace, shared.space(t).namespace}
			difference := differential.Run(t, seed, *differentialSteps,
				differential.Server{Name: "fake", Client: dataplanetest.NewClientset(), Namespaces: namespaces},
				differential.Server{Name: "API server", Client: client, Namespaces: namespaces})
			if difference != "" {
				t.Error(difference)
			}
		})
	}
}
