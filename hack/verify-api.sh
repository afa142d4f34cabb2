#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Fails when a change could break users unnoticed:
#
#   - the exported names of the module differ from hack/tools/api.txt;
#   - the CRD removes something, or rejects objects that hack/tools/stored.crd.yaml or the
#     last release's CRD accepts;
#   - a name of the API is incompatible with the last release, and no later section "### Breaking" of
#     CHANGELOG.md has the name, such as `remote.Cluster.Rotate`.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

module=github.com/openchoreo/dataplane-sdk-go
crds=apis/openchoreo/crds
export GOWORK=off

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
go -C hack/tools build -o "$tmp/" ./crdcompat ./exported golang.org/x/exp/cmd/apidiff

status=0
"$tmp/exported" >"$tmp/api.txt"
if ! diff -u hack/tools/api.txt "$tmp/api.txt"; then
  echo "The exported API differs from hack/tools/api.txt: run hack/update-api.sh and commit its diff." >&2
  status=1
fi
"$tmp/crdcompat" hack/tools/stored.crd.yaml $crds/openchoreo.dev_dataplanes.yaml || status=1

last=$(git tag --merged HEAD | grep --extended-regexp '^v[0-9]+\.[0-9]+\.[0-9]+$' | sort -V | tail -n 1) || true
if [[ -z $last ]]; then
  echo "There is no release to compare with."
  exit $status
fi
mkdir "$tmp/last"
git archive "$last" | tar -x -C "$tmp/last"
for crd in "$tmp/last/$crds"/*.yaml; do
  "$tmp/crdcompat" "$crd" "$crds/${crd##*/}" || status=1
done
(cd "$tmp/last" && "$tmp/apidiff" -m -w "$tmp/last.export" $module)
"$tmp/apidiff" -m -incompatible "$tmp/last.export" $module >"$tmp/changes"
if [[ -s $tmp/changes ]]; then
  echo "Incompatible with $last:"
  cat "$tmp/changes"
  breaking=$(awk -v last="## $last" '$0 == last { exit } /^###? / { found = /^### Breaking/ } found' CHANGELOG.md)
  while read -r _ change; do
    name=${change%%[:,] *} # such as ./helpers/remote.(*Cluster).Rotate, or a package
    name=${name##*/} name=${name//[(*)]/} name=${name/\[*\]/}
    grep --quiet --fixed-strings -- "\`$name\`" <<<"$breaking" ||
      { echo "Name \`$name\` in a section \"### Breaking\" of CHANGELOG.md, or undo the change." >&2; status=1; }
  done <"$tmp/changes"
fi
exit $status
