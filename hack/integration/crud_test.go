// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

func testPages(t *testing.T, s *space) {
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("dp-%02d", i)
		want = append(want, name)
		s.create(t, behaviours.NewDataPlane(name))
	}
	options := metav1.ListOptions{Limit: 10}
	var got []string
	var sizes []int
	var version string
	for {
		page, err := s.typed.List(t.Context(), options)
		require.NoError(t, err)
		got = append(got, behaviours.Names(page.Items)...)
		sizes = append(sizes, len(page.Items))
		if version == "" {
			version = page.ResourceVersion
			require.NotNil(t, page.RemainingItemCount)
			assert.EqualValues(t, 15, *page.RemainingItemCount)
			// Later pages show the state at the time of the first.
			s.create(t, behaviours.NewDataPlane("dp-24-late"))
			require.NoError(t, s.typed.Delete(t.Context(), "dp-24", metav1.DeleteOptions{}))
		}
		assert.Equal(t, version, page.ResourceVersion)
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	assert.Equal(t, want, got)
	assert.Equal(t, []int{10, 10, 5}, sizes)
}
