// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package repository_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/openchoreo/dataplane-sdk-go/"

// mayImport lists the packages of this module that each hand-written package may import.
// Generated packages may import one another and the packages below apis and internal.
var mayImport = map[string][]string{
	"apis/openchoreo/crds":     {},
	"apis/openchoreo/v1alpha1": {"internal/redact"},
	"internal/dataplane":       {},
	"internal/redact":          {},
	"internal/schema":          {},

	"helpers":          {"apis/openchoreo/v1alpha1", "helpers/internal/gateway", "helpers/internal/serverurl", "internal/dataplane", "internal/redact"},
	"helpers/await":    {"apis/openchoreo/v1alpha1", "helpers", "internal/dataplane"},
	"helpers/fieldset": {"apis/openchoreo/v1alpha1", "internal/dataplane", "internal/schema"},
	"helpers/fleet":    {"apis/openchoreo/v1alpha1", "helpers", "helpers/fleet/internal/shards", "helpers/remote", "internal/dataplane"},
	"helpers/informer": {"apis/openchoreo/v1alpha1", "helpers", "internal/redact"},
	"helpers/observer": {"apis/openchoreo/v1alpha1", "helpers", "helpers/internal/serverurl", "internal/dataplane"},
	"helpers/registry": {"apis/openchoreo/v1alpha1", "internal/dataplane"},
	"helpers/remote":   {"apis/openchoreo/v1alpha1", "helpers", "helpers/internal/gateway", "helpers/internal/neterr", "helpers/internal/requestinfo", "helpers/internal/serverurl", "internal/dataplane", "internal/redact", "listers/openchoreo/v1alpha1"},

	"helpers/fleet/internal/shards": {},

	"helpers/internal/gateway":     {"helpers/internal/neterr", "helpers/internal/requestinfo"},
	"helpers/internal/neterr":      {},
	"helpers/internal/requestinfo": {},
	"helpers/internal/serverurl":   {},

	// For tests only, so no other package may import them.
	"helpers/dataplanetest": {
		"apis/openchoreo/v1alpha1", "applyconfigurations", "clientset/versioned", "clientset/versioned/scheme",
		"clientset/versioned/typed/openchoreo/v1alpha1", "clientset/versioned/typed/openchoreo/v1alpha1/fake",
		"helpers", "internal/dataplane", "internal/pki", "internal/schema",
	},
	"helpers/fleet/internal/testleases": {},
	"helpers/internal/fuzz":             {}, // has test files only
	"internal/pki":                      {},
	"internal/repository":               {}, // has test files only
	"helpers/internal/testserver":       {"apis/openchoreo/v1alpha1", "helpers/dataplanetest"},
	"internal/behaviours": {
		"apis/openchoreo/v1alpha1", "applyconfigurations/openchoreo/v1alpha1", "clientset/versioned",
		"clientset/versioned/typed/openchoreo/v1alpha1", "informers/externalversions",
		"informers/externalversions/openchoreo/v1alpha1",
	},
}

var generated = []string{"applyconfigurations", "clientset", "informers", "listers"}

// heavy are the packages that make up most of a program that uses client-go.
var heavy = []string{
	"k8s.io/api",
	"k8s.io/client-go/applyconfigurations",
	"k8s.io/client-go/kubernetes",
	"k8s.io/client-go/tools/cache",
	"k8s.io/client-go/tools/leaderelection",
	module + "applyconfigurations",
	module + "clientset",
}

// dependencies limits the direct and indirect dependencies of packages.
var dependencies = map[string]struct {
	only  []string // modules, with their own dependencies, beside this one and the standard library
	never []string
}{
	"apis/openchoreo/crds":     {only: []string{}},
	"apis/openchoreo/v1alpha1": {only: []string{"k8s.io/apimachinery"}},
	"internal/schema":          {only: []string{"sigs.k8s.io/structured-merge-diff/v4"}},
	"helpers/fieldset":         {only: []string{"k8s.io/apimachinery", "sigs.k8s.io/structured-merge-diff/v4"}},
	"helpers/dataplanetest":    {never: []string{"github.com/stretchr/testify"}}, // users choose their own
	"helpers":                  {never: heavy},
	"helpers/await":            {never: heavy},
}

