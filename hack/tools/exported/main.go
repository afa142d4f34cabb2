// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command exported prints the exported API of the module in the current directory, one line for each
// name, field and method, without comments and internal packages.
package main

import (
	"fmt"
	"go/types"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

func main() {
	if err := list(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "exported:", err)
		os.Exit(1)
	}
}

func list(out io.Writer) error {
	loaded, err := packages.Load(&packages.Config{Mode: packages.NeedModule | packages.LoadTypes}, "./...")
	if err != nil {
		return err
	}
	for _, p := range loaded {
		for _, err := range p.Errors {
			return err
		}
		name := strings.TrimPrefix(p.PkgPath, p.Module.Path+"/")
		lines := api(p.Types, p.Module.Path+"/")
		if len(lines) == 0 || slices.Contains(strings.Split(name, "/"), "internal") {
			continue
		}
		fmt.Fprintf(out, "package %s\n\t%s\n", name, strings.Join(lines, "\n\t"))
	}
	return nil
}

// api returns the exported names of p, sorted. It removes prefix from import paths.
func api(p *types.Package, prefix string) (lines []string) {
	qualify := func(other *types.Package) string {
		if other == p {
			return ""
		}
		return strings.TrimPrefix(other.Path(), prefix)
	}
	for _, name := range p.Scope().Names() {
		object := p.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		switch object := object.(type) {
		case *types.Const:
			lines = append(lines, types.ObjectString(object, qualify)+" = "+object.Val().ExactString())
		case *types.TypeName:
			lines = append(lines, typeLines(object, qualify)...)
		default:
			lines = append(lines, types.ObjectString(object, qualify))
		}
	}
	return lines
}

func typeLines(object *types.TypeName, qualify types.Qualifier) []string {
	named, ok := object.Type().(*types.Named)
	if !ok || object.IsAlias() {
		return []string{types.ObjectString(object, qualify)}
	}
	head := "type " + types.TypeString(named, qualify)
	var members []string
	switch underlying := named.Underlying().(type) {
	case *types.Struct:
		head += " struct"
		for field := range underlying.Fields() {
			if field.Exported() {
				kind := "field"
				if field.Embedded() {
					kind = "embedded"
				}
				members = append(members, fmt.Sprintf("%s %s.%s %s", kind, object.Name(), field.Name(), types.TypeString(field.Type(), qualify)))
			}
		}
	case *types.Interface:
		head += " interface"
		for i := range underlying.NumEmbeddeds() {
			members = append(members, fmt.Sprintf("embedded %s.%s", object.Name(), types.TypeString(underlying.EmbeddedType(i), qualify)))
		}
		for method := range underlying.ExplicitMethods() {
			members = append(members, types.ObjectString(method, qualify)) // implementers need unexported ones too
		}
	default:
		head += " " + types.TypeString(underlying, qualify)
	}
	for method := range named.Methods() {
		if method.Exported() {
			members = append(members, types.ObjectString(method, qualify))
		}
	}
	slices.Sort(members)
	return append([]string{head}, members...)
}
