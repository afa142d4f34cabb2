#!/usr/bin/env bash
# Copyright The OpenChoreo Authors.
# SPDX-License-Identifier: Apache-2.0

# Runs every check that this repository has, or those that are named, and ends with
# a summary of what ran and how long it took:
#
#   ./hack/test.sh                    everything
#   ./hack/test.sh unit integration   these parts
#   ./hack/test.sh --list             what parts there are
#
# Needs Go, git and bash, and builds everything else; only a C compiler, which the race
# detector takes on Linux, it has to find, or to install with apt-get when it runs as
# root. It fails when a part fails or did not run. All parts run, also after one that
# fails. A part that needs what is out of reach says "not checked", and fails nothing.

set -o errexit -o nounset -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export GOWORK=off
# Nested modules, which users never import; the root module is the SDK itself.
nested=(examples hack/bench hack/codegen hack/controlplane hack/integration hack/release hack/tools)

# Every part is a function of its name below.
parts=(format tidy vet lint codegen api vuln unit fuzz controlplane integration examples bench release compat)

readonly not_checked=77 # what a part returns then

part_format() { # gofmt changes nothing, and scripts parse
  local go_files scripts unformatted
  go_files=$(tracked '*.go')
  scripts=$(tracked '*.sh' .ci/run)
  unformatted=$(xargs "$(go env GOROOT)/bin/gofmt" -l <<<"$go_files")
  [[ -z $unformatted ]] || { echo "gofmt would change:" "$unformatted"; return 1; }
  xargs -n 1 bash -n <<<"$scripts"
}

# tracked PATTERN...: the files that git knows or would take; there must be some.
tracked() {
  local file files=()
  while IFS= read -r file; do
    if [[ -e $file ]]; then files+=("$file"); fi
  done < <(git ls-files --cached --others --exclude-standard -- "$@")
  ((${#files[@]})) || { echo "git knows no file like $*" >&2; return 1; }
  printf '%s\n' "${files[@]}"
}

part_tidy() { # go.mod and go.sum are what go mod tidy makes
  each_module . "${nested[@]}" hack/lint -- go mod tidy -diff
}

part_vet() { # go vet of every module
  each_module . "${nested[@]}" -- go vet ./...
}

part_lint() { # golangci-lint of every module, with one configuration
  # Built once, then kept in Go's build cache.
  each_module . "${nested[@]}" -- \
    go tool -modfile="$PWD/hack/lint/go.mod" golangci-lint run --allow-parallel-runners --config "$PWD/.golangci.yml" ./...
}

part_codegen() { # what is generated is current
  hack/verify-codegen.sh
}

part_api() { # the exported API and the CRD break nobody
  go -C hack/tools test ./...
  hack/verify-api.sh
}

part_vuln() { # no known vulnerability in what the SDK calls
  local output status=0
  output=$(go tool -modfile="$PWD/hack/tools/go.mod" govulncheck ./... 2>&1) || status=$?
  echo "$output"
  if [[ $output == *"fetching vulnerabilities: "* ]]; then
    echo "Not checked: the database of vulnerabilities is out of reach."
    return $not_checked
  fi
  return $status
}

part_unit() { # tests of the SDK without a cluster
  need_c_compiler
  go test -race -count=1 ./...
}

part_fuzz() { # a few seconds for every fuzz target; hack/fuzz.sh takes longer
  hack/fuzz.sh 10s
}

part_controlplane() { # tests of the harness that runs real control planes
  need_c_compiler
  go -C hack/controlplane test -race -count=1 -timeout=40m ./...
}

part_integration() { # tests of the SDK on a real API server
  need_c_compiler
  go -C hack/integration test -race -count=1 -timeout=40m ./...
}

part_examples() { # every example runs, on real control planes
  go -C examples test -count=1 -timeout=40m ./...
}

part_bench() { # the benchmarks' own tests; hack/bench.sh runs the benchmarks
  go -C hack/bench test -count=1 ./...
}

part_release() { # a module that gets the last commit by go get runs the README's program
  go -C hack/release test -count=1 -v ./...
}

part_compat() { # every client-go that a release supports
  need_c_compiler
  hack/verify-compat.sh
}

# each_module DIR... -- COMMAND...: runs it in each and fails if it failed in one.
each_module() {
  local dirs=() status=0
  while [[ $1 != -- ]]; do dirs+=("$1"); shift; done
  shift
  for dir in "${dirs[@]}"; do
    (cd "$dir" && "$@") || { echo "failed in $dir: $*"; status=1; }
  done
  return $status
}

# The race detector is linked with C on Linux. A machine without a compiler gets one
# where that takes no questions; elsewhere the part fails, and says what to do.
need_c_compiler() {
  [[ $(go env GOOS) == linux ]] || return 0
  local compiler
  read -r compiler _ <<<"$(go env CC)" # CC may have flags
  if command -v "$compiler" >/dev/null; then return 0; fi
  echo "The race detector needs a C compiler; there is no $compiler."
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing gcc with apt-get."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y gcc libc6-dev
    return
  fi
  echo "Install gcc or clang, or name one in CC." >&2
  return 1
}

case ${1-} in
  --list)
    for part in "${parts[@]}"; do
      printf '%-13s %s\n' "$part" "$(sed -n "s/^part_$part() { # //p" hack/test.sh)"
    done
    exit 0
    ;;
  -h | --help)
    sed -n '/^# Runs/,/^$/s/^# \{0,1\}//p' hack/test.sh
    exit 0
    ;;
esac

chosen=()
for part in "$@"; do
  declare -F "part_$part" >/dev/null || { echo "test.sh: no part $part; the parts are: ${parts[*]}" >&2; exit 2; }
  [[ " ${chosen[*]-} " == *" $part "* ]] || chosen+=("$part")
done
(($#)) || chosen=("${parts[@]}")

summary=()
status=0
started=$SECONDS
for part in "${chosen[@]}"; do
  printf '\n=== %s\n' "$part"
  before=$SECONDS
  # Neither in a condition nor with errexit out here: a failing line must end the part,
  # and a failing part must not end the run.
  set +o errexit
  (set -o errexit; "part_$part")
  result=$?
  set -o errexit
  case $result in
    0) result=passed ;;
    "$not_checked") result="not checked" ;;
    *) result=FAILED status=1 ;;
  esac
  summary+=("$(printf '%-13s %-11s %5d s' "$part" "$result" "$((SECONDS - before))")")
done

printf '\n=== summary\n'
printf '%s\n' "${summary[@]}"
printf '%-13s %-11s %5d s\n' "" total "$((SECONDS - started))"
((${#chosen[@]} == ${#parts[@]})) || echo "(only ${#chosen[@]} of ${#parts[@]} parts; the others were not asked for)"
exit $status
