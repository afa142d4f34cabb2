// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package args

import (
	"errors"
	"flag"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	openchoreov1alpha1 "github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

// Gateway holds the flags for a connection to OpenChoreo's cluster gateway:
//
//	var gateway args.Gateway
//	gateway.Register(flag.CommandLine)
//	args.Parse(flag.CommandLine, gateway.Check)
//	options := remote.Options{ConfigFor: helpers.ConfigFor(gateway.Config())}
type Gateway struct{ config rest.Config }

// Register adds --gateway, --gateway-ca, --gateway-cert, --gateway-key and --gateway-server-name to fs.
func (g *Gateway) Register(fs *flag.FlagSet) {
	fs.StringVar(&g.config.Host, "gateway", "", "`URL` of OpenChoreo's cluster gateway, for data planes of v1")
	fs.StringVar(&g.config.CAFile, "gateway-ca", "", "`file` with the CA certificates of the gateway")
	fs.StringVar(&g.config.CertFile, "gateway-cert", "", "`file` with the client certificate for the gateway")
	fs.StringVar(&g.config.KeyFile, "gateway-key", "", "`file` with the key of the client certificate")
	fs.StringVar(&g.config.ServerName, "gateway-server-name", "",
		"`name` in the gateway's certificate (default: the host of the URL); for a port-forward, cluster-gateway.openchoreo-control-plane.svc")
}

// Check returns an error if flags contradict each other or a file can't be used. Pass it to Parse.
func (g *Gateway) Check() error {
	switch tls := g.config.TLSClientConfig; {
	case g.config.Host == "" && (tls.CAFile != "" || tls.CertFile != "" || tls.KeyFile != "" || tls.ServerName != ""):
		return errors.New("--gateway-ca, --gateway-cert, --gateway-key and --gateway-server-name: want --gateway too")
	case g.config.Host == "":
		return nil
	case (tls.CertFile == "") != (tls.KeyFile == ""):
		return errors.New("--gateway-cert and --gateway-key: want both or none")
	}
	loaded := rest.CopyConfig(&g.config)
	if err := rest.LoadTLSFiles(loaded); err != nil {
		return err // names the file
	}
	if _, err := rest.TLSConfigFor(loaded); err != nil {
		return fmt.Errorf("--gateway-ca, --gateway-cert and --gateway-key: %w", err)
	}
	anyDataPlane := &openchoreov1alpha1.DataPlane{ObjectMeta: metav1.ObjectMeta{Namespace: "any", Name: "any"}}
	if _, err := helpers.GatewayConfigFor(anyDataPlane, &g.config); err != nil {
		return fmt.Errorf("--gateway: %w", err)
	}
	return nil
}

// Config returns the configuration of the gateway for helpers.ConfigFor, or nil without --gateway. It
// names the files, so that package remote reads renewed certificates.
func (g *Gateway) Config() *rest.Config {
	if g.config.Host == "" {
		return nil
	}
	return rest.CopyConfig(&g.config)
}
