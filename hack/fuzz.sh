#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Fuzzes every target of the module, one after the other, each for the time given:
#
#   ./hack/fuzz.sh       5 minutes each
#   ./hack/fuzz.sh 30s   as long as go test -fuzztime takes it
#
# What fails is kept in the testdata folder of its package, as a test from then on. New targets
# belong in helpers/internal/fuzz; see there.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off

duration=${1:-5m}
targets=$(grep --extended-regexp --only-matching '^func Fuzz[A-Za-z0-9_]*' --recursive --include='*_test.go' helpers apis)
while IFS=: read -r file function; do
  # Without a bound, minimizing what is merely interesting takes most of the time.
  go test "./$(dirname "$file")" -run='^$' -fuzz="^${function#func }\$" -fuzztime="$duration" -fuzzminimizetime=100x
done <<<"$targets"
