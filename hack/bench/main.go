// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the SDK beside what its users would take otherwise:
// controller-runtime with types of their own, client-go's dynamic client, kubectl, and
// code written by hand; and beside a floor, which is the least that the work takes. All that it
// compares, it measures in the same run. Start it by hack/bench.sh.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == childCommand {
		exit(runChild(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	exit(err)
}

func exit(err error) {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}

type config struct {
	quick, list            bool
	rows                   *regexp.Regexp
	from, json, svg, scale string
	page                   string
	profile                string
	root                   string
}

func (c *config) selects(r *row) bool {
	other := quickRun
	if c.quick {
		other = fullRun
	}
	return c.rows.MatchString(r.name) && r.scope != other
}

func parse(args []string, stderr io.Writer) (*config, error) {
	c := &config{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&c.quick, "quick", false, "fewer rounds, and 3,000 DataPlanes at most: under five minutes on two idle cores")
	flags.BoolVar(&c.list, "list", false, "show the rows and what they compare, and end")
	pattern := flags.String("rows", "", "run the rows whose names match the `regexp`")
	flags.StringVar(&c.from, "from", "", "measure nothing, and take the results from a `file` that --json has written")
	flags.StringVar(&c.json, "json", "", "write the results to a `file`")
	flags.StringVar(&c.svg, "svg", "", "draw the chart to a `file`")
	flags.StringVar(&c.scale, "scale", "", "write the page that extends the results to 100,000 DataPlanes to a `file`")
	flags.StringVar(&c.page, "page", "", "write where others are ahead of the SDK into a `file`, between its marks")
	flags.StringVar(&c.profile, "profile", "", "write CPU and heap profiles of each subject to a `folder`; they cost time themselves")
	flags.StringVar(&c.root, "root", filepath.Join("..", ".."), "`folder` of the SDK")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	var err error
	if c.rows, err = regexp.Compile(*pattern); err != nil {
		return nil, fmt.Errorf("--rows: %w", err)
	}
	if c.profile != "" {
		if c.profile, err = filepath.Abs(c.profile); err != nil {
			return nil, err
		}
	}
	c.root, err = filepath.Abs(c.root)
	return c, err
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if c.list {
		return printRows(stdout, c)
	}
	var results *results
	var failed error
	if c.from != "" {
		if results, err = readResults(c.from); err != nil {
			return err
		}
	} else if results, failed = measureRows(ctx, c, stderr); len(results.Rows) == 0 {
		return failed
	}
	return errors.Join(failed, c.write(results), printTable(stdout, results))
}

// measureRows returns the results of the rows that were measured, also with an error,
// which tells of all the others.
func measureRows(ctx context.Context, c *config, progress io.Writer) (*results, error) {
	results := &results{Environment: newEnvironment(c.quick)}
	var selected []row
	for _, r := range rows() {
		if c.selects(&r) {
			selected = append(selected, r)
		}
	}
	if len(selected) == 0 {
		return results, errors.New("no row has such a name; --list shows them")
	}
	if e := &results.Environment; e.busy() {
		err := fmt.Errorf("the machine is busy, with a load of %.1f on %d cores: figures show little", e.LoadBefore, e.Cores)
		if c.page != "" { // its test would not take them
			return results, err
		}
		fmt.Fprintln(progress, "warning:", err)
	}
	dir, err := os.MkdirTemp("", "bench-*")
	if err != nil {
		return results, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f := &fixture{quick: c.quick, root: c.root, profile: c.profile, dir: dir}
	started := time.Now()
	var errs []error
	for i := range selected {
		fmt.Fprintf(progress, "%2d/%d ", i+1, len(selected))
		result, err := selected[i].run(ctx, f, progress)
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		results.Rows = append(results.Rows, result)
	}
	results.Environment.Kubernetes = f.version
	errs = append(errs, f.stop())
	results.Growth = fitGrowth(results.Rows)
	results.Environment.Took = time.Since(started).Seconds()
	results.Environment.LoadAfter = load()
	return results, errors.Join(errs...)
}

func (c *config) write(r *results) error {
	if c.json != "" {
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.json, append(data, '\n'), 0o644); err != nil {
			return err
		}
	}
	if c.svg != "" {
		if err := drawChart(c.svg, r); err != nil {
			return fmt.Errorf("chart: %w", err)
		}
	}
	if c.scale != "" {
		if err := writeScale(c.scale, r); err != nil {
			return fmt.Errorf("scale: %w", err)
		}
	}
	if c.page != "" {
		if err := updatePage(c.page, r); err != nil {
			return fmt.Errorf("page: %w", err)
		}
	}
	return nil
}

func readResults(file string) (*results, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r results
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &r, nil
}

func printRows(w io.Writer, c *config) error {
	for _, r := range rows() {
		if !c.selects(&r) {
			continue
		}
		fmt.Fprintf(w, "%s: %s\n", r.name, r.title)
		for _, s := range r.subjects {
			fmt.Fprintf(w, "  %-28s %s\n", s.name, s.how)
		}
	}
	return nil
}