func TestImports(t *testing.T) {
	inRoot(t)
	packages := listPackages(t)

	t.Run("point one way", func(t *testing.T) {
		for path, p := range packages {
			name, own := strings.CutPrefix(path, module)
			if !own {
				continue
			}
			allowed, handwritten := mayImport[name]
			if !handwritten && !under(name, generated) {
				t.Errorf("%s has no rule in mayImport", name)
				continue
			}
			for _, path := range p.Imports {
				imported, own := strings.CutPrefix(path, module)
				if !own || slices.Contains(allowed, imported) {
					continue
				}
				if handwritten || !under(imported, append([]string{"apis", "internal"}, generated...)) {
					t.Errorf("%s imports %s", name, imported)
				}
			}
		}
		for name := range mayImport {
			assert.Contains(t, packages, module+name, "mayImport has a rule for a package that doesn't exist")
		}
	})

	for name, limits := range dependencies {
		t.Run("of "+name+" are few", func(t *testing.T) {
			require.Contains(t, packages, module+name)
			packages.walk(module+name, func(path string, chain []string) (goOn bool) {
				own := strings.HasPrefix(path, module)
				switch {
				case limits.only != nil && !own && !under(path, limits.only), under(path, limits.never):
					t.Error("must not depend on the last of:", strings.Join(chain, " → "))
					return false
				default:
					return limits.only == nil || own
				}
			})
		})
	}
}

// Everybody who imports this module gets its requirements.
func TestGoModRequiresLittle(t *testing.T) {
	inRoot(t)
	readFile(t, "go.mod") // go test learns in this way that the result depends on it
	var mod struct {
		Go, Toolchain string
		Require       []struct {
			Path, Version string
			Indirect      bool
		}
		Exclude, Ignore, Replace, Tool []any
	}
	require.NoError(t, json.Unmarshal(runGo(t, "mod", "edit", "-json"), &mod))
	var direct []string
	for _, required := range mod.Require {
		if !required.Indirect {
			direct = append(direct, required.Path)
		}
		switch required.Path {
		case "k8s.io/api", "k8s.io/apimachinery", "k8s.io/client-go":
			assert.Equal(t, "v0.33.13", required.Version, required.Path)
		}
	}
	assert.Equal(t, "1.24.0", mod.Go)
	assert.Empty(t, mod.Toolchain)
	assert.Empty(t, slices.Concat(mod.Exclude, mod.Ignore, mod.Replace, mod.Tool), "users get none of these, or don't need them")
	assert.ElementsMatch(t, []string{
		"github.com/distribution/reference", // of helpers/registry
		"github.com/stretchr/testify",       // of tests
		"k8s.io/api",                        // of helpers/fleet and helpers/registry
		"k8s.io/apimachinery",
		"k8s.io/client-go",
		"k8s.io/kube-openapi",                  // of the generated applyconfigurations/internal
		"sigs.k8s.io/structured-merge-diff/v4", // of the generated schema
	}, direct)
}

type packageGraph map[string]goPackage

type goPackage struct {
	ImportPath, Dir string
	Standard        bool
	Imports         []string
}

// listPackages returns the packages of this module and all their dependencies, except
// dependencies of tests only.
func listPackages(t *testing.T) packageGraph {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(
		runGo(t, "list", "-mod=readonly", "-deps", "-json=ImportPath,Dir,Standard,Imports", "./...")))
	packages := packageGraph{}
	for {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages[p.ImportPath] = p
		if strings.HasPrefix(p.ImportPath, module) {
			_, err := os.ReadDir(p.Dir) // go test learns in this way that the result depends on it
			require.NoError(t, err)
		}
	}
}

// walk calls visit once for each dependency outside the standard library, with the chain of
// imports that leads to it. If visit returns true, walk follows the dependency's imports.
func (g packageGraph) walk(from string, visit func(path string, chain []string) (goOn bool)) {
	seen := map[string]bool{from: true}
	for queue := [][]string{{from}}; len(queue) > 0; queue = queue[1:] {
		chain := queue[0]
		for _, path := range g[chain[len(chain)-1]].Imports {
			if seen[path] || g[path].Standard {
				continue
			}
			seen[path] = true
			if next := append(slices.Clone(chain), path); visit(path, next) {
				queue = append(queue, next)
			}
		}
	}
}

// under reports whether path is one of the roots or below one.
func under(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}
