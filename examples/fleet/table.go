// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/openchoreo/dataplane-sdk-go/helpers/fleet"
)

// statusTable returns a table with a line for each data plane. Ages are relative to now.
func statusTable(status fleet.Status, now time.Time) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tNAME\tSTATE\tRUNNING\tRESTARTS\tRETRY IN\tLAST ERROR")
	for i := range status.Planes {
		p := &status.Planes[i]
		running, retry, lastError := "-", "-", "-"
		if !p.RunningSince.IsZero() {
			running = duration.HumanDuration(max(now.Sub(p.RunningSince), 0))
		}
		if !p.NextRetry.IsZero() {
			retry = duration.HumanDuration(max(p.NextRetry.Sub(now), 0))
		}
		if p.LastError != "" {
			lastError = fmt.Sprintf("%s (%s ago)", strings.Join(strings.Fields(p.LastError), " "),
				duration.HumanDuration(max(now.Sub(p.LastErrorTime), 0)))
		}
		state := string(p.State)
		if p.Overdue > 0 {
			state += " (" + strconv.Itoa(p.Overdue) + " overdue)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", cmp.Or(p.Namespace, "-"), p.Name, state, running, p.Restarts, retry, lastError)
	}
	_ = w.Flush() // a Builder returns no error
	return out.String()
}
