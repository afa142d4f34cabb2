// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package differential_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"

	"github.com/openchoreo/dataplane-sdk-go/hack/integration/differential"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// The tests of hack/integration compare the fake with real API servers.
func TestRunFindsWhatDiffers(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*dataplanetest.Clientset)
		want   string
	}{
		"nothing": {func(*dataplanetest.Clientset) {}, ""},
		"deletes that delete nothing": {func(c *dataplanetest.Clientset) {
			c.PrependReactor("delete", "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, nil })
		}, "step"},
		"a server that panics": {func(c *dataplanetest.Clientset) {
			c.PrependReactor("patch", "*", func(clienttesting.Action) (bool, runtime.Object, error) { panic("oh") })
		}, "panic: oh"},
		"watches that miss deletions": {func(c *dataplanetest.Clientset) {
			c.PrependWatchReactor("*", func(action clienttesting.Action) (bool, watch.Interface, error) {
				chain := c.WatchReactionChain[1:]
				own := slices.IndexFunc(chain, func(reactor clienttesting.WatchReactor) bool { return reactor.Handles(action) })
				handled, watcher, err := chain[own].React(action)
				if err != nil {
					return handled, nil, err
				}
				return handled, watch.Filter(watcher, func(event watch.Event) (watch.Event, bool) {
					return event, event.Type != watch.Deleted
				}), nil
			})
		}, "of watch"},
	} {
		t.Run(name, func(t *testing.T) {
			kinds := behaviours.Kinds
			if test.want != "" {
				kinds = kinds[:1] // whatever the kind, a difference ends the run
			}
			for _, kind := range kinds {
				difference := differential.Run(t, kind, 1, 100, func() (fake, server differential.Server) {
					other := dataplanetest.NewClientset()
					test.change(other)
					namespaces := [2]string{"one", "two"}
					return differential.Server{Name: "fake", Client: dataplanetest.NewClientset(), Namespaces: namespaces},
						differential.Server{Name: "other", Client: other, Namespaces: namespaces}
				})
				if test.want == "" {
					assert.Empty(t, difference)
				} else {
					assert.Contains(t, difference, test.want)
				}
			}
		})
	}
}
