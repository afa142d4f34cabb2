// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	applyrbacv1 "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// DataPlane returns a DataPlane for a target, for the caller to create. Its credentials are
// new and belong to a user of the same name, whose rights in every namespace of the target
// are rules. Another call gives the same user another certificate.
func (c *Clusters) DataPlane(ctx context.Context, t *Target, name string, rules ...rbacv1.PolicyRule) (*openchoreov1alpha1.DataPlane, error) {
	user, err := t.AddUser(name)
	if err != nil {
		return nil, err
	}
	if err := t.grant(ctx, name, rules); err != nil {
		return nil, fmt.Errorf("granting rights to user %s of %s: %w", name, t.Name, err)
	}
	credentials, err := helpers.CredentialsFor(user.Config())
	if err != nil {
		return nil, err
	}
	return &openchoreov1alpha1.DataPlane{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: name},
		Spec: openchoreov1alpha1.DataPlaneSpec{
			KubernetesCluster: openchoreov1alpha1.KubernetesClusterSpec{
				Name:        t.Name,
				Credentials: credentials,
			},
			Registry: openchoreov1alpha1.Registry{Prefix: "docker.io/myorg"},
			Gateway: openchoreov1alpha1.GatewaySpec{
				PublicVirtualHost:       "api.example.com",
				OrganizationVirtualHost: "internal.example.com",
			},
		},
	}, nil
}

// grant gives a user the rights in rules and no others. It returns when the API server
// applies them, which is a moment after it has stored them.
func (t *Target) grant(ctx context.Context, user string, rules []rbacv1.PolicyRule) error {
	client, err := kubernetes.NewForConfig(t.Config())
	if err != nil {
		return err
	}
	role := applyrbacv1.ClusterRole(user)
	for _, rule := range rules {
		role.WithRules(applyrbacv1.PolicyRule().WithVerbs(rule.Verbs...).WithAPIGroups(rule.APIGroups...).
			WithResources(rule.Resources...).WithResourceNames(rule.ResourceNames...).WithNonResourceURLs(rule.NonResourceURLs...))
	}
	options := metav1.ApplyOptions{FieldManager: "demo", Force: true}
	if _, err := client.RbacV1().ClusterRoles().Apply(ctx, role, options); err != nil {
		return err
	}
	binding := applyrbacv1.ClusterRoleBinding(user).
		WithRoleRef(applyrbacv1.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind("ClusterRole").WithName(user)).
		WithSubjects(applyrbacv1.Subject().WithAPIGroup(rbacv1.GroupName).WithKind(rbacv1.UserKind).WithName(user))
	if _, err := client.RbacV1().ClusterRoleBindings().Apply(ctx, binding, options); err != nil {
		return err
	}
	for _, rule := range rules {
		review := &authorizationv1.SubjectAccessReview{Spec: accessBy(rule)}
		review.Spec.User = user
		if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			reviewed, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			return err == nil && reviewed.Status.Allowed, err
		}); err != nil {
			return err
		}
	}
	return nil
}

// accessBy returns one access that a rule allows.
func accessBy(rule rbacv1.PolicyRule) authorizationv1.SubjectAccessReviewSpec {
	first := func(values []string) string {
		if len(values) == 0 {
			return ""
		}
		return values[0]
	}
	if len(rule.NonResourceURLs) > 0 {
		return authorizationv1.SubjectAccessReviewSpec{NonResourceAttributes: &authorizationv1.NonResourceAttributes{
			Verb: first(rule.Verbs), Path: first(rule.NonResourceURLs),
		}}
	}
	resource, subresource, _ := strings.Cut(first(rule.Resources), "/")
	return authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
		Verb: first(rule.Verbs), Group: first(rule.APIGroups),
		Resource: resource, Subresource: subresource, Name: first(rule.ResourceNames),
	}}
}
