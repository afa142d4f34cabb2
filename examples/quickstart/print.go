// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/openchoreo/dataplane-sdk-go/helpers"
)

func line(format string, args ...any) { fmt.Printf("      "+format+"\n", args...) }

// table prints a line for each condition type.
func table(report helpers.Report) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONDITION\tVERDICT\tCODE\tREPORTED\tOBSERVED\tREASON\tMESSAGE")
	for _, v := range report.Verdicts() {
		observed := "-"
		if v.ObservedGeneration > 0 {
			observed = fmt.Sprintf("%d of %d", v.ObservedGeneration, report.Generation)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%q\n", v.Type, v.Status, v.Code,
			cmp.Or(string(v.Reported), "-"), observed, cmp.Or(v.Reason, "-"), v.Message)
	}
	_ = w.Flush() // a Builder returns no error
	for row := range strings.Lines(text.String()) {
		line("%s", strings.TrimSpace(row))
	}
}
