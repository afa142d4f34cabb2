#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Fuzzes every target of the module, one after the other, each for the time given:
#
#   ./hack/fuzz.sh       5 minutes each
#   ./hack/fuzz.sh 30s   30 seconds each, or any other value of go test -fuzztime
#
# Go writes a failing input to the testdata folder of its package, where go test runs it from then on.
# helpers/internal/fuzz describes where new targets belong.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off

duration=${1:-5m}
targets=$(grep --extended-regexp --only-matching '^func Fuzz[A-Za-z0-9_]*' --recursive --include='*_test.go' helpers apis)
while IFS=: read -r file function; do
  # Without a limit, minimizing interesting inputs takes most of the time.
  go test "./$(dirname "$file")" -run='^$' -fuzz="^${function#func }\$" -fuzztime="$duration" -fuzzminimizetime=100x
done <<<"$targets"
