// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package args_test

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/args"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

func TestGatewayFlags(t *testing.T) {
	gateway := dataplanetest.NewGateway()
	t.Cleanup(gateway.Close)
	config, other := gateway.Config(), gateway.Config()
	dir := t.TempDir()
	for name, data := range map[string][]byte{"ca": config.CAData, "cert": config.CertData, "key": config.KeyData, "other": other.KeyData} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}

	const url = "--gateway=https://gateway.example.com:8444 "
	for name, test := range map[string]struct {
		flags string
		err   string
		want  *rest.Config
	}{
		"no gateway": {"", "", nil},
		"an address": {url, "", &rest.Config{Host: "https://gateway.example.com:8444"}},
		"certificates": {url + "--gateway-ca=DIR/ca --gateway-cert=DIR/cert --gateway-key=DIR/key --gateway-server-name=name", "", &rest.Config{
			Host: "https://gateway.example.com:8444",
			TLSClientConfig: rest.TLSClientConfig{
				CAFile: dir + "/ca", CertFile: dir + "/cert", KeyFile: dir + "/key", ServerName: "name",
			},
		}},
		"a CA alone":                    {"--gateway-ca=DIR/ca", "want --gateway too", nil},
		"a certificate alone":           {"--gateway-cert=DIR/cert --gateway-key=DIR/key", "want --gateway too", nil},
		"a server name alone":           {"--gateway-server-name=name", "want --gateway too", nil},
		"a certificate without key":     {url + "--gateway-cert=DIR/cert", "want both or none", nil},
		"a key without certificate":     {url + "--gateway-key=DIR/key", "want both or none", nil},
		"a key of another certificate":  {url + "--gateway-cert=DIR/cert --gateway-key=DIR/other", "private key does not match", nil},
		"a file that is missing":        {url + "--gateway-ca=DIR/missing", "no such file", nil},
		"a file that is no certificate": {url + "--gateway-ca=DIR/key", "root certificates", nil},
		"http":                          {"--gateway=http://gateway.example.com:8080", "must use https", nil},
		"a name that is no URL":         {"--gateway=cluster-gateway", "must use https", nil},
	} {
		t.Run(name, func(t *testing.T) {
			fs := flag.NewFlagSet("test", flag.ContinueOnError)
			fs.SetOutput(io.Discard)
			var flags args.Gateway
			flags.Register(fs)
			require.NoError(t, fs.Parse(strings.Fields(strings.ReplaceAll(test.flags, "DIR", dir))))
			if test.err != "" {
				require.ErrorContains(t, flags.Check(), test.err)
				return
			}
			require.NoError(t, flags.Check())
			assert.Equal(t, test.want, flags.Config())
		})
	}
}
