// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// leaveClientSideApply is the code of docs/writing.md.
func leaveClientSideApply(ctx context.Context, dataPlanes openchoreotyped.DataPlaneInterface, name string) error {
	dp, err := dataPlanes.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(dp, sets.New("kubectl-client-side-apply"), "my-team")
	if err != nil {
		return err
	}
	if patch != nil { // nil if another manager has written the annotation, if there is one
		if dp, err = dataPlanes.Patch(ctx, name, types.JSONPatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	after := dp.DeepCopy()
	delete(after.Annotations, corev1.LastAppliedConfigAnnotation)
	if patch, err = helpers.MergePatch(dp, after); err == nil {
		_, err = dataPlanes.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	return err
}

func TestLeavingClientSideApplyRemovesTheKeyFromTheAnnotation(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		leave   func(t *testing.T, s *space, manifest string)
		manager string
		stays   bool // the annotation stays
	}{
		"by a program": {
			leave: func(t *testing.T, s *space, _ string) {
				require.NoError(t, leaveClientSideApply(t.Context(), s.typed, "prod"))
				require.NoError(t, leaveClientSideApply(t.Context(), s.typed, "prod"), "there is nothing more to do")
			},
			manager: "my-team",
		},
		"by a program, after kubectl with its default field manager": {
			leave: func(t *testing.T, s *space, manifest string) {
				s.kubectl(t, "apply", "--server-side", "--filename="+manifest)
				require.NoError(t, leaveClientSideApply(t.Context(), s.typed, "prod"))
			},
			manager: "kubectl",
		},
		"by kubectl with another field manager": {
			leave: func(t *testing.T, s *space, manifest string) {
				s.kubectl(t, "apply", "--server-side", "--field-manager=my-team", "--filename="+manifest)
			},
			manager: "my-team",
		},
		"not by kubectl with its default field manager": {
			leave: func(t *testing.T, s *space, manifest string) {
				s.kubectl(t, "apply", "--server-side", "--filename="+manifest)
			},
			manager: "kubectl",
			stays:   true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shared.space(t)
			dp := behaviours.NewDataPlane("prod")
			dp.Namespace = s.namespace
			dp.Labels = map[string]string{"region": "eu"}
			dp.Spec.KubernetesCluster.Credentials = credentialsOf(addUser(t, shared, "agent"))
			dp.SetGroupVersionKind(openchoreov1alpha1.SchemeGroupVersion.WithKind("DataPlane"))
			manifest := filepath.Join(t.TempDir(), "dataplane.yaml")
			write := func() {
				data, err := json.Marshal(dp)
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(manifest, data, 0o600))
			}
			write()
			s.kubectl(t, "apply", "--filename="+manifest)
			before := s.get(t, "prod")
			key := dp.Spec.KubernetesCluster.Credentials.ClientKey
			require.Contains(t, before.Annotations[corev1.LastAppliedConfigAnnotation], key)
			require.Equal(t, []string{"kubectl-client-side-apply"}, managersOf(before))

			test.leave(t, s, manifest)
			after := s.get(t, "prod")
			assert.Equal(t, before.Spec, after.Spec)
			assert.Equal(t, before.Labels, after.Labels)
			if test.stays {
				dp.Spec.KubernetesCluster.Credentials = credentialsOf(addUser(t, shared, "agent"))
				write()
				test.leave(t, s, manifest)
				assert.Contains(t, s.get(t, "prod").Annotations[corev1.LastAppliedConfigAnnotation],
					dp.Spec.KubernetesCluster.Credentials.ClientKey, "even a new key is copied into the annotation")
				return
			}
			assert.NotContains(t, after.Annotations, corev1.LastAppliedConfigAnnotation)
			stored, err := json.Marshal(s.stored(t, "prod"))
			require.NoError(t, err)
			assert.Equal(t, 1, strings.Count(string(stored), key), "the key is in the spec only")
			require.Len(t, after.ManagedFields, 1)
			assert.Equal(t, test.manager, after.ManagedFields[0].Manager)
			assert.Equal(t, metav1.ManagedFieldsOperationApply, after.ManagedFields[0].Operation)

			// The manager owns the fields: a field that its manifest no longer names is removed.
			dp.Labels = nil
			write()
			s.kubectl(t, "apply", "--server-side", "--field-manager="+test.manager, "--filename="+manifest)
			after = s.get(t, "prod")
			assert.NotContains(t, after.Labels, "region")
			assert.NotContains(t, after.Annotations, corev1.LastAppliedConfigAnnotation)
		})
	}
}
