// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/features"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// caller calls one entry point of the SDK with the rights of a user. There is a DataPlane "prod"
// and a ClusterDataPlane with the name of the namespace.
type caller struct {
	*space
	config *rest.Config
	client openchoreoclient.Interface
}

// entryPoints are the entry points of docs/connecting.md, by ClusterRole, each for both kinds.
var entryPoints = map[string]map[string]func(t *testing.T, c *caller) error{
	"dataplanes-list": {
		"dataplanes": func(t *testing.T, c *caller) error {
			_, err := c.client.OpenChoreoV1alpha1().DataPlanes(c.namespace).List(t.Context(), metav1.ListOptions{})
			return err
		},
		"clusterdataplanes": func(t *testing.T, c *caller) error {
			_, err := c.client.OpenChoreoV1alpha1().ClusterDataPlanes().List(t.Context(), metav1.ListOptions{})
			return err
		},
	},
	"dataplanes-watch": {
		"dataplanes": func(t *testing.T, c *caller) error {
			dataPlanes := c.factory().OpenChoreo().V1alpha1().DataPlanes()
			clusters := remote.NewCache(remote.FromListers(dataPlanes.Lister(), nil), theCluster, gatewayOptions)
			t.Cleanup(clusters.Close)
			return watchAndConnect(t, dataPlanes.Informer(), clusters, types.NamespacedName{Namespace: c.namespace, Name: "prod"}, func(ctx context.Context) error {
				_, err := c.typed.Patch(ctx, "prod", types.MergePatchType, labelled, metav1.PatchOptions{})
				return err
			})
		},
		"clusterdataplanes": func(t *testing.T, c *caller) error {
			clusterDataPlanes := c.factory().OpenChoreo().V1alpha1().ClusterDataPlanes()
			clusters := remote.NewCache(remote.FromListers(nil, clusterDataPlanes.Lister()), theCluster, gatewayOptions)
			t.Cleanup(clusters.Close)
			return watchAndConnect(t, clusterDataPlanes.Informer(), clusters, types.NamespacedName{Name: c.namespace}, func(ctx context.Context) error {
				_, err := c.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes().Patch(ctx, c.namespace, types.MergePatchType, labelled, metav1.PatchOptions{})
				return err
			})
		},
	},
	"dataplanes-await": {
		"dataplanes": func(t *testing.T, c *caller) error {
			return awaitReady(t, c.client.OpenChoreoV1alpha1().DataPlanes(c.namespace), c.typed, "prod")
		},
		"clusterdataplanes": func(t *testing.T, c *caller) error {
			return awaitReady(t, c.client.OpenChoreoV1alpha1().ClusterDataPlanes(), c.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes(), c.namespace)
		},
	},
	"dataplanes-conditions": {
		"dataplanes": func(t *testing.T, c *caller) error {
			return reportTwice(t, c.client.OpenChoreoV1alpha1().DataPlanes(c.namespace), c.typed, "prod")
		},
		"clusterdataplanes": func(t *testing.T, c *caller) error {
			return reportTwice(t, c.client.OpenChoreoV1alpha1().ClusterDataPlanes(), c.openchoreo.OpenChoreoV1alpha1().ClusterDataPlanes(), c.namespace)
		},
	},
	"dataplanes-patch": {
		"dataplanes": func(t *testing.T, c *caller) error {
			dataPlanes := c.client.OpenChoreoV1alpha1().DataPlanes(c.namespace)
			before, err := dataPlanes.Get(t.Context(), "prod", metav1.GetOptions{})
			if err != nil {
				return err
			}
			after := before.DeepCopy()
			after.Labels = map[string]string{"region": "eu"}
			patch, err := helpers.MergePatch(before, after)
			require.NoError(t, err)
			_, err = dataPlanes.Patch(t.Context(), "prod", types.MergePatchType, patch, metav1.PatchOptions{})
			return err
		},
		"clusterdataplanes": func(t *testing.T, c *caller) error {
			clusterDataPlanes := c.client.OpenChoreoV1alpha1().ClusterDataPlanes()
			before, err := clusterDataPlanes.Get(t.Context(), c.namespace, metav1.GetOptions{})
			if err != nil {
				return err
			}
			after := before.DeepCopy()
			after.Labels, after.Spec.PlaneID = map[string]string{"region": "eu"}, "others"
			patch, err := helpers.MergePatch(before.AsDataPlane(), after.AsDataPlane())
			require.NoError(t, err)
			patched, err := clusterDataPlanes.Patch(t.Context(), c.namespace, types.MergePatchType, patch, metav1.PatchOptions{})
			if err == nil {
				assert.Equal(t, after.Labels, patched.Labels)
				assert.Equal(t, after.Spec, patched.Spec)
			}
			return err
		},
	},
	"dataplanes-apply": {
		"dataplanes": func(t *testing.T, c *caller) error {
			applied := openchoreoapply.DataPlane("applied", c.namespace).WithSpec(openchoreoapply.DataPlaneSpec().
				WithClusterAgent(openchoreoapply.ClusterAgentConfig().WithClientCA(openchoreoapply.ValueFrom().WithValue("PEM"))))
			return twice(func() error {
				_, err := c.client.OpenChoreoV1alpha1().DataPlanes(c.namespace).Apply(t.Context(), applied, behaviours.ApplyAs("one"))
				return err
			})
		},
		"clusterdataplanes": func(t *testing.T, c *caller) error {
			applied := openchoreoapply.ClusterDataPlane("applied-" + c.namespace).WithSpec(openchoreoapply.ClusterDataPlaneSpec().
				WithPlaneID("applied").
				WithClusterAgent(openchoreoapply.ClusterAgentConfig().WithClientCA(openchoreoapply.ValueFrom().WithValue("PEM"))))
			return twice(func() error {
				_, err := c.client.OpenChoreoV1alpha1().ClusterDataPlanes().Apply(t.Context(), applied, behaviours.ApplyAs("one"))
				return err
			})
		},
	},
}

