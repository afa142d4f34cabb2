// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package examples_test runs the templates as users do: built, as processes.
package examples_test

import (
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/openchoreo/dataplane-sdk-go/examples/internal/demo/demotest"
	"github.com/openchoreo/dataplane-sdk-go/helpers"
	"github.com/openchoreo/dataplane-sdk-go/helpers/dataplanetest"
)

var templates = []string{"apply", "connect", "list", "register", "sharded-fleet", "wait", "watch-workloads"}

func TestMain(m *testing.M) {
	demotest.Main(m, "./apply", "./connect", "./list", "./register", "./sharded-fleet", "./wait", "./watch-workloads")
}

// Without --kubeconfig, a template starts a cluster and removes it.
func TestTemplatesOnTheirOwnCluster(t *testing.T) {
	t.Parallel()
	for program, test := range map[string]struct {
		args   []string
		stdout string
	}{
		"list": {nil, `^NAMESPACE +NAME +READY +CODE +FROM +REASON +CERTIFICATE EXPIRES\n` +
			`default +production +true +Current +Created +DataPlaneCreated +20\d\d-\S+Z\n` +
			`<none> +clusterdataplane/default +true +Current +Connected +<none> +20\d\d-\S+Z\n$`},
		"apply":           {[]string{"--secret-ref=registry-credentials"}, `^DataPlane production: secretRef is "registry-credentials", managed by \[apply-example\]\n$`},
		"register":        {append(registration, "--name=staging"), `^created DataPlane default/staging for https://\S+\n$`},
		"wait":            {nil, "^waiting for DataPlane default/production\nproduction is ready at generation 1\n$"},
		"connect":         {nil, `clusterdataplane/default: new credentials\n`},
		"watch-workloads": {nil, `(?s)default/production: watching, \d Deployments\n.*default/production: Deployment default/shop deleted\n`},
	} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			if program != "list" && testing.Short() {
				t.Skip("it starts another control plane")
			}
			p := demotest.Start(t, program, test.args...)
			switch program {
			case "watch-workloads":
				p.WaitFor("default/production: not watched, next attempt in ")
				p.WaitFor("default/production: Deployment default/shop deleted\n")
				p.WaitFor("clusterdataplane/default: Deployment default/shop deleted\n")
				p.Signal(syscall.SIGTERM)
			case "connect":
				p.WaitFor("default/production: 4 namespaces\n")
				p.WaitFor("clusterdataplane/default: 4 namespaces\n")
				p.Type("\n")
				p.WaitFor("default/production: new credentials\n")
				p.WaitFor("clusterdataplane/default: new credentials\n")
				p.Signal(os.Interrupt)
			}
			require.Zero(t, p.Wait(), p)
			assert.Regexp(t, test.stdout, p.Stdout())
			assert.Contains(t, p.String(), "\nnext: ")
			p.LeavesNothing()
		})
	}
}

// Package flag ignores flags after an argument: a program would change the wrong cluster.
func TestTemplatesRefuseBadArguments(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ command, want string }{
		{"apply production --kubeconfig=other", `unexpected argument "production"`},
		{"connect production --kubeconfig=other", `unexpected argument "production"`},
		{"list production --kubeconfig=other", `unexpected argument "production"`},
		{"wait production --kubeconfig=other", `unexpected argument "production"`},
		{"register production --kubeconfig=other", `unexpected argument "production"`},
		{"sharded-fleet production --kubeconfig=other", `unexpected argument "production"`},
		{"sharded-fleet --gateway-ca=ca.crt", "want --gateway too"},
		{"sharded-fleet --gateway-server-name=cluster-gateway", "want --gateway too"},
		{"sharded-fleet --gateway=https://gateway.example.com --gateway-cert=tls.crt", "want both or none"},
		{"sharded-fleet --gateway=https://gateway.example.com --gateway-ca=missing", "no such file"},
		{"sharded-fleet --gateway=http://gateway.example.com", "must use https"},
		{"watch-workloads production --kubeconfig=other", `unexpected argument "production"`},
		{"register", "--name is required"},
		{"wait --name=pod/default", `kind "pod": want dataplane or clusterdataplane`},
		{"connect --gateway=https://gateway.example.com --gateway-ca=missing", "no such file"},
		{"connect --gateway-ca=ca.crt", "want --gateway too"},
		{"connect --gateway=https://gateway.example.com --gateway-key=tls.key", "want both or none"},
	} {
		args := strings.Fields(test.command)
		p := demotest.Start(t, args[0], args[1:]...)
		assert.Equal(t, 2, p.Wait(), p)
		assert.Regexp(t, "^"+args[0]+": .*"+test.want+".*\n$", p.String())
	}
}

