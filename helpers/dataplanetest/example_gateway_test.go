// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplanetest_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// The files of a program's client certificate are renewed, and the gateway refuses the former one.
func ExampleGateway_RotateClients() {
	ctx := context.Background()
	gateway := dataplanetest.NewGateway()
	defer gateway.Close()
	gateway.Connect("default", dataplanetest.NewObjects())
	folder, err := os.MkdirTemp("", "gateway-*") // in a test, t.TempDir()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)

	files := rest.TLSClientConfig{CAFile: folder + "/ca.crt", CertFile: folder + "/tls.crt", KeyFile: folder + "/tls.key"}
	write := func() error {
		config := gateway.Config() // with a new certificate
		return errors.Join(os.WriteFile(files.CAFile, config.CAData, 0o600),
			os.WriteFile(files.CertFile, config.CertData, 0o600), os.WriteFile(files.KeyFile, config.KeyData, 0o600))
	}
	if err := write(); err != nil {
		fmt.Println(err)
		return
	}
	cluster, err := remote.NewCluster(dataplanetest.ClusterDataPlane("default").AsDataPlane(), remote.Options{
		ConfigFor: helpers.ConfigFor(&rest.Config{Host: gateway.Config().Host, TLSClientConfig: files}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cluster.Close()
	fmt.Println(remote.Classify(cluster.Probe(ctx)))

	gateway.RotateClients()
	if err := write(); err != nil {
		fmt.Println(err)
		return
	}
	gateway.CutConnections()
	fmt.Println(remote.Classify(cluster.Probe(ctx)))
	// Output:
	// Reachable
	// Reachable
}
