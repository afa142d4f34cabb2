// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/crds"
	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreotyped "github.com/openchoreo/dataplane-sdk-go/clientset/versioned/typed/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/await"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

const gatewayProvisioned = openchoreov1alpha1.DataPlaneConditionGatewayProvisioned

// mayWrite are the rights that the user of a DataPlane needs in the target cluster.
var mayWrite = rbacv1.PolicyRule{
	APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"create", "patch", "delete", "list", "watch"},
}

// A copy of the controller needs no demonstration.
func init() { demonstrate = demonstration }

// demonstration shows the controller on control planes that it starts, and returns the exit code.
func demonstration(o options) int {
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	return demo.Run("controller-runtime", &demo.Flags{}, 1, func(ctx context.Context, clusters *demo.Clusters) error {
		gateway := dataplanetest.NewGateway() // a stand-in for OpenChoreo's
		defer gateway.Close()
		gateway.Connect(clusterDataPlane, dataplanetest.Agent(clusters.Targets[0].Config()))
		o.gateway = *gateway.Config()
		if err := clusters.Plane.InstallCRDs(ctx, crds.ClusterDataPlane()); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			defer cancel() // ends the story if the controller fails
			ended <- run(ctx, clusters.Management, clusters.Namespace, o, logr.Discard())
		}()
		err := (&story{Clusters: clusters, gateway: gateway}).play(ctx)
		cancel()
		if runErr := <-ended; runErr != nil {
			return runErr
		}
		return err
	})
}

// story changes data planes, as administrators do, and shows how the controller reacts.
type story struct {
	*demo.Clusters
	gateway   *dataplanetest.Gateway
	dataPlane *openchoreov1alpha1.DataPlane
}

func (s *story) play(ctx context.Context) error {
	if err := demo.Play(ctx, os.Stdout, []demo.Step{
		{Title: "A DataPlane is created: the controller writes the hosts of its workloads to a config map in its cluster", Do: s.create},
		{Title: "The public virtual host changes: the config map follows", Do: s.changeHost},
		{Title: "Somebody deletes the config map: the controller, which watches it, writes it again", Do: s.deleteConfigMap},
		{Title: "The credentials change to a user without rights: the controller reports that, and the config map remains", Do: s.rotateTo("nobody", metav1.ConditionFalse)},
		{Title: "The credentials change to a user who may write config maps: the controller continues", Do: s.rotateTo("successor", metav1.ConditionTrue, mayWrite)},
		{Title: "The DataPlane is deleted: first, the controller removes the config map", Do: s.remove},
		{Title: "A ClusterDataPlane of OpenChoreo v1 is created: the controller connects through the cluster gateway, here a stand-in", Do: s.createCluster},
		{Title: "Somebody deletes the config map there: through the gateway, the controller sees it within 6 s", Do: func(ctx context.Context) error {
			return errors.Join(s.waitForWatch(ctx), s.deleteConfigMap(ctx))
		}},
	}); err != nil {
		return err
	}
	fmt.Println("\nDone: the controller followed a DataPlane from its creation to its deletion, and a ClusterDataPlane behind the gateway.")
	fmt.Println("Next: go -C examples run ./controller-runtime --kubeconfig FILE --namespace NAME, which writes to the clusters of its DataPlanes,")
	fmt.Println("      and, once it has ended, the same with --release, which removes everything again; or manifest.yaml to deploy it.")
	return nil
}

func (s *story) create(ctx context.Context) (err error) {
	s.dataPlane, err = s.Create(ctx, s.Targets[0], "production", []rbacv1.PolicyRule{mayWrite})
	if err != nil {
		return err
	}
	return s.show(ctx, metav1.ConditionTrue)
}

// clusterDataPlane is the name that OpenChoreo's installer gives.
const clusterDataPlane = "default"

func (s *story) createCluster(ctx context.Context) error {
	created, err := s.Client.OpenChoreoV1alpha1().ClusterDataPlanes().Create(ctx, newClusterDataPlane(clusterDataPlane), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	s.dataPlane = created.AsDataPlane()
	stored, err := await.For(ctx, s.Client.OpenChoreoV1alpha1().ClusterDataPlanes(), clusterDataPlane, await.True(gatewayProvisioned))
	if err != nil {
		return err
	}
	return s.print(ctx, stored.AsDataPlane())
}

// newClusterDataPlane returns a ClusterDataPlane whose gateway has a host.
func newClusterDataPlane(name string) *openchoreov1alpha1.ClusterDataPlane {
	return dataplanetest.ClusterDataPlane(name, func(dp *openchoreov1alpha1.DataPlane) {
		dp.Spec.Gateway.Ingress = &openchoreov1alpha1.GatewayNetworkSpec{External: &openchoreov1alpha1.GatewayEndpointSpec{
			Name: "gateway-default", Namespace: "openchoreo-data-plane", HTTPS: &openchoreov1alpha1.GatewayListenerSpec{Host: "apps.example.com", Port: 443},
		}}
	})
}

// waitForWatch waits until the last request through the gateway is a watch, and a second old.
func (s *story) waitForWatch(ctx context.Context) error {
	requests, since := 0, time.Now()
	return wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(context.Context) (bool, error) {
		all := s.gateway.Requests()
		if len(all) != requests || !strings.Contains(all[len(all)-1].URI, "watch=1") {
			requests, since = len(all), time.Now()
		}
		return time.Since(since) > time.Second, nil
	})
}

