// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
)

// environment is all that figures depend on, besides the code.
type environment struct {
	Quick      bool              `json:"quick"`
	Go         string            `json:"go"`
	OS         string            `json:"os"`
	Arch       string            `json:"arch"`
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	Kubernetes string            `json:"kubernetes,omitempty"` // the API server, where there was one
	Modules    map[string]string `json:"modules"`
	// LoadBefore and LoadAfter are how many tasks have run or waited on average in the
	// last minute; below 0 where the system does not tell.
	LoadBefore float64 `json:"loadBefore"`
	LoadAfter  float64 `json:"loadAfter"`
	Took       float64 `json:"tookSeconds"`
}

// compared are the modules whose versions matter.
var compared = []string{
	"k8s.io/client-go",
	"k8s.io/apimachinery",
	"sigs.k8s.io/controller-runtime",
}

func newEnvironment(quick bool) environment {
	return environment{
		Quick: quick, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: cpuModel(), Cores: runtime.GOMAXPROCS(0),
		Modules: versions(compared...), LoadBefore: load(),
	}
}

// busy reports that others use the machine.
func (e *environment) busy() bool { return e.LoadBefore > float64(e.Cores)/2 }

// versions are those that this program is built of.
func versions(modules ...string) map[string]string {
	found := map[string]string{}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return found
	}
	for _, dep := range info.Deps {
		for _, module := range modules {
			if dep.Path == module {
				found[module] = dep.Version
			}
		}
	}
	return found
}

func cpuModel() string {
	if file, err := os.Open("/proc/cpuinfo"); err == nil {
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	if out, err := exec.Command("sysctl", "-n", "machdep.cpu.brand_string").Output(); err == nil {
		return strings.TrimSpace(string(out))
	}
	return "unknown"
}

func load() float64 {
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		var load float64
		if _, err := fmt.Sscan(string(data), &load); err == nil {
			return load
		}
	}
	return -1
}
