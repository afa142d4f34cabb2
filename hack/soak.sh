#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Runs a Fleet of 200 data planes on three API servers, half of them behind a cluster gateway, while
# credentials are renewed, API servers hang and are killed, and agents come and go:
#
#   ./hack/soak.sh       for an hour
#   ./hack/soak.sh 15m   for another Go duration; from 15m on, growth is a failure
#
# It prints heap, goroutines and sockets before each renewal. hack/test.sh integration runs it for 20 seconds with
# fewer data planes. Needs Go.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/integration"
export GOWORK=off

exec go test -count=1 -v -timeout=0 -run='^TestSoak$' . -soak.duration="${1:-1h}"
