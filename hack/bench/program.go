// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
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

// Programs that read a DataPlane, and send a request to its cluster if it is ready.
var (
	//go:embed testdata/helpers.go.txt
	programHelpers []byte
	//go:embed testdata/helpersfloor.go.txt
	programHelpersFloor []byte
)

// helpersLimit is how large a program of package helpers may be on linux/amd64.
const helpersLimit = 17_000_000

const sdkModule = "github.com/openchoreo/dataplane-sdk-go"

func programRows() []row {
	of := func(source []byte, copyTypes bool, modules ...string) func(context.Context, *input) (measureFunc, error) {
		return func(ctx context.Context, in *input) (measureFunc, error) {
			return newProgram(ctx, in, source, copyTypes, modules)
		}
	}
	list := row{
		name:  "program",
		title: "a program that lists DataPlanes, built again after a change of main.go",
		metrics: []metric{
			{Name: "build", Unit: seconds},
			{Name: "build cpu", Unit: seconds},
			{Name: "binary", Unit: bytesUnit},
			{Name: "modules", Unit: count},
			{Name: "modules built in", Unit: count},
		},
		rounds: [2]int{2, 5},
		subjects: []subject{
			{name: "sdk", how: "clientset", start: of(programSDK, false, "k8s.io/client-go", "k8s.io/apimachinery")},
			{
				name: "controller-runtime", how: "client with a copy of the types",
				start: of(programControllerRuntime, true, "sigs.k8s.io/controller-runtime", "k8s.io/client-go", "k8s.io/apimachinery"),
			},
			{name: "dynamic", how: "client-go's dynamic client", start: of(programDynamic, false, "k8s.io/client-go", "k8s.io/apimachinery")},
		},
	}
	helpers := list
	helpers.name = "program-helpers"
	helpers.title = "a program that asks a data plane for its version, by a plain REST client, if it is ready"
	limited := func(ctx context.Context, in *input) (measureFunc, error) {
		measure, err := newProgram(ctx, in, programHelpers, false, []string{"k8s.io/client-go", "k8s.io/apimachinery"})
		return func(ctx context.Context, drive func() (int, error)) (values, error) {
			v, err := measure(ctx, drive)
			if err == nil && runtime.GOOS+"/"+runtime.GOARCH == "linux/amd64" && v["binary"] > helpersLimit {
				err = fmt.Errorf("the program has %.0f bytes, more than %d", v["binary"], helpersLimit)
			}
			return v, err
		}, err
	}
	helpers.subjects = []subject{
		{name: "sdk", how: "helpers.RESTConfigFor and IsReady", start: limited},
		{
			name: "floor", how: "the fields by hand, unverified", aside: true,
			start: of(programHelpersFloor, false, "k8s.io/client-go", "k8s.io/apimachinery"),
		},
	}
	return []row{list, helpers}
}

// newProgram makes a module that requires the versions that this program is built of.
func newProgram(ctx context.Context, in *input, source []byte, copyTypes bool, modules []string) (measureFunc, error) {
	dir, err := os.MkdirTemp(in.Dir, "program-*")
	if err != nil {
		return nil, err
	}
	command := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
		}
		return out, nil
	}
	builds := 0
	writeMain := func() error {
		builds++
		return os.WriteFile(filepath.Join(dir, "main.go"), fmt.Appendf(source[:len(source):len(source)], "\nconst build = %d\n", builds), 0o644)
	}
	if err := writeMain(); err != nil {
		return nil, err
	}
	if copyTypes {
		if err := copyTypesTo(filepath.Join(dir, "v1alpha1"), in.Root); err != nil {
			return nil, err
		}
	}
	if _, err := command("mod", "init", "example.com/program"); err != nil {
		return nil, err
	}
	edit := []string{"mod", "edit"}
	for module, version := range versions(modules...) {
		edit = append(edit, "-require="+module+"@"+version)
	}
	if !copyTypes && bytes.Contains(source, []byte(sdkModule)) {
		edit = append(edit, "-require="+sdkModule+"@v0.0.0", "-replace="+sdkModule+"="+in.Root)
	}
	for _, args := range [][]string{edit, {"mod", "tidy"}, {"build", "-o", "program"}} {
		if _, err := command(args...); err != nil {
			return nil, err
		}
	}
	return func(context.Context, func() (int, error)) (values, error) {
		if err := writeMain(); err != nil {
			return nil, err
		}
		cpu, started := cpuTime(), time.Now()
		if _, err := command("build", "-o", "program"); err != nil {
			return nil, err
		}
		v := values{"build": time.Since(started).Seconds(), "build cpu": cpuTime() - cpu}
		info, err := os.Stat(filepath.Join(dir, "program"))
		if err != nil {
			return nil, err
		}
		v["binary"] = float64(info.Size())
		all, err := command("list", "-m", "all")
		if err != nil {
			return nil, err
		}
		v["modules"] = float64(bytes.Count(all, []byte("\n")) - 1) // without the program
		built, err := command("version", "-m", "program")
		if err != nil {
			return nil, err
		}
		v["modules built in"] = float64(bytes.Count(built, []byte("\n\tdep\t")))
		return v, nil
	}, nil
}

// copyTypesTo does what a user without the SDK would: it copies the types, and no redaction.
func copyTypesTo(dir, root string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	from := filepath.Join(root, "apis", "openchoreo", "v1alpha1")
	files, err := filepath.Glob(filepath.Join(from, "*.go"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || filepath.Base(file) == "redaction.go" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