// needed reports whether an entry point fails without a right.
func needed(role, verb string) bool {
	switch role + " " + verb {
	case "dataplanes-await watch": // without it, the wait polls the object
		return false
	case "dataplanes-watch list": // only where a watch doesn't begin with all objects
		return !features.FeatureGates().Enabled(features.WatchListClient)
	default:
		return true
	}
}

var labelled = []byte(`{"metadata": {"labels": {"region": "eu"}}}`)

// Each entry point works with the rights of the documents, and its error names a missing right.
func TestRightsOfTheDocumentsAreEnoughAndAllNeeded(t *testing.T) {
	t.Parallel()
	for _, object := range documentedManifests(t) {
		if object.GetKind() == "ClusterRole" {
			assert.Contains(t, entryPoints, object.GetName())
		}
	}
	for role, kinds := range entryPoints {
		rules := documented[rbacv1.ClusterRole](t, "ClusterRole", role).Rules
		for kind, call := range kinds {
			rights := rightsTo(rules, kind)
			require.NotEmpty(t, rights)
			t.Run(role+" for "+kind, func(t *testing.T) {
				t.Parallel()
				require.NoError(t, call(t, newCaller(t, rights)))
				for i, missing := range rights {
					c := newCaller(t, slices.Delete(slices.Clone(rights), i, i+1))
					err := call(t, c)
					if !needed(role, missing.Verb) {
						require.NoError(t, err, "without %s", missing.Verb)
						continue
					}
					require.True(t, apierrors.IsForbidden(err), "without %s: %v", missing.Verb, err)
					require.ErrorContains(t, err, fmt.Sprintf("cannot %s resource %q", missing.Verb, strings.TrimSuffix(missing.Resource+"/"+missing.Subresource, "/")))
				}
			})
		}
	}
}

// rightsTo returns each right to a kind and to its status, one by one.
func rightsTo(rules []rbacv1.PolicyRule, kind string) (rights []authorizationv1.ResourceAttributes) {
	for _, rule := range rules {
		for _, resource := range rule.Resources {
			name, subresource, _ := strings.Cut(resource, "/")
			if name != kind {
				continue
			}
			for _, verb := range rule.Verbs {
				rights = append(rights, authorizationv1.ResourceAttributes{
					Group: rule.APIGroups[0], Resource: name, Subresource: subresource, Verb: verb,
				})
			}
		}
	}
	return rights
}

// newCaller creates an object of each kind, and a new user with only these rights. It returns when
// the API server knows the rights.
func newCaller(t *testing.T, rights []authorizationv1.ResourceAttributes) *caller {
	t.Helper()
	s := v1Plane(t).space(t)
	s.create(t, dataplanetest.DataPlane(s.namespace, "prod", dataplanetest.V1))
	s.createCluster(t)
	user := "caller-in-" + s.namespace
	var rules []rbacv1.PolicyRule
	for _, right := range rights {
		resource := strings.TrimSuffix(right.Resource+"/"+right.Subresource, "/")
		rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{right.Group}, Resources: []string{resource}, Verbs: []string{right.Verb}})
	}
	meta := metav1.ObjectMeta{Name: user}
	_, err := s.kubernetes.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = s.kubernetes.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, right := range rights {
		require.Eventually(t, func() bool { return s.mayUser(t, user, right) }, eventually, tick)
	}
	c := &caller{space: s, config: s.Config()}
	c.config.Impersonate.UserName = user
	c.client, err = openchoreoclient.NewForConfig(c.config)
	require.NoError(t, err)
	return c
}

func (c *caller) factory() openchoreoinformers.SharedInformerFactory {
	return openchoreoinformers.NewSharedInformerFactory(c.client, 0)
}

var gatewayOptions = remote.Options{ConfigFor: helpers.ConfigFor(&rest.Config{Host: "https://gateway.example.com"})}

func theCluster(c *remote.Cluster) (*remote.Cluster, error) { return c, nil }

// watchAndConnect returns the first error of an informer, or nil once it has seen an object and its
// change. In between, a Cache connects to the data plane.
func watchAndConnect(t *testing.T, informer cache.SharedIndexInformer, clusters *remote.Cache[*remote.Cluster],
	key types.NamespacedName, change func(context.Context) error,
) error {
	t.Helper()
	failed, updated := make(chan error, 1), make(chan struct{}, 1)
	require.NoError(t, informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) {
		select {
		case failed <- err:
		default:
		}
	}))
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, object any) {
		if name, err := cache.ObjectToName(object); err == nil && name.AsNamespacedName() == key && len(updated) == 0 {
			updated <- struct{}{}
		}
	}})
	require.NoError(t, err)
	runUntilCleanup(t, func(ctx context.Context) { informer.RunWithContext(ctx) })
	require.Eventually(t, func() bool { return informer.HasSynced() || len(failed) > 0 }, eventually, tick)
	if len(failed) > 0 {
		return <-failed
	}
	_, err = clusters.Get(key)
	require.NoError(t, err)
	require.NoError(t, change(t.Context()))
	require.Eventually(t, func() bool { return len(updated) > 0 || len(failed) > 0 }, eventually, tick)
	if len(failed) > 0 {
		return <-failed
	}
	return nil
}

func awaitReady[T helpers.Object](t *testing.T, client await.Client[T], admin helpers.StatusClient[T], name string) error {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		_, err := await.For(t.Context(), client, name, await.True(openchoreov1alpha1.DataPlaneConditionReady))
		result <- err
	}()
	object, err := admin.Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	_, err = helpers.PatchConditions(t.Context(), admin, object, readyCondition, helpers.PatchConditionsOptions{ObserveGeneration: true})
	require.NoError(t, err)
	return <-result
}

var readyCondition = []metav1.Condition{{Type: openchoreov1alpha1.DataPlaneConditionReady, Status: metav1.ConditionTrue, Reason: "Tested"}}

// reportTwice writes a condition twice; the second time, nothing changes.
func reportTwice[T helpers.Object](t *testing.T, client, admin helpers.StatusClient[T], name string) error {
	t.Helper()
	object, err := admin.Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return twice(func() error {
		patched, err := helpers.PatchConditions(t.Context(), client, object, readyCondition, helpers.PatchConditionsOptions{})
		if err == nil {
			object = patched
		}
		return err
	})
}

func twice(f func() error) error {
	if err := f(); err != nil {
		return err
	}
	return f()
}
