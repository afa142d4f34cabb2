// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the SDK and its alternatives: controller-runtime, client-go only, kubectl,
// and hand-written code. Some rows have a floor, the least code that does the work. Start it with
// hack/bench.sh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == childCommand {
		err = runChild(ctx)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

type config struct {
	quick, list, docs bool
	rows              regexp.Regexp
	objects           int
	from, root        string
}

func parse(args []string, stderr io.Writer) (*config, error) {
	c := &config{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&c.quick, "quick", false, "2 rounds of each row; 1 round of slow rows, which run only if --rows names them")
	flags.BoolVar(&c.list, "list", false, "list the rows and their subjects, and end")
	flags.BoolVar(&c.docs, "docs", false, "write hack/bench/results.json, docs/bench.svg and the tables of docs/benchmarks.md")
	flags.TextVar(&c.rows, "rows", regexp.MustCompile(""), "run the rows whose names match the `regexp`")
	flags.IntVar(&c.objects, "objects", 10_000, "the number of DataPlanes in the row informer")
	flags.StringVar(&c.from, "from", "", "measure nothing, and read the results from a `file` that --docs has written")
	flags.StringVar(&c.root, "root", filepath.Join("..", ".."), "`folder` of the SDK")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if c.docs && (c.quick || c.rows.String() != "") {
		return nil, errors.New("--docs takes all rows and all rounds")
	}
	var err error
	c.root, err = filepath.Abs(c.root)
	return c, err
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	// --quick leaves out slow rows, unless --rows names them.
	selected := slices.DeleteFunc(rows(c.objects), func(r row) bool {
		return !c.rows.MatchString(r.Name) || c.quick && r.slow && c.rows.String() == ""
	})
	if len(selected) == 0 {
		return errors.New("no row matches --rows; --list lists them")
	}
	if c.list {
		for _, r := range selected {
			fmt.Fprintf(stdout, "%s: %s\n", r.Name, r.Title)
			for _, s := range r.Subjects {
				fmt.Fprintf(stdout, "  %-20s %s\n", s.Name, s.How)
			}
		}
		return nil
	}
	r, err := measure(ctx, c, selected, stderr)
	if r == nil {
		return err
	}
	if c.docs && err == nil {
		var docs map[string]string
		docs, err = r.docs(c.root)
		for file, content := range docs {
			err = errors.Join(err, os.WriteFile(file, []byte(content), 0o644))
		}
	}
	_, printErr := io.WriteString(stdout, r.tables())
	return errors.Join(err, printErr)
}

// measure returns the results of rows, or of the file that --from names. On error, it still returns the
// measured rows; the error names the rows that failed.
func measure(ctx context.Context, c *config, selected []row, progress io.Writer) (*results, error) {
	if c.from != "" {
		return readResults(c.from)
	}
	r := &results{Environment: newEnvironment()}
	if busy := r.Environment.busy(); busy != nil {
		if c.docs {
			return r, busy
		}
		fmt.Fprintln(progress, "warning:", busy)
	}
	dir, err := os.MkdirTemp("", "bench-*")
	if err != nil {
		return r, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f := &fixture{input: input{Quick: c.quick, Root: c.root, Dir: dir}}
	var errs []error
	for i := range selected {
		row := &selected[i]
		fmt.Fprintf(progress, "%2d/%d %-18s", i+1, len(selected), row.Name)
		if err := row.run(ctx, f, progress); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", row.Name, err))
		} else {
			r.Rows = append(r.Rows, row)
		}
		fmt.Fprintln(progress)
	}
	r.Environment.Kubernetes = f.version
	if f.plane != nil {
		errs = append(errs, f.plane.Stop())
	}
	return r, errors.Join(errs...)
}
