// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package args parses the command lines of the examples. Copy this folder with a template: it uses
// nothing else of the examples.
package args

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Parse parses the arguments of the program. If an argument is wrong or left over, or a check returns
// an error, Parse prints the error in one line and exits with 2.
//
// A surplus argument is an error, because package flag ignores all flags after it: a program would
// ignore its --kubeconfig and work on another cluster.
func Parse(fs *flag.FlagSet, checks ...func() error) {
	name := filepath.Base(fs.Name())
	fs.Init(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	err := fs.Parse(os.Args[1:])
	fs.SetOutput(os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		fs.Usage()
		os.Exit(0)
	}
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	for i := 0; i < len(checks) && err == nil; i++ {
		err = checks[i]()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v; -h lists the flags\n", name, err)
		os.Exit(2)
	}
}
