#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Measures the SDK and its alternatives, in one run, on a real API server. It prints a table for each
# row in Markdown; progress goes to stderr:
#
#   ./hack/bench.sh --quick                  two rounds; slow rows only if --rows names them, with one round
#   ./hack/bench.sh                          all rows
#   ./hack/bench.sh --rows 'status|wait'     the rows that match
#   ./hack/bench.sh --list                   lists the rows, and the subjects of each
#   ./hack/bench.sh --docs                   all rows, and writes hack/bench/results.json,
#                                            docs/bench.svg and the tables of docs/benchmarks.md
#
# --objects N sets the number of DataPlanes in the row informer. --from FILE measures nothing and
# reads the results from a results.json.
#
# Needs Go and an idle machine; --docs refuses a busy one.

set -o errexit -o nounset -o pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

case ${1-} in
  -h | --help)
    sed -n '/^# Measures/,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOWORK=off go -C "$root/hack/bench" build -o "$bin/bench" .
"$bin/bench" --root "$root" "$@"
