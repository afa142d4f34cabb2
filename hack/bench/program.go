// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// Programs that print the names of all DataPlanes.
var (
	//go:embed testdata/sdk.go.txt
	programSDK []byte
	//go:embed testdata/controllerruntime.go.txt
	programControllerRuntime []byte
	//go:embed testdata/dynamic.go.txt
	programDynamic []byte
)

func programRows() []row {
	return []row{{
		name: "program", title: "a program that lists DataPlanes", rounds: 1,
		metrics: []metric{{Name: "binary", Unit: "B"}, {Name: "modules"}, {Name: "modules built in"}},
		subjects: []subject{
			{"sdk", "clientset", build(programSDK, sdkModule)},
			{"controller-runtime", "client with a copy of the types", build(programControllerRuntime, "sigs.k8s.io/controller-runtime")},
			{"dynamic", "client-go's dynamic client", build(programDynamic)},
		},
	}}
}

const sdkModule = "github.com/openchoreo/dataplane-sdk-go"

// build makes a module of source that requires client-go and the modules as this program is built of them.
func build(source []byte, modules ...string) measureFunc {
	return func(ctx context.Context, in *input, _ func() error) (values, error) {
		dir, err := os.MkdirTemp(in.Dir, "program-*")
		if err != nil {
			return nil, err
		}
		err = os.WriteFile(filepath.Join(dir, "main.go"), source, 0o600)
		if bytes.Contains(source, []byte("example.com/program/v1alpha1")) {
			err = errors.Join(err, copyTypes(filepath.Join(dir, "v1alpha1"), in.Root))
		}
		if err != nil {
			return nil, err
		}
		edit := []string{"mod", "edit", "-replace=" + sdkModule + "=" + in.Root}
		for module, version := range versions(append(modules, "k8s.io/client-go", "k8s.io/apimachinery")...) {
			edit = append(edit, "-require="+module+"@"+version)
		}
		var out []byte
		for _, args := range [][]string{{"mod", "init", "example.com/program"}, edit, {"mod", "tidy"}, {"build", "-o", "program"}, {"list", "-m", "all"}, {"version", "-m", "program"}} {
			cmd := exec.CommandContext(ctx, "go", args...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			answer, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
			}
			out = append(out, answer...)
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

// copyTypes does what a user without the SDK would: it copies the types, and no redaction.
func copyTypes(dir, root string) error {
	files, err := filepath.Glob(filepath.Join(root, "apis", "openchoreo", "v1alpha1", "*.go"))
	err = errors.Join(err, os.Mkdir(dir, 0o700))
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || filepath.Base(file) == "redaction.go" {
			continue
		}
		data, readErr := os.ReadFile(file)
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(dir, filepath.Base(file)), data, 0o600))
	}
	return err
}

// versions returns those that this program is built of.
func versions(modules ...string) map[string]string {
	found := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			for _, module := range modules {
				if dep.Path == module {
					found[module] = dep.Version
				}
			}
		}
	}
	return found
}
