// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command sharded-fleet is a template for programs that work in all data planes with several replicas. Each data plane
// belongs to one replica. When a replica ends after a signal, the others take over within seconds; when it is killed, after
// 15 to 20 s. See docs/sharding.md.
//
// To deploy it, write your work into the function work, build an image with any tool that builds Go, such as ko, write the
// name of the image into manifest.yaml, and run
//
//	kubectl apply --server-side -f examples/sharded-fleet/manifest.yaml
//
// To try it without an image, run it several times, each with another POD_NAME, with your kubeconfig and any namespace for
// the Leases:
//
//	POD_NAME=one go -C examples run ./sharded-fleet --kubeconfig ~/.kube/config --lease-namespace default
//
// To see data planes move when replicas are killed, suspended and added:
//
//	go -C examples run ./fleet --replicas 3
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoclient "github.com/openchoreo/dataplane-sdk-go/clientset/versioned"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
	openchoreoinformers "github.com/openchoreo/dataplane-sdk-go/informers/externalversions"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig `file` of the cluster that stores data planes (default: the cluster of the Pod)")
	var gateway rest.Config
	flag.StringVar(&gateway.Host, "gateway", "", "`URL` of OpenChoreo's cluster gateway, for data planes of v1")
	flag.StringVar(&gateway.CAFile, "gateway-ca", "", "`file` with the CA certificates of the gateway")
	flag.StringVar(&gateway.CertFile, "gateway-cert", "", "`file` with the client certificate for the gateway")
	flag.StringVar(&gateway.KeyFile, "gateway-key", "", "`file` with the key of the client certificate")
	flag.StringVar(&gateway.ServerName, "gateway-server-name", "", "`name` in the gateway's certificate (default: the host of the URL)")
	leaseNamespace := flag.String("lease-namespace", "sharded-fleet", "`name` of the namespace of the Leases")
	flag.Parse()
	if err := check(&gateway); err != nil {
		fmt.Fprintf(os.Stderr, "sharded-fleet: %v; -h lists the flags\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, *kubeconfig, *leaseNamespace, &gateway); err != nil {
		log.Fatal(err)
	}
}

// check returns an error for an argument that can't be used.
func check(gateway *rest.Config) error {
	switch {
	case flag.NArg() > 0: // package flag ignores all flags after it
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case gateway.Host == "" && gateway.CAFile+gateway.CertFile+gateway.KeyFile+gateway.ServerName != "":
		return errors.New("--gateway-ca, --gateway-cert, --gateway-key, --gateway-server-name: want --gateway too")
	case (gateway.CertFile == "") != (gateway.KeyFile == ""):
		return errors.New("--gateway-cert, --gateway-key: want both or none")
	case gateway.Host == "":
		return nil
	}
	if _, err := rest.TLSConfigFor(rest.CopyConfig(gateway)); err != nil { // reads the files
		return fmt.Errorf("files of --gateway: %w", err)
	}
	anyPlane := &openchoreov1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "any", Name: "any"}}
	if _, err := helpers.GatewayConfigFor(anyPlane, gateway); err != nil {
		return fmt.Errorf("--gateway: %w", err)
	}
	return nil
}

func run(ctx context.Context, kubeconfig, leaseNamespace string, gateway *rest.Config) error {
	identity := os.Getenv("POD_NAME")
	if identity == "" {
		return errors.New("environment variable POD_NAME: want a name of this replica")
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := openchoreoclient.NewForConfig(config)
	if err != nil {
		return err
	}
	unlimited := rest.CopyConfig(config)
	unlimited.QPS = -1 // no rate limit may delay the renewal of a Lease
	leases, err := coordinationv1client.NewForConfig(unlimited)
	if err != nil {
		return err
	}
	if gateway.Host == "" {
		gateway = nil // only data planes of v1 need it
	}
	factory := openchoreoinformers.NewSharedInformerFactory(client, 0)
	openchoreo := factory.OpenChoreo().V1alpha1()
	f := fleet.New(work, fleet.Options{
		Remote: remote.Options{ConfigFor: helpers.ConfigFor(gateway)},
		Sharding: &fleet.Sharding{
			Leases: leases, Namespace: leaseNamespace, Name: "sharded-fleet",
			Shards:   16, // the same in all replicas; several for each
			Identity: identity,
		},
		Hooks: fleet.Hooks{
			OnShardGained: func(shard int) { log.Printf("shard %d: gained", shard) },
			OnShardLost:   func(shard int, err error) { log.Printf("shard %d: %v", shard, err) },
			OnEnd: func(key types.NamespacedName, err error, _, retry time.Duration) {
				log.Printf("data plane %s: ended, next attempt in %s: %v", cache.ObjectName(key), retry, err) // 0s: no other attempt
			},
		},
	}, openchoreo.DataPlanes().Informer(), openchoreo.ClusterDataPlanes().Informer())
	factory.StartWithContext(ctx)
	return f.Run(ctx)
}

// work runs for each data plane of this replica. It must return when ctx ends. If it returns an error earlier, the Fleet calls
// it again, after a pause. For work with informers, copy watchDeployments and StartLimit from examples/watch-workloads.
func work(ctx context.Context, cluster *remote.Cluster) error {
	log.Printf("%s: working", cluster)
	failed := 0 // probes in a row
	return wait.PollUntilContextCancel(ctx, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		err := cluster.Probe(ctx)
		switch {
		case err == nil:
			failed = 0
		case failed < 2: // the API server may restart
			failed++
		default:
			return false, err
		}
		return false, nil
	})
}
