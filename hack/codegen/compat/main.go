// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command compat changes freshly generated code so that one release of it builds
// and works with client-go 0.33 to 0.37. Its argument is the root of the module.
//
// Code of code-generator 0.33 dies with client-go 0.34: it hands
// structured-merge-diff/v4 types to functions of client-go and apimachinery that
// take v6 types by then. From 0.35 on, informers also wait forever for a fake
// clientset that does not say that it can't stream lists. So that nothing
// generated hands a structured-merge-diff type to anyone:
//
//   - Extract uses an ExtractInto of our own;
//   - the schema moves to a package without other imports, for helpers/fieldset;
//   - the type converter of the fake clientset is made from an OpenAPI document,
//     by apimachinery, with whatever structured-merge-diff that brings;
//   - the fake clientset and the informers say whether they can stream lists;
//   - apply configurations have the methods that later generators write, which
//     controller-runtime's client.Apply asks for;
//   - the informer factory has the methods with a context that generators write from
//     0.36 on.
//
// It also writes the package comments, of which the generators write few.
//
// An edit whose anchor is not found exactly once is an error, so that a new
// generator can't silently undo one.
package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// An edit replaces the one place in file where old stands.
type edit struct{ file, old, new string }

var edits = []edit{
	// Extract.
	{
		"applyconfigurations/openchoreo/v1alpha1/dataplane.go",
		"\tmanagedfields \"k8s.io/apimachinery/pkg/util/managedfields\"\n",
		"\tschema \"github.com/openchoreo/dataplane-sdk-go/internal/schema\"\n",
	},
	{
		"applyconfigurations/openchoreo/v1alpha1/dataplane.go",
		"managedfields.ExtractInto(",
		"internal.ExtractInto(",
	},
	{
		"applyconfigurations/openchoreo/v1alpha1/dataplane.go",
		`internal.Parser().Type("com.github.openchoreo.dataplane-sdk-go.apis.openchoreo.v1alpha1.DataPlane")`,
		"schema.DataPlane()",
	},
	{"internal/schema/schema.go", "\npackage internal\n", "\npackage schema\n"},
	// The methods of runtime.ApplyConfiguration, and the getters beside GetName.
	{
		"applyconfigurations/openchoreo/v1alpha1/dataplane.go",
		"\n// WithKind sets",
		`
// IsApplyConfiguration marks the type as an apply configuration, as
// runtime.ApplyConfiguration of k8s.io/apimachinery 0.34 and later asks.
func (b DataPlaneApplyConfiguration) IsApplyConfiguration() {}

// WithKind sets`,
	},
	{
		"applyconfigurations/openchoreo/v1alpha1/dataplane.go",
		"\n// GetName retrieves",
		`
// GetKind retrieves the value of the Kind field in the declarative configuration.
func (b *DataPlaneApplyConfiguration) GetKind() *string {
	return b.TypeMetaApplyConfiguration.Kind
}

// GetAPIVersion retrieves the value of the APIVersion field in the declarative configuration.
func (b *DataPlaneApplyConfiguration) GetAPIVersion() *string {
	return b.TypeMetaApplyConfiguration.APIVersion
}

// GetNamespace retrieves the value of the Namespace field in the declarative configuration.
func (b *DataPlaneApplyConfiguration) GetNamespace() *string {
	b.ensureObjectMetaApplyConfigurationExists()
	return b.ObjectMetaApplyConfiguration.Namespace
}

// GetName retrieves`,
	},
	// The type converter of the fake clientset.
	{
		"applyconfigurations/utils.go",
		"\ttesting \"k8s.io/client-go/testing\"\n",
		"\tmanagedfields \"k8s.io/apimachinery/pkg/util/managedfields\"\n",
	},
	{
		"applyconfigurations/utils.go",
		`func NewTypeConverter(scheme *runtime.Scheme) *testing.TypeConverter {
	return &testing.TypeConverter{Scheme: scheme, TypeResolver: internal.Parser()}
}
`,
		`// NewTypeConverter returns a converter that knows the schema of the types of this
// module, for a field managed object tracker of client-go. The scheme is not used.
func NewTypeConverter(_ *runtime.Scheme) managedfields.TypeConverter {
	return internal.TypeConverter()
}
`,
	},
	// Streaming lists.
	{
		"clientset/versioned/fake/clientset_generated.go",
		"\nvar (\n\t_ clientset.Interface = &Clientset{}\n",
		`
// IsWatchListSemanticsUnSupported tells reflectors of client-go 0.35 and later to
// list and then watch, since the object tracker can't stream a list.
func (c *Clientset) IsWatchListSemanticsUnSupported() bool {
	return true
}

var (
	_ clientset.Interface = &Clientset{}
`,
	},
	{
		"informers/externalversions/openchoreo/v1alpha1/dataplane.go",
		"\t\t&cache.ListWatch{\n",
		"\t\tinternalinterfaces.ListWatchFor(client, &cache.ListWatch{\n",
	},
	{
		"informers/externalversions/openchoreo/v1alpha1/dataplane.go",
		"\t\t},\n\t\t&apisopenchoreov1alpha1.DataPlane{},\n",
		"\t\t}),\n\t\t&apisopenchoreov1alpha1.DataPlane{},\n",
	},
	// Package comments; the files below have those that the generators leave out.
	{
		"clientset/versioned/fake/doc.go",
		"// This package has the automatically generated fake clientset.\n",
		`// Package fake has a clientset for tests. It stores objects as they are written:
// helpers/dataplanetest has one that sets generations, separates spec from status, and
// conflicts, as an API server does.
`,
	},
	{
		"clientset/versioned/scheme/doc.go",
		"// This package contains the scheme of the automatically generated clientset.\n",
		"// Package scheme has the scheme of the clientset, which knows DataPlanes.\n",
	},
	{
		"clientset/versioned/typed/openchoreo/v1alpha1/doc.go",
		"// This package has the automatically generated typed clients.\n",
		"// Package v1alpha1 has the typed client for DataPlanes, which a clientset contains.\n",
	},
	{
		"clientset/versioned/typed/openchoreo/v1alpha1/fake/doc.go",
		"// Package fake has the automatically generated clients.\n",
		"// Package fake has the typed client of a fake clientset.\n",
	},
	// StartWithContext and WaitForCacheSyncWithContext. SyncResult stands for
	// cache.SyncResult, which client-go has from 0.36 on.
	{factory, "\treflect \"reflect\"\n", "\tcontext \"context\"\n\treflect \"reflect\"\n"},
	{
		factory,
		"\tcache \"k8s.io/client-go/tools/cache\"\n",
		"\twait \"k8s.io/apimachinery/pkg/util/wait\"\n\tcache \"k8s.io/client-go/tools/cache\"\n",
	},
	{
		factory,
		"func (f *sharedInformerFactory) Start(stopCh <-chan struct{}) {\n",
		`func (f *sharedInformerFactory) Start(stopCh <-chan struct{}) {
	f.StartWithContext(wait.ContextForChannel(stopCh))
}

func (f *sharedInformerFactory) StartWithContext(ctx context.Context) {
`,
	},
	{factory, "informer.Run(stopCh)", "informer.RunWithContext(ctx)"},
	{
		factory,
		"func (f *sharedInformerFactory) WaitForCacheSync(stopCh <-chan struct{}) map[reflect.Type]bool {\n",
		`func (f *sharedInformerFactory) WaitForCacheSync(stopCh <-chan struct{}) map[reflect.Type]bool {
	return f.WaitForCacheSyncWithContext(wait.ContextForChannel(stopCh)).Synced
}

func (f *sharedInformerFactory) WaitForCacheSyncWithContext(ctx context.Context) SyncResult {
`,
	},
	{
		factory,
		`	res := map[reflect.Type]bool{}
	for informType, informer := range informers {
		res[informType] = cache.WaitForCacheSync(stopCh, informer.HasSynced)
	}
`,
		`	res := SyncResult{Synced: map[reflect.Type]bool{}}
	for informType, informer := range informers {
		synced := cache.WaitForCacheSync(ctx.Done(), informer.HasSynced)
		if !synced {
			res.Err = context.Cause(ctx)
		}
		res.Synced[informType] = synced
	}
`,
	},
	{
		factory,
		"\tStart(stopCh <-chan struct{})\n",
		`	Start(stopCh <-chan struct{})

	// StartWithContext is Start with a context: the informers run until it ends, and log
	// with its logger.
	StartWithContext(ctx context.Context)
`,
	},
	{
		factory,
		"\tWaitForCacheSync(stopCh <-chan struct{}) map[reflect.Type]bool\n",
		`	WaitForCacheSync(stopCh <-chan struct{}) map[reflect.Type]bool

	// WaitForCacheSyncWithContext blocks until all started informers' caches were synced
	// or the context ends. Its result tells which were synced, also as an error.
	WaitForCacheSyncWithContext(ctx context.Context) SyncResult
`,
	},
	{factory, "ctx, cancel := context.Background()", "ctx, cancel := context.WithCancel(context.Background())"},
	{factory, "defer factory.WaitForStop() ", "defer factory.Shutdown() "},
	{
		factory,
		`//	factory.Start(ctx.Done())          // Start processing these informers.
//	synced := factory.WaitForCacheSync(ctx.Done())
//	for v, ok := range synced {
//	    if !ok {
//	        fmt.Fprintf(os.Stderr, "caches failed to sync: %v", v)
//	        return
//	    }
//	}
`,
		`//	factory.StartWithContext(ctx)  // Start processing these informers.
//	if err := factory.WaitForCacheSyncWithContext(ctx).AsError(); err != nil {
//	    return err
//	}
`,
	},
	{
		factory,
		`	anotherGenericInformer := factory.ForResource(resource)
//	factory.Start(ctx.Done())
`,
		`	anotherGenericInformer := factory.ForResource(resource)
//	factory.StartWithContext(ctx)
`,
	},
}

