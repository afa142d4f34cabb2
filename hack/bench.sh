#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Measures the SDK beside what its users would take otherwise, in one run, on a real API
# server, and prints a table of ratios; progress goes to stderr:
#
#   ./hack/bench.sh --quick                  fewer rounds, and 3,000 DataPlanes at most
#   ./hack/bench.sh                          everything, with 30,000
#   ./hack/bench.sh --rows 'read|wait'       the rows that match
#   ./hack/bench.sh --list                   what rows there are, and what they compare
#   ./hack/bench.sh --docs                   everything, and writes hack/bench/results.json,
#                                            docs/bench.svg, docs/scale.md and the tables
#                                            of docs/benchmarks.md
#
# --json, --svg, --scale and --page write these to files of their own; --from takes the
# results of a file that --json has written, and measures nothing.
#
# Needs Go. The machine should have nothing else to do; the table says when it had, and
# --docs refuses it.

set -o errexit -o nounset -o pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

case ${1-} in
  -h | --help)
    sed -n '/^# Measures/,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

arguments=()
for argument; do
  if [[ $argument == --docs ]]; then
    mkdir -p "$root/docs"
    arguments+=(--json "$root/hack/bench/results.json" --svg "$root/docs/bench.svg" --scale "$root/docs/scale.md" --page "$root/docs/benchmarks.md")
  else
    arguments+=("$argument")
  fi
done

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOWORK=off go -C "$root/hack/bench" build -o "$bin/bench" .
"$bin/bench" --root "$root" ${arguments[@]+"${arguments[@]}"}
