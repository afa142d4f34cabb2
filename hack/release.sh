#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Tags the last commit as a release:
#
#   ./hack/release.sh v0.1.0             runs all checks, then writes the tag; doesn't push it
#   ./hack/release.sh v0.1.0 --dry-run   runs all checks
#
# The version must be later than the last release, and the topmost in CHANGELOG.md. The last commit
# must be origin's main, without uncommitted changes. README.md must name the client-go and Go of
# go.mod, and, except in a dry run, not say that there is no release yet. .ci/run must pass, with no
# part "not checked". CONTRIBUTING.md describes how to prepare a release.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export GOWORK=off

version=${1-}
dry_run=${2-}
if [[ ! $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+$ || ($# -gt 1 && $dry_run != --dry-run) || $# -gt 2 ]]; then
  echo "usage: hack/release.sh vX.Y.Z [--dry-run]" >&2
  exit 2
fi

status=0
problem() { echo "release.sh: $*" >&2; status=1; }

commit=$(git rev-parse HEAD)
[[ -z $(git status --porcelain) ]] || problem "there are uncommitted changes"

git fetch --quiet --tags origin main || problem "can't fetch main and the tags of origin"
[[ $(git rev-parse --quiet --verify FETCH_HEAD) == "$commit" ]] || problem "the last commit isn't origin's main"

last=$(git tag --list | grep --extended-regexp '^v[0-9]+\.[0-9]+\.[0-9]+$' | sort -V | tail -n 1) || true
[[ -z $last || ($version != "$last" && $(printf '%s\n' "$last" "$version" | sort -V | tail -n 1) == "$version") ]] ||
  problem "$version is not later than the last release, $last"

heading=$(grep --max-count=1 '^## ' CHANGELOG.md) || heading="no heading"
[[ $heading == "## $version" ]] || problem "CHANGELOG.md begins with \"$heading\", not \"## $version\""
changes=$(awk '/^## / { headings++ } headings == 1' CHANGELOG.md)
if [[ $changes == *"### Breaking"* && $version != v0.*.0 && $version != v1.0.0 ]]; then
  problem "CHANGELOG.md has breaking changes, which $version can't have by Semantic Versioning"
fi
[[ $version == v[01].* ]] || problem "$version would need another module path, with /${version%%.*} at its end"

go_version=$(go list -m -f '{{.GoVersion}}')
go_version=${go_version%.*} # 1.24.0
client_go=$(go list -m -f '{{.Version}}' k8s.io/client-go)
grep --quiet "^| $client_go |" README.md || problem "README.md has no row of client-go $client_go, which go.mod requires"
grep --quiet --extended-regexp "requires .*Go $go_version([^0-9]|\$)" README.md ||
  problem "README.md doesn't say that the SDK requires Go $go_version"
if grep --quiet "there is no release yet" README.md; then
  remove="README.md says \"there is no release yet\": remove this, and @main before it"
  if [[ -n $dry_run ]]; then echo "release.sh: note: $remove" >&2; else problem "$remove"; fi
fi

((status == 0)) || exit $status
log=$(mktemp)
trap 'rm -f "$log"' EXIT
.ci/run | tee "$log"
unchecked=$(awk '/^=== summary/ { summary = 1 } summary && / not checked / { print $1 }' "$log")
# Only the commit that was checked is tagged.
[[ $(git rev-parse HEAD) == "$commit" && -z $(git status --porcelain) ]] || { problem "files or the commit changed during the checks"; exit 1; }

if [[ -n $dry_run ]]; then
  echo "Ready to be tagged as $version${unchecked:+, once this is checked too: $unchecked}."
elif [[ -n $unchecked ]]; then
  problem "not checked, so not tagged: $unchecked"
  exit 1
else
  git tag --annotate --message "$version" "$version" "$commit"
  echo "Tagged as $version. Publish it with: git push origin $version"
fi