// deleteConfigMap deletes the config map of the data plane, and waits until there is another.
func (s *story) deleteConfigMap(ctx context.Context) error {
	configMaps, name := s.Targets[0].Core.CoreV1().ConfigMaps(targetNamespace), configMapName(client.ObjectKeyFromObject(s.dataPlane))
	if err := configMaps.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	deleted := time.Now()
	if err := wait.PollUntilContextCancel(ctx, 5*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, err := configMaps.Get(ctx, name, metav1.GetOptions{})
		return err == nil, client.IgnoreNotFound(err)
	}); err != nil {
		return err
	}
	line("%s has config map %s/%s again after %s", s.Targets[0].Name, targetNamespace, name, time.Since(deleted).Round(time.Millisecond))
	return nil
}

func (s *story) changeHost(ctx context.Context) error {
	return s.change(ctx, metav1.ConditionTrue, func(spec *openchoreov1alpha1.DataPlaneSpec) {
		spec.Gateway.PublicVirtualHost = "www.example.com"
	})
}

// rotateTo gives the DataPlane the credentials of a new user with the rights in rules.
func (s *story) rotateTo(user string, want metav1.ConditionStatus, rules ...rbacv1.PolicyRule) func(context.Context) error {
	return func(ctx context.Context) error {
		credentials, err := s.Targets[0].Credentials(ctx, user, rules...)
		if err != nil {
			return err
		}
		return s.change(ctx, want, func(spec *openchoreov1alpha1.DataPlaneSpec) { spec.KubernetesCluster.Credentials = credentials })
	}
}

func (s *story) remove(ctx context.Context) error {
	if err := s.DataPlanes.Delete(ctx, s.dataPlane.Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := await.ForDeletion(ctx, s.DataPlanes, s.dataPlane.Name); err != nil {
		return err
	}
	line("DataPlane %s is gone", s.dataPlane.Name)
	return s.showConfigMap(ctx)
}

// change changes the spec, and waits for the report of the controller.
func (s *story) change(ctx context.Context, want metav1.ConditionStatus, edit func(*openchoreov1alpha1.DataPlaneSpec)) (err error) {
	if s.dataPlane, err = changeSpec(ctx, s.DataPlanes, s.dataPlane.Name, edit); err != nil {
		return err
	}
	return s.show(ctx, want)
}

// changeSpec patches the spec, which keeps fields that the SDK doesn't know.
func changeSpec(ctx context.Context, dataPlanes openchoreotyped.DataPlaneInterface, name string, edit func(*openchoreov1alpha1.DataPlaneSpec)) (*openchoreov1alpha1.DataPlane, error) {
	before, err := dataPlanes.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	after := before.DeepCopy()
	edit(&after.Spec)
	patch, err := helpers.MergePatch(before, after)
	if err != nil {
		return nil, err
	}
	return dataPlanes.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
}

func (s *story) show(ctx context.Context, want metav1.ConditionStatus) error {
	dp, err := await.For(ctx, s.DataPlanes, s.dataPlane.Name, await.Match(gatewayProvisioned+"="+string(want),
		func(r helpers.Report) bool { return r.Verdict(gatewayProvisioned).Status == want }),
		await.MinGeneration(s.dataPlane.Generation))
	if err != nil {
		return err
	}
	s.dataPlane = dp
	return s.print(ctx, dp)
}

// print prints the condition of a data plane, and the config map.
func (s *story) print(ctx context.Context, dp *openchoreov1alpha1.DataPlane) error {
	verdict := helpers.EvaluateCondition(dp, gatewayProvisioned)
	line("%s is %s (%s) for generation %d: %s",
		gatewayProvisioned, verdict.Status, verdict.Reason, verdict.ObservedGeneration, verdict.Message)
	return s.showConfigMap(ctx)
}

func (s *story) showConfigMap(ctx context.Context) error {
	name := configMapName(client.ObjectKeyFromObject(s.dataPlane))
	configMap, err := s.Targets[0].Core.CoreV1().ConfigMaps(targetNamespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		line("%s has no config map %s/%s", s.Targets[0].Name, targetNamespace, name)
		return nil
	}
	if err != nil {
		return err
	}
	owners := make([]string, len(configMap.ManagedFields))
	for i, entry := range configMap.ManagedFields {
		owners[i] = entry.Manager + " by " + string(entry.Operation)
	}
	line("%s has config map %s/%s, written by %s", s.Targets[0].Name, targetNamespace, name, strings.Join(owners, ", "))
	for _, key := range slices.Sorted(maps.Keys(configMap.Data)) {
		line("  %s: %s", key, configMap.Data[key])
	}
	return nil
}

func line(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }
