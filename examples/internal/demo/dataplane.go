// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Create creates a DataPlane for t, with the credentials of a user in t who has the same name and the
// rights in rules. edits change the DataPlane before that.
func (c *Clusters) Create(ctx context.Context, t *Target, name string, rules []rbacv1.PolicyRule, edits ...func(*openchoreov1alpha1.DataPlane)) (*openchoreov1alpha1.DataPlane, error) {
	credentials, err := t.Credentials(ctx, name, rules...)
	if err != nil {
		return nil, err
	}
	dp := NewDataPlane(c.Namespace, name, t.Name, credentials)
	for _, edit := range edits {
		edit(dp)
	}
	return c.DataPlanes.Create(ctx, dp, metav1.CreateOptions{})
}

// NewDataPlane returns a DataPlane with these values; all other values are constant.
func NewDataPlane(namespace, name, cluster string, credentials openchoreov1alpha1.APIServerCredentials) *openchoreov1alpha1.DataPlane {
	return &openchoreov1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: openchoreov1alpha1.DataPlaneSpec{
			KubernetesCluster: openchoreov1alpha1.KubernetesClusterSpec{Name: cluster, Credentials: credentials},
			Registry:          openchoreov1alpha1.Registry{Prefix: "docker.io/myorg"},
			Gateway: openchoreov1alpha1.GatewaySpec{
				PublicVirtualHost:       "api.example.com",
				OrganizationVirtualHost: "internal.example.com",
			},
		},
	}
}

// Rotate applies another client certificate and its key to a DataPlane.
func (c *Clusters) Rotate(ctx context.Context, name string, credentials openchoreov1alpha1.APIServerCredentials) (*openchoreov1alpha1.DataPlane, error) {
	return c.DataPlanes.Apply(ctx, openchoreoapply.DataPlane(name, c.Namespace).
		WithSpec(openchoreoapply.DataPlaneSpec().WithKubernetesCluster(openchoreoapply.KubernetesClusterSpec().
			WithCredentials(openchoreoapply.APIServerCredentials().
				WithClientCert(credentials.ClientCert).WithClientKey(credentials.ClientKey)))),
		metav1.ApplyOptions{FieldManager: "rotator", Force: true})
}

// SetCondition writes a condition of a DataPlane as manager.
func (c *Clusters) SetCondition(ctx context.Context, name, manager string, condition metav1.Condition) (*openchoreov1alpha1.DataPlane, error) {
	dp, err := c.DataPlanes.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return helpers.PatchConditions(ctx, c.DataPlanes, dp, []metav1.Condition{condition}, helpers.PatchConditionsOptions{FieldManager: manager})
}

// Credentials makes a new certificate for a user, and adds the rights in rules, if any, to the user's
// rights. Only one call for each user may have rules.
func (t *Target) Credentials(ctx context.Context, user string, rules ...rbacv1.PolicyRule) (credentials openchoreov1alpha1.APIServerCredentials, err error) {
	u, err := t.AddUser(user)
	if err != nil {
		return credentials, err
	}
	if len(rules) > 0 {
		if err := t.grant(ctx, user, rules); err != nil {
			return credentials, err
		}
	}
	return helpers.CredentialsFor(u.Config())
}

// grant returns once the API server applies the rights, a moment after it has stored them.
func (t *Target) grant(ctx context.Context, user string, rules []rbacv1.PolicyRule) error {
	named := metav1.ObjectMeta{Name: user}
	if _, err := t.Core.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: named, Rules: rules}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := t.Core.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: named,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	rule := rules[0] // all take effect at the same time
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               user,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: rule.Verbs[0], Group: rule.APIGroups[0], Resource: rule.Resources[0]},
	}}
	return wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		reviewed, err := t.Core.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		return err == nil && reviewed.Status.Allowed, err
	})
}
