// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"embed"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
)

// programs print the names of all DataPlanes.
//
//go:embed testdata
var programs embed.FS

func programRows() []row {
	return []row{{
		Name: "program", Title: "a program that lists DataPlanes", rounds: 1,
		Metrics: []metric{{Name: "binary", Unit: "B"}, {Name: "modules"}, {Name: "modules built in"}},
		Subjects: []subject{
			{Name: "sdk", How: "clientset", measure: build("sdk", sdkModule)},
			{Name: "controller-runtime", How: "client with a copy of the types", measure: build("controllerruntime", "sigs.k8s.io/controller-runtime")},
			{Name: "dynamic", How: "client-go's dynamic client", measure: build("dynamic")},
		},
	}}
}

const sdkModule = "github.com/openchoreo/dataplane-sdk-go"

// buildScript builds main.go, and lists the modules that it requires and those built in. The first argument is the
// SDK's folder, the others are edits of go.mod. Types are copied without the redaction, as a user without the SDK would.
const buildScript = `
if grep -q example.com/program/v1alpha1 main.go; then
  cp -R "$1/apis/openchoreo/v1alpha1" .
  rm v1alpha1/*_test.go v1alpha1/redaction.go
fi
shift
go mod init example.com/program
go mod edit "$@"
go mod tidy
go build -o program
go list -m all
go version -m program`

// build measures a program in a module that requires client-go and modules, in the versions of this
// program.
func build(program string, modules ...string) measureFunc {
	return func(ctx context.Context, in *input) (values, error) {
		dir, err := os.MkdirTemp(in.Dir, "program-*")
		if err != nil {
			return nil, err
		}
		source, err := programs.ReadFile("testdata/" + program + ".go.txt")
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "main.go"), source, 0o600); err != nil {
			return nil, err
		}
		args := []string{"-ec", buildScript, "sh", in.Root, "-replace=" + sdkModule + "=" + in.Root}
		for _, module := range append(modules, "k8s.io/client-go", "k8s.io/apimachinery") {
			args = append(args, "-require="+module+"@"+version(module))
		}
		cmd := exec.CommandContext(ctx, "sh", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		out, err := output(cmd)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(filepath.Join(dir, "program"))
		if err != nil {
			return nil, err
		}
		list, built, _ := bytes.Cut(out, []byte("program: "))
		return values{
			"binary":           float64(info.Size()),
			"modules":          float64(bytes.Count(list, []byte("\n")) - 1), // without the program
			"modules built in": float64(bytes.Count(built, []byte("\n\tdep\t"))),
		}, nil
	}
}

// version returns the version of a module in this program's build.
func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dep := range info.Deps {
		if dep.Path == module {
			return dep.Version
		}
	}
	return ""
}
