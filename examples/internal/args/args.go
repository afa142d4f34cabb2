// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Package args parses the command lines of the examples. It uses nothing else of the examples, so
// whoever copies a template copies this folder too.
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
// A surplus argument must not pass: package flag ignores all flags behind it, so that a program
// would work on another cluster than its --kubeconfig says.
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
