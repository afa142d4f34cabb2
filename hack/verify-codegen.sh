#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Fails when what is generated is not what hack/update-codegen.sh makes: a file
# that differs, one that is missing, or one that is no longer generated. Works in
# a copy and never touches this tree.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# The files as they are here, committed or not; ignored ones are left out. Git copies them by
# an index and objects of their own.
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
  echo "Generated code is out of date (- is here, + is generated anew): run hack/update-codegen.sh" >&2
  exit 1
fi
echo "Generated code is current."