const factory = "informers/externalversions/factory.go"

// moves are generated files that belong elsewhere, with their new paths. They move first.
var moves = map[string]string{
	"applyconfigurations/internal/internal.go": "internal/schema/schema.go",
}

// Files that go beside the generated ones, at the same path below the root and
// without the suffix, which keeps them from being compiled here.
//
//go:embed files
var files embed.FS

const suffix = ".txt"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: compat MODULE-ROOT")
		os.Exit(2)
	}
	root := os.Args[1]
	if err := errors.Join(moveFiles(root), applyEdits(root), copyFiles(root)); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

func moveFiles(root string) error {
	for from, to := range moves {
		target := filepath.Join(root, filepath.FromSlash(to))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(root, filepath.FromSlash(from)), target); err != nil {
			return err
		}
	}
	return nil
}

func applyEdits(root string) error {
	for _, e := range edits {
		path := filepath.Join(root, filepath.FromSlash(e.file))
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := bytes.Count(source, []byte(e.old)); n != 1 {
			return fmt.Errorf("%s: %d places, want one, with the text %q: has the generator changed?", e.file, n, e.old)
		}
		source = bytes.Replace(source, []byte(e.old), []byte(e.new), 1)
		if err := os.WriteFile(path, source, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func copyFiles(root string) error {
	sources, err := fs.Sub(files, "files")
	if err != nil {
		return err
	}
	return fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		source, err := fs.ReadFile(sources, path)
		if err != nil {
			return err
		}
		target := filepath.Join(root, filepath.FromSlash(strings.TrimSuffix(path, suffix)))
		if _, err := os.Stat(target); err == nil {
			return fmt.Errorf("%s is generated now: is our file still needed?", target)
		}
		return os.WriteFile(target, source, 0o644)
	})
}
