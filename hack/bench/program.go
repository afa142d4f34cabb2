// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// programs print the names of all DataPlanes.
//
//go:embed testdata
var programs embed.FS

func programRows() []row {
	return []row{{
		name: "program", title: "a program that lists DataPlanes", rounds: 1,
		metrics: []metric{{Name: "binary", Unit: "B"}, {Name: "modules"}, {Name: "modules built in"}},
		subjects: []subject{
			{"sdk", "clientset", build("sdk", sdkModule)},
			{"controller-runtime", "client with a copy of the types", build("controllerruntime", "sigs.k8s.io/controller-runtime")},
			{"dynamic", "client-go's dynamic client", build("dynamic")},
		},
	}}
}

const sdkModule = "github.com/openchoreo/dataplane-sdk-go"

// build measures a program in a module that requires client-go and modules, in the versions of this
// program.
func build(program string, modules ...string) measureFunc {
	return func(ctx context.Context, in *input, _ func() error) (values, error) {
		dir, err := os.MkdirTemp(in.Dir, "program-*")
		if err != nil {
			return nil, err
		}
		source, err := programs.ReadFile("testdata/" + program + ".go.txt")
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
		for _, module := range append(modules, "k8s.io/client-go", "k8s.io/apimachinery") {
			edit = append(edit, "-require="+module+"@"+version(module))
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

// copyTypes copies the types without the redaction, as a user without the SDK would.
func copyTypes(dir, root string) error {
	err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "apis", "openchoreo", "v1alpha1")))
	tests, _ := filepath.Glob(filepath.Join(dir, "*_test.go")) // fails for a bad pattern only
	for _, file := range append(tests, filepath.Join(dir, "redaction.go")) {
		err = errors.Join(err, os.Remove(file))
	}
	return err
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
