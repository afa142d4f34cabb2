#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Fails when generated code differs from the output of hack/update-codegen.sh: a file differs, is
# missing, or is no longer generated. Works in a copy and never changes this tree.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Copies the files of this tree, committed or not, without ignored files. A separate index and object
# store leave the repository unchanged.
mkdir "$tmp/objects"
(
  export GIT_INDEX_FILE=$tmp/index GIT_OBJECT_DIRECTORY=$tmp/objects
  git add --all
  git checkout-index --all --prefix="$tmp/here/"
)
cp -Rp "$tmp/here" "$tmp/anew"

"$tmp/anew/hack/update-codegen.sh"

cd "$tmp"
if ! git --no-pager diff --no-index --no-ext-diff --stat --patch here anew; then
  echo >&2
  echo "Generated code is out of date (- here, + newly generated): run hack/update-codegen.sh" >&2
  exit 1
fi
echo "Generated code is current."
