#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Writes hack/tools/api.txt, the list of all exported names of the module. Its diff shows a reviewer
# which names a change adds, changes or removes.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
go -C hack/tools build -o "$tmp/" ./exported
"$tmp/exported" >"$tmp/api.txt"
cp "$tmp/api.txt" hack/tools/api.txt
