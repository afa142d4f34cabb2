// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/hack/controlplane"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// dataPlaneOf creates a DataPlane with the credentials of a user, and returns it as stored.
func (s *space) dataPlaneOf(t *testing.T, user *controlplane.User) *openchoreov1alpha1.DataPlane {
	t.Helper()
	dp := behaviours.NewDataPlane("prod")
	dp.Spec.KubernetesCluster.Credentials = credentialsOf(user)
	s.create(t, dp)
	return s.get(t, "prod")
}

func TestRESTConfigForIsTheUserOfTheDataPlane(t *testing.T) {
	s := shared.space(t)
	user, err := shared.AddUser("dataplane-agent", "dataplane-agents")
	require.NoError(t, err)
	config, err := helpers.RESTConfigFor(s.dataPlaneOf(t, user))
	require.NoError(t, err)
	target, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)

	review, err := target.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Equal(t, "dataplane-agent", review.Status.UserInfo.Username)
	assert.ElementsMatch(t, []string{"dataplane-agents", "system:authenticated"}, review.Status.UserInfo.Groups)
}

func TestRESTConfigForMayDoWhatItsUserMay(t *testing.T) {
	s, forbidden := shared.space(t), shared.space(t)
	user, err := shared.AddUser("editor-of-" + s.namespace)
	require.NoError(t, err)
	s.grant(t, user.Name, "", "configmaps", "create", "list", "watch")

	config, err := helpers.RESTConfigFor(s.dataPlaneOf(t, user))
	require.NoError(t, err)
	target, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	allowed := target.CoreV1().ConfigMaps(s.namespace)
	// The API server needs some time to notice the binding.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, err := allowed.List(t.Context(), metav1.ListOptions{})
		require.NoError(c, err)
	}, eventually, tick)

	watcher, err := allowed.Watch(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	defer watcher.Stop()
	_, err = allowed.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "made"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Equal(t, watch.Added, next(t, watcher).Type)

	_, err = target.CoreV1().ConfigMaps(forbidden.namespace).List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, `User "`+user.Name+`"`)
	_, err = target.CoreV1().Secrets(s.namespace).List(t.Context(), metav1.ListOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
}

func TestRESTConfigForVerifiesTheAPIServer(t *testing.T) {
	user, err := shared.AddUser("dataplane-agent")
	require.NoError(t, err)
	server, err := url.Parse(user.Server)
	require.NoError(t, err)
	dp := shared.space(t).dataPlaneOf(t, user)
	byName := dp.DeepCopy()
	byName.Spec.KubernetesCluster.Credentials.APIServerURL = "https://localhost:" + server.Port()
	// Here, clients and servers have different authorities.
	otherCA := dp.DeepCopy()
	otherCA.Spec.KubernetesCluster.Credentials.CACert = dp.Spec.KubernetesCluster.Credentials.ClientCert

	for _, test := range []struct {
		title string
		dp    *openchoreov1alpha1.DataPlane
		name  string // the server name
		want  string // "" is success
	}{
		{title: "by address", dp: dp},
		{title: "by name", dp: byName},
		{title: "by address, with a name of the certificate", dp: dp, name: "localhost"},
		{title: "with a name that the certificate lacks", dp: dp, name: "k8s-api.example.com", want: "not k8s-api.example.com"},
		{title: "with another authority", dp: otherCA, want: "x509: "},
	} {
		t.Run(test.title, func(t *testing.T) {
			config, err := helpers.RESTConfigFor(test.dp)
			require.NoError(t, err)
			config.ServerName = test.name
			err = askVersion(config)
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
		})
	}
}

// CredentialsFor returns the credentials of a kubeconfig's user, and RESTConfigFor connects as this
// user.
func TestCredentialsForAKubeconfig(t *testing.T) {
	s := shared.space(t)
	kubeconfig, err := addUser(t, shared, "registered-agent").Kubeconfig()
	require.NoError(t, err)
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	require.NoError(t, err)
	dp := behaviours.NewDataPlane("prod")
	dp.Spec.KubernetesCluster.Credentials, err = helpers.CredentialsFor(config)
	require.NoError(t, err)
	stored := s.create(t, dp)
	config, err = helpers.RESTConfigFor(stored)
	require.NoError(t, err)
	target, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	user, err := whoAmI(t.Context(), target)
	require.NoError(t, err)
	assert.Equal(t, "registered-agent", user)
}

func askVersion(config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	_, err = client.Discovery().ServerVersion()
	return err
}