func TestShardedFleetNamesTheVariableThatItNeeds(t *testing.T) {
	t.Parallel()
	p := demotest.StartWith(t, []string{"POD_NAME="}, "sharded-fleet")
	assert.Equal(t, 1, p.Wait(), p)
	assert.Contains(t, p.String(), "environment variable POD_NAME: ")
}

// A kind whose list fails may be installed: without its informer, connect would never see its data planes.
func TestTemplatesEndIfAKindCannotBeListed(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"connect", "list"} {
		for _, broken := range []string{"dataplanes", "clusterdataplanes"} {
			t.Run(program+" without "+broken, func(t *testing.T) {
				t.Parallel()
				server := dataplanetest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if path.Base(r.URL.Path) == broken {
						dataplanetest.Status(http.StatusInternalServerError).ServeHTTP(w, r)
						return
					}
					dataplanetest.NewObjects().ServeHTTP(w, r)
				}))
				t.Cleanup(server.Close)
				config, err := helpers.KubeconfigFor(dataplanetest.DataPlane("default", "management", server.As("alice")))
				require.NoError(t, err)
				file := filepath.Join(t.TempDir(), "kubeconfig")
				require.NoError(t, clientcmd.WriteToFile(*config, file))

				p := demotest.Start(t, program, "--kubeconfig="+file)
				assert.Equal(t, 1, p.Wait(), p)
				assert.Contains(t, p.String(), "an error on the server")
			})
		}
	}
}

// The tests of the demos run each with a surplus argument. None may forget the check.
func TestEveryProgramChecksForSurplusArguments(t *testing.T) {
	t.Parallel()
	programs, err := filepath.Glob("*/main.go")
	require.NoError(t, err)
	require.NotEmpty(t, programs)
	for _, program := range programs {
		data, err := os.ReadFile(program)
		require.NoError(t, err)
		assert.Regexp(t, `\bargs\.Parse\(|\bflag\.NArg\(\) > 0`, string(data), program)
	}
}

// A template works without the lines that name the package demo.
func TestTemplatesCanBeCopied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	mine := strings.NewReplacer("github.com/openchoreo/dataplane-sdk-go/examples", "example.com/mine", "=> ../", "=> "+root+"/")
	copyTo := func(from string, edit func(string) string) {
		data, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(from)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, from), []byte(mine.Replace(edit(string(data)))), 0o600))
	}
	asIs := func(text string) string { return text }
	withoutDemo := func(text string) string {
		return regexp.MustCompile(`(?m)^.*(/internal/demo"|\tdemo\.).*\n`).ReplaceAllString(text, "")
	}
	shared, err := filepath.Glob("internal/args/*.go")
	require.NoError(t, err)
	for _, file := range append(shared, "go.mod", "go.sum") {
		copyTo(file, asIs)
	}
	for _, program := range templates {
		copyTo(program+"/main.go", withoutDemo)
	}
	compile := exec.Command("go", "list", "-export", "./...") // go build would link them, too
	compile.Dir = dir
	output, err := compile.CombinedOutput()
	require.NoError(t, err, string(output))
}
