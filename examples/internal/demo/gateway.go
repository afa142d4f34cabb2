// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

// GatewayFlags writes the certificates of a gateway's configuration to a folder, under the names that
// cert-manager gives them in a Secret, and returns the flags of args.Gateway for them.
func GatewayFlags(config *rest.Config, folder string) ([]string, error) {
	ca, cert, key := filepath.Join(folder, "ca.crt"), filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	for file, data := range map[string][]byte{ca: config.CAData, cert: config.CertData, key: config.KeyData} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return nil, err
		}
	}
	return []string{"--gateway=" + config.Host, "--gateway-ca=" + ca, "--gateway-cert=" + cert, "--gateway-key=" + key}, nil
}

// gateway is a stand-in for OpenChoreo's cluster gateway, with an agent.
type gateway struct {
	*dataplanetest.Gateway
	folder string
	flags  []string // for its clients
}

// startGateway starts a gateway with an agent for a plane ID, which acts in the cluster of config.
func startGateway(planeID string, config *rest.Config) (*gateway, error) {
	folder, err := os.MkdirTemp("", "gateway-*")
	if err != nil {
		return nil, err
	}
	g := &gateway{Gateway: dataplanetest.NewGateway(), folder: folder}
	g.Connect(planeID, dataplanetest.Agent(config))
	if g.flags, err = GatewayFlags(g.Config(), folder); err != nil {
		return nil, errors.Join(err, g.stop())
	}
	return g, nil
}

// rotate makes the gateway refuse the certificate of its clients, and replaces the files.
func (g *gateway) rotate() error {
	g.RotateClients()
	if _, err := GatewayFlags(g.Config(), g.folder); err != nil {
		return err
	}
	g.CutConnections()
	return nil
}

func (g *gateway) stop() error {
	g.Close()
	if err := os.RemoveAll(g.folder); err != nil {
		return fmt.Errorf("%w: %w", ErrCleanUp, err)
	}
	return nil
}
